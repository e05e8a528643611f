/*
 * keyref.c: checking and resolving the references to keys; see keyref.h.
 *
 * Messages of checks do not repeat the argument even where it is a reference:
 * a key may have been pasted after "env:".
 */
#include "postgres.h"

#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "core/seal.h"
#include "gateway/keyref.h"
#include "miscadmin.h"
#include "utils/acl.h"

#define MAX_KEY_BYTES 8192

static bool
is_env(const char *ref)
{
	return strncmp(ref, "env:", 4) == 0;
}

static bool
is_file(const char *ref)
{
	return strncmp(ref, "file:", 5) == 0;
}

/* What a header can carry: visible ASCII. */
static bool
is_header_value(const char *key)
{
	for (const unsigned char *p = (const unsigned char *) key; *p; p++)
		if (*p <= 0x20 || *p >= 0x7F)
			return false;
	return *key != '\0';
}

static bool
ends_with(const char *text, const char *suffix)
{
	size_t length = strlen(text);
	size_t tail = strlen(suffix);

	return length > tail && strcmp(text + length - tail, suffix) == 0;
}

/*
 * The server's environment holds more than keys of model providers.  Names
 * that say what they are for may be used by any administrator of eduai.
 */
static bool
is_key_name(const char *name)
{
	return strncmp(name, "EDUAI_", 6) == 0 || ends_with(name, "_API_KEY") ||
		   ends_with(name, "_API_TOKEN") || strcmp(name, "HF_TOKEN") == 0;
}

static bool
may_read_server_files(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES);
}

static void
check_env(const char *name)
{
	if (!isalpha((unsigned char) *name) && *name != '_')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid name of an environment variable after \"env:\"")));
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char) *p) && *p != '_')
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("invalid name of an environment variable after \"env:\"")));
	if (!is_key_name(name) && !may_read_server_files())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to use that environment variable as a key"),
				 errhint("Without the privileges of pg_read_server_files the name must begin with "
						 "EDUAI_ or end with _API_KEY or _API_TOKEN.")));
}

static void
check_file(const char *path)
{
	if (!is_absolute_path(path))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the path after \"file:\" must be absolute")));
	if (!may_read_server_files())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to use a key file"),
						errhint("Only roles with privileges of pg_read_server_files may refer to "
								"files.")));
}

const char *
eduai_gateway_keyref_check(const char *api_key)
{
	if (strlen(api_key) > MAX_KEY_BYTES)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the API key is longer than %d bytes", MAX_KEY_BYTES)));
	if (is_env(api_key))
	{
		check_env(api_key + 4);
		return api_key;
	}
	if (is_file(api_key))
	{
		check_file(api_key + 5);
		return api_key;
	}
	if (!is_header_value(api_key))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the API key is empty or has characters that cannot be sent"),
				 errhint("A key consists of visible ASCII characters, without spaces or line "
						 "breaks; NULL means no key.")));
	return "literal";
}

/* Trims in place. */
static char *
trim(char *text)
{
	size_t length;

	text[strcspn(text, "\r\n")] = '\0';
	while (*text == ' ' || *text == '\t')
		text++;
	length = strlen(text);
	while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t'))
		text[--length] = '\0';
	return text;
}

static char *
checked(char *key, const char *from, char **error)
{
	key = trim(key);
	if (*key == '\0')
		*error = psprintf("%s is empty", from);
	else if (!is_header_value(key))
		*error = psprintf("%s has characters that cannot be sent", from);
	else
		return key;
	return NULL;
}

/*
 * Opened without blocking, so that a FIFO in the file's place cannot stop the
 * dispatcher, and only a regular file is read.
 */
static char *
read_file(const char *path, char **error)
{
	char buffer[MAX_KEY_BYTES + 1];
	struct stat status;
	ssize_t length = -1;
	const char *reason = NULL;
	char *key = NULL;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	if (fd < 0 || fstat(fd, &status) != 0)
		reason = strerror(errno);
	else if (!S_ISREG(status.st_mode))
		reason = "it is not a regular file";
	else if ((length = read(fd, buffer, sizeof(buffer))) < 0)
		reason = strerror(errno);
	if (fd >= 0)
		close(fd);
	if (reason != NULL)
		*error = psprintf("could not read key file \"%s\": %s", path, reason);
	else if (length > MAX_KEY_BYTES)
		*error = psprintf("key file \"%s\" is longer than %d bytes", path, MAX_KEY_BYTES);
	else
	{
		buffer[length] = '\0';
		key = checked(pstrdup(buffer), psprintf("the first line of key file \"%s\"", path), error);
	}
	explicit_bzero(buffer, sizeof(buffer));
	return key;
}

/* ---- literals ---- */

char *
eduai_gateway_keyref_context(const char *provider, const char *base_url)
{
	return psprintf("eduai provider %s %s", provider, base_url);
}

bytea *
eduai_gateway_keyref_seal(const char *api_key, const char *provider, const char *base_url)
{
	char *fault = eduai_core_seal_fault();

	if (fault != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a literal key cannot be stored without a master key to seal it with"),
				 errdetail("The reason: %s.", fault),
				 errhint("Give the key as env:NAME or file:PATH, or let a superuser set "
						 "eduai.master_key_file.")));
	return eduai_core_seal(api_key, strlen(api_key),
						   eduai_gateway_keyref_context(provider, base_url));
}

static char *
open_literal(const bytea *sealed, const char *context, char **error)
{
	char *fault;
	char *key;

	if (sealed == NULL)
	{
		*error = pstrdup("the key is not in this database: dumps do not carry keys; "
						 "give it again with add_provider()");
		return NULL;
	}
	key = eduai_core_unseal(sealed, context, NULL, &fault);
	if (key == NULL)
		*error = psprintf("the sealed key could not be opened: %s", fault);
	return key;
}

/* ---- resolving ---- */

bool
eduai_gateway_keyref_is_file(const char *key_ref)
{
	return key_ref != NULL && is_file(key_ref);
}

char *
eduai_gateway_keyref_resolve(const char *key_ref, const bytea *sealed, const char *context,
							 char **error)
{
	*error = NULL;
	if (key_ref == NULL)
		return NULL;
	if (is_env(key_ref))
	{
		const char *value = getenv(key_ref + 4);

		if (value == NULL)
		{
			*error = psprintf("environment variable \"%s\" is not set in the server", key_ref + 4);
			return NULL;
		}
		return checked(pstrdup(value), psprintf("environment variable \"%s\"", key_ref + 4), error);
	}
	if (is_file(key_ref))
		return read_file(key_ref + 5, error);
	return open_literal(sealed, context, error);
}
