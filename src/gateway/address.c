/*
 * address.c: the classes of network addresses; see address.h.
 *
 * Called from libcurl's callbacks: nothing here allocates or raises.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "gateway/address.h"
#include "port/pg_bswap.h"

typedef struct Range4
{
	uint32 network;
	int bits;
	AddressClass class;
} Range4;

typedef struct Range6
{
	uint8 network[16];
	int bits;
	AddressClass class;
} Range6;

/* IANA's special-purpose registry; the first match decides. */
static const Range4 ranges4[] = {
	{0x00000000, 8, ADDRESS_FORBIDDEN}, /* "this network": Linux connects it to itself */
	{0x0A000000, 8, ADDRESS_PRIVATE},
	{0x646464C8, 32, ADDRESS_FORBIDDEN}, /* 100.100.100.200: Alibaba's metadata */
	{0x64400000, 10, ADDRESS_PRIVATE},   /* carrier-grade NAT */
	{0x7F000000, 8, ADDRESS_LOOPBACK},
	{0xA83F8110, 32, ADDRESS_FORBIDDEN}, /* 168.63.129.16: Azure's metadata */
	{0xA9FE0000, 16, ADDRESS_FORBIDDEN}, /* link-local, 169.254.169.254 among it */
	{0xAC100000, 12, ADDRESS_PRIVATE},
	{0xC0000000, 24, ADDRESS_FORBIDDEN}, /* IETF protocol assignments */
	{0xC0000200, 24, ADDRESS_FORBIDDEN}, /* documentation */
	{0xC0586300, 24, ADDRESS_FORBIDDEN}, /* 6to4 relays */
	{0xC0A80000, 16, ADDRESS_PRIVATE},
	{0xC6120000, 15, ADDRESS_PRIVATE},   /* benchmarking */
	{0xC6336400, 24, ADDRESS_FORBIDDEN}, /* documentation */
	{0xCB007100, 24, ADDRESS_FORBIDDEN}, /* documentation */
	{0xE0000000, 4, ADDRESS_FORBIDDEN},  /* multicast */
	{0xF0000000, 4, ADDRESS_FORBIDDEN},  /* reserved, broadcast */
};

static const Range6 ranges6[] = {
	{{0x00, 0x64, 0xFF, 0x9B, 0x00, 0x01}, 48, ADDRESS_FORBIDDEN}, /* local-use NAT64 */
	{{0x01, 0x00}, 32, ADDRESS_FORBIDDEN},                         /* discard, dummy */
	{{0x20, 0x01, 0x00, 0x00}, 23, ADDRESS_FORBIDDEN},             /* IETF's; Teredo among them */
	{{0x20, 0x01, 0x0D, 0xB8}, 32, ADDRESS_FORBIDDEN},             /* documentation */
	{{0x3F, 0xFF}, 20, ADDRESS_FORBIDDEN},                         /* documentation */
	{{0x5F, 0x00}, 16, ADDRESS_FORBIDDEN},                         /* segment routing */
	/* metadata of clouds: Amazon's services (fd00:ec2::254), Oracle's, Google's */
	{{0xFD, 0x00, 0x0E, 0xC2}, 32, ADDRESS_FORBIDDEN},
	{{0xFD, 0x00, 0x00, 0xC1}, 32, ADDRESS_FORBIDDEN},
	{{0xFD, 0x20, 0x00, 0xCE}, 32, ADDRESS_FORBIDDEN},
	{{0xFC}, 7, ADDRESS_PRIVATE},
	{{0xFE, 0x80}, 10, ADDRESS_FORBIDDEN}, /* link-local */
	{{0xFE, 0xC0}, 10, ADDRESS_FORBIDDEN}, /* site-local */
	{{0xFF}, 8, ADDRESS_FORBIDDEN},        /* multicast */
};

/* Where an IPv6 address carries an IPv4 one. */
typedef struct Embedding
{
	uint8 prefix[12];
	int bits;
	int offset;
} Embedding;

