/*
 * baseurl.h: the base URLs of providers.
 */
#ifndef EDUAI_GATEWAY_BASEURL_H
#define EDUAI_GATEWAY_BASEURL_H

#include "postgres.h"

typedef struct BaseUrlRules
{
	bool allow_loopback;
	bool allow_private;
	bool with_key; /* requests will carry a key */
} BaseUrlRules;

/*
 * Checks a base URL with libcurl's own parser, so that what is checked is what
 * will be used, and returns its normal form without a trailing slash.  Raises
 * 22023; messages show no user, password, query or fragment.  Plain http to
 * what is not known to be near raises with a key and warns without one.
 */
extern char *eduai_gateway_baseurl_check(const char *base_url, const BaseUrlRules *rules);

#endif
