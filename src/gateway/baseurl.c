/*
 * baseurl.c: checking the base URLs of providers; see baseurl.h.
 *
 * The parts are copied out of libcurl's memory before anything is raised.
 * A name may resolve to anything at any time: what it resolves to is checked
 * again, at every connection, by the transfers.
 */
#include "postgres.h"

#include <curl/curl.h>

#include "gateway/address.h"
#include "gateway/baseurl.h"

#define MAX_URL_BYTES 2048

typedef struct UrlParts
{
	char *scheme;
	char *user;
	char *password;
	char *host;
	char *port;
	char *path;
	char *query;
	char *fragment;
} UrlParts;

static char *
part(CURLU *url, CURLUPart which)
{
	char *value = NULL;
	char *copy = NULL;

	if (curl_url_get(url, which, &value, 0) == CURLUE_OK && value != NULL)
		copy = MemoryContextStrdup(CurrentMemoryContext, value);
	curl_free(value);
	return copy;
}

/* The words of the commonest faults do not change with libcurl's version. */
static const char *
fault(CURLUcode rc)
{
	switch (rc)
	{
		case CURLUE_OK:
			return NULL;
		case CURLUE_BAD_SCHEME:
			return "It does not begin with a scheme";
		case CURLUE_NO_HOST:
			return "It has no host";
		case CURLUE_BAD_PORT_NUMBER:
			return "Its port is not a number up to 65535";
		default:
			return curl_url_strerror(rc);
	}
}

static const char *
parse(const char *text, UrlParts *parts)
{
	CURLU *url = curl_url();
	CURLUcode rc;

	if (url == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	rc = curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME);
	if (rc == CURLUE_OK)
	{
		parts->scheme = part(url, CURLUPART_SCHEME);
		parts->user = part(url, CURLUPART_USER);
		parts->password = part(url, CURLUPART_PASSWORD);
		parts->host = part(url, CURLUPART_HOST);
		parts->port = part(url, CURLUPART_PORT);
		parts->path = part(url, CURLUPART_PATH);
		parts->query = part(url, CURLUPART_QUERY);
		parts->fragment = part(url, CURLUPART_FRAGMENT);
	}
	curl_url_cleanup(url);
	return fault(rc);
}

/* What may be repeated of a URL that could not even be parsed. */
static char *
shown(const char *text)
{
	char *copy = pnstrdup(text, strcspn(text, "?#"));
	char *at = strrchr(copy, '@');
	char *host = strstr(copy, "://");

	if (at == NULL)
		return copy;
	if (host == NULL || host > at)
		return psprintf("***%s", at);
	return psprintf("%.*s***%s", (int) (host + 3 - copy), copy, at);
}

static void
check_characters(const char *text)
{
	if (*text == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the base URL is empty"),
						errhint("A base URL looks like https://api.example.com/v1.")));
	for (const unsigned char *p = (const unsigned char *) text; *p; p++)
		if (*p <= 0x20 || *p == 0x7F || *p == '\\')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the base URL has a space, a backslash or a control character")));
	if (strlen(text) > MAX_URL_BYTES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the base URL is longer than %d bytes", MAX_URL_BYTES)));
}

static void
check_parts(const char *text, const UrlParts *parts)
{
	if (strcmp(parts->scheme, "http") != 0 && strcmp(parts->scheme, "https") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a base URL cannot have the scheme \"%s\"", parts->scheme),
						errhint("Use https or http.")));
	/* libcurl forgives "https:///v1", whose host it takes to be "v1" */
	if (parts->host == NULL || *parts->host == '\0' || strstr(text, ":///") != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("base URL \"%s\" has no host", shown(text))));
	if (parts->user != NULL || parts->password != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a base URL cannot hold a user or a password (host \"%s\")", parts->host),
				 errhint("Give the key in the argument api_key.")));
	if (parts->query != NULL || parts->fragment != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a base URL cannot hold a query or a fragment (host \"%s\")",
							   parts->host)));
}

static bool
is_local_name(const char *host)
{
	size_t length = strlen(host);

	if (length > 0 && host[length - 1] == '.')
		length--;
	return (length == 9 && pg_strncasecmp(host, "localhost", 9) == 0) ||
		   (length > 10 && pg_strncasecmp(host + length - 10, ".localhost", 10) == 0);
}

static bool
host_class(const char *host, AddressClass *class)
{
	if (is_local_name(host))
	{
		*class = ADDRESS_LOOPBACK;
		return true;
	}
	return eduai_gateway_address_parse(host, class);
}

static void
check_address(const char *host, AddressClass class, const BaseUrlRules *rules)
{
	if (eduai_gateway_address_allowed(class, rules->allow_loopback, rules->allow_private))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("host \"%s\" is a %s address", host, eduai_gateway_address_class_name(class)),
			 class == ADDRESS_FORBIDDEN
				 ? errhint("Link-local, multicast and reserved addresses are never used.")
				 : errhint("If the provider really is there, set its option \"%s\" to true.",
						   class == ADDRESS_LOOPBACK ? "allow_loopback" : "allow_private")));
}

static void
check_clear_text(const UrlParts *parts, bool near, const BaseUrlRules *rules)
{
	if (near || strcmp(parts->scheme, "https") == 0)
		return;
	if (rules->with_key)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("plain http would send the key to host \"%s\" in clear text", parts->host),
				 errhint("Use https; or, for a host in your own network, set the option "
						 "\"allow_private\" or \"allow_loopback\" to true.")));
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("plain http sends everything to host \"%s\" in clear text", parts->host)));
}

char *
eduai_gateway_baseurl_check(const char *base_url, const BaseUrlRules *rules)
{
	UrlParts parts = {0};
	AddressClass class = ADDRESS_PUBLIC;
	bool literal;
	const char *error;
	size_t length;

	check_characters(base_url);
	error = parse(base_url, &parts);
	if (error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid base URL: \"%s\"", shown(base_url)), errdetail("%s.", error),
				 errhint("A base URL looks like https://api.example.com/v1.")));
	check_parts(base_url, &parts);

	literal = host_class(parts.host, &class);
	if (literal)
		check_address(parts.host, class, rules);
	check_clear_text(
		&parts, literal ? class != ADDRESS_PUBLIC : rules->allow_loopback || rules->allow_private,
		rules);

	length = parts.path == NULL ? 0 : strlen(parts.path);
	while (length > 0 && parts.path[length - 1] == '/')
		length--;
	return psprintf("%s://%s%s%s%.*s", parts.scheme, parts.host, parts.port ? ":" : "",
					parts.port ? parts.port : "", (int) length, parts.path ? parts.path : "");
}
