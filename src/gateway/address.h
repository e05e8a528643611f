/*
 * address.h: which network addresses a provider may be reached at.
 *
 * HTTP from inside a database must not become a way into the network around
 * it.  Addresses fall into four classes: public ones are always reachable,
 * loopback and private ones only where the provider opts in, and some never:
 * link-local (cloud metadata services live there), multicast, unspecified,
 * reserved.  IPv6 forms that embed an IPv4 address are judged by that one.
 */
#ifndef EDUAI_GATEWAY_ADDRESS_H
#define EDUAI_GATEWAY_ADDRESS_H

#include "postgres.h"
#include <sys/socket.h>

typedef enum AddressClass
{
	ADDRESS_PUBLIC,
	ADDRESS_LOOPBACK,
	ADDRESS_PRIVATE,
	ADDRESS_FORBIDDEN
} AddressClass;

/* Any family but IPv4 and IPv6 is ADDRESS_FORBIDDEN.  Allocates nothing. */
extern AddressClass eduai_gateway_address_class(const struct sockaddr *address);

/* The same of a literal ("10.0.0.1", "::1", "[::1]", "fe80::1%eth0"); false when it is none. */
extern bool eduai_gateway_address_parse(const char *literal, AddressClass *class);

/* May a provider with these options connect there? */
extern bool
eduai_gateway_address_allowed(AddressClass class, bool allow_loopback, bool allow_private);

extern const char *eduai_gateway_address_class_name(AddressClass class);

#endif