static const Embedding embeddings[] = {
	{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}, 96, 12}, /* mapped */
	{{0}, 96, 12},                                        /* compatible; :: and ::1 come before */
	{{0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}, 96, 12},       /* translated */
	{{0x00, 0x64, 0xFF, 0x9B}, 96, 12},                   /* NAT64 */
	{{0x20, 0x02}, 16, 2},                                /* 6to4 */
};

static AddressClass
class_of_v4(uint32 address)
{
	for (size_t i = 0; i < lengthof(ranges4); i++)
		if ((address ^ ranges4[i].network) >> (32 - ranges4[i].bits) == 0)
			return ranges4[i].class;
	return ADDRESS_PUBLIC;
}

static bool
prefix_matches(const uint8 *address, const uint8 *prefix, int bits)
{
	int bytes = bits / 8;
	int rest = bits % 8;

	if (memcmp(address, prefix, bytes) != 0)
		return false;
	return rest == 0 || (address[bytes] ^ prefix[bytes]) >> (8 - rest) == 0;
}

static AddressClass
class_of_v6(const uint8 *address)
{
	static const uint8 loopback[16] = {[15] = 1};
	static const uint8 unspecified[16] = {0};

	if (memcmp(address, loopback, 16) == 0)
		return ADDRESS_LOOPBACK;
	if (memcmp(address, unspecified, 16) == 0)
		return ADDRESS_FORBIDDEN;

	for (size_t i = 0; i < lengthof(embeddings); i++)
	{
		uint32 v4;

		if (!prefix_matches(address, embeddings[i].prefix, embeddings[i].bits))
			continue;
		memcpy(&v4, address + embeddings[i].offset, sizeof(v4));
		return class_of_v4(pg_ntoh32(v4));
	}

	for (size_t i = 0; i < lengthof(ranges6); i++)
		if (prefix_matches(address, ranges6[i].network, ranges6[i].bits))
			return ranges6[i].class;
	return ADDRESS_PUBLIC;
}

AddressClass
eduai_gateway_address_class(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
	{
		struct sockaddr_in v4;

		memcpy(&v4, address, sizeof(v4));
		return class_of_v4(pg_ntoh32(v4.sin_addr.s_addr));
	}
	if (address->sa_family == AF_INET6)
	{
		struct sockaddr_in6 v6;

		memcpy(&v6, address, sizeof(v6));
		return class_of_v6(v6.sin6_addr.s6_addr);
	}
	return ADDRESS_FORBIDDEN;
}

bool
eduai_gateway_address_parse(const char *literal, AddressClass *class)
{
	char buffer[INET6_ADDRSTRLEN + 1];
	struct in_addr v4;
	struct in6_addr v6;
	size_t length;

	if (inet_pton(AF_INET, literal, &v4) == 1)
	{
		*class = class_of_v4(pg_ntoh32(v4.s_addr));
		return true;
	}

	if (*literal == '[')
		literal++;
	length = strcspn(literal, "]%");
	if (length >= sizeof(buffer))
		return false;
	memcpy(buffer, literal, length);
	buffer[length] = '\0';
	if (inet_pton(AF_INET6, buffer, &v6) != 1)
		return false;
	*class = class_of_v6(v6.s6_addr);
	return true;
}

bool
eduai_gateway_address_allowed(AddressClass class, bool allow_loopback, bool allow_private)
{
	switch (class)
	{
		case ADDRESS_PUBLIC:
			return true;
		case ADDRESS_LOOPBACK:
			return allow_loopback;
		case ADDRESS_PRIVATE:
			return allow_private;
		case ADDRESS_FORBIDDEN:
			break;
	}
	return false;
}

const char *
eduai_gateway_address_class_name(AddressClass class)
{
	switch (class)
	{
		case ADDRESS_PUBLIC:
			return "public";
		case ADDRESS_LOOPBACK:
			return "loopback";
		case ADDRESS_PRIVATE:
			return "private";
		case ADDRESS_FORBIDDEN:
			break;
	}
	return "forbidden";
}
