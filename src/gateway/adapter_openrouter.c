/*
 * adapter_openrouter.c: OpenAI's shape, with OpenRouter's own additions.
 *
 * payload.models, payload.provider and the like are passed on as they are.
 * HTTP-Referer and X-Title are options.headers of the provider.  The answer's
 * usage.cost is what was paid and wins over the instance's prices; errors may
 * come under status 200.  Pictures are asked for at /images, and sound is
 * sent as base64 in JSON.  All of that is in openai_read.c and classify.c.
 */
#include "postgres.h"

#include "gateway/wire.h"

char *
eduai_gateway_openrouter_url(const char *base_url, const char *path)
{
	const char *host = strstr(base_url, "://");
	bool has_path = host != NULL && strchr(host + 3, '/') != NULL;

	return psprintf("%s%s%s", base_url, has_path ? "" : "/api/v1", path);
}

static bool
build(const GatewayCall *call, WireRequest *request, CallOutcome *outcome)
{
	const Provider *provider = call->instance->provider;

	eduai_gateway_add_bearer(request, provider);
	if (strcmp(call->task_type, "embeddings") == 0)
		return eduai_gateway_openai_embeddings(
			call, eduai_gateway_openrouter_url(provider->base_url, "/embeddings"), request,
			outcome);
	if (strcmp(call->task_type, "image_generation") == 0)
		return eduai_gateway_openai_images(
			call, eduai_gateway_openrouter_url(provider->base_url, "/images"), request, outcome);
	if (strcmp(call->task_type, "transcription") == 0)
		return eduai_gateway_openrouter_transcription(
			call, eduai_gateway_openrouter_url(provider->base_url, "/audio/transcriptions"),
			request, outcome);
	return eduai_gateway_openai_chat(
		call, eduai_gateway_openrouter_url(provider->base_url, "/chat/completions"), "max_tokens",
		request, outcome);
}

const Adapter eduai_gateway_openrouter_adapter = {
	.kind = "openrouter",
	.build = build,
	.read = eduai_gateway_openai_read,
	.health_path = "/key", /* what the key may; the list of models is large, and public */
};
