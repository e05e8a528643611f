/*
 * adapter_health.c: health checks as the adapters see them: a GET that costs
 * nothing, with the provider's key, of what its API lists for free.
 */
#include "postgres.h"

#include "gateway/wire.h"

/* A base URL may have the version that the path begins with. */
static char *
joined(const char *base_url, const char *path)
{
	size_t length = strlen(base_url);

	if (length > 3 && strcmp(base_url + length - 3, "/v1") == 0 && strncmp(path, "/v1/", 4) == 0)
		length -= 3;
	return psprintf("%.*s%s", (int) length, base_url, path);
}

void
eduai_gateway_health_request(const GatewayCall *call, const Adapter *adapter, WireRequest *request)
{
	const Provider *provider = call->instance->provider;

	if (adapter == &eduai_gateway_anthropic_adapter)
		eduai_gateway_anthropic_headers(provider, request);
	else
		eduai_gateway_add_bearer(request, provider);
	request->url = adapter == &eduai_gateway_openrouter_adapter
					   ? eduai_gateway_openrouter_url(provider->base_url, adapter->health_path)
					   : joined(provider->base_url, adapter->health_path);
}

/* The status says it; what the body lists is of no interest. */
void
eduai_gateway_health_read(const WireResponse *response, int64 now_unix, CallOutcome *outcome)
{
	if (response->http_status >= 200 && response->http_status <= 299)
	{
		outcome->verdict = CALL_COMPLETED;
		outcome->code = "ok";
		return;
	}
	eduai_gateway_classify(response, NULL, now_unix, outcome);
}
