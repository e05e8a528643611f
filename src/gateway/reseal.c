/*
 * reseal.c: eduai.reseal_secrets(), after the master key was rotated.
 *
 * What is sealed under the current key already is left alone.  The fleet's
 * lock keeps add_provider() out until the end of the transaction.  The keys
 * themselves do not change, so nobody loads the fleet again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/plan.h"
#include "core/privilege.h"
#include "core/seal.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "gateway/admin.h"
#include "gateway/keyref.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eduai_reseal_secrets);

typedef struct Secret
{
	char *provider;
	char *base_url;
	bytea *sealed;
} Secret;

static Secret *
read_secrets(uint64 *n)
{
	static EduaiPlan all = {"SELECT s.provider, p.base_url, s.sealed FROM eduai.provider_secret s "
							"JOIN eduai.provider p ON p.name = s.provider ORDER BY s.provider",
							0,
							{0}};
	Secret *secrets;
	bool isnull;

	*n = eduai_core_run_latest(&all, NULL, NULL);
	secrets = palloc(sizeof(Secret) * Max(*n, 1));
	for (uint64 i = 0; i < *n; i++)
	{
		secrets[i].provider = eduai_core_text(i, 1);
		secrets[i].base_url = eduai_core_text(i, 2);
		secrets[i].sealed = DatumGetByteaPCopy(eduai_core_value(i, 3, &isnull));
	}
	return secrets;
}

static void
reseal(const Secret *secret)
{
	static EduaiPlan update = {
		"UPDATE eduai.provider_secret SET sealed = $2 WHERE provider = $1", 2, {TEXTOID, BYTEAOID}};
	char *context = eduai_gateway_keyref_context(secret->provider, secret->base_url);
	char *error;
	size_t length;
	char *key = eduai_core_unseal(secret->sealed, context, &length, &error);
	Datum args[2];

	if (key == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the key of provider \"%s\" could not be opened", secret->provider),
						errdetail("The reason: %s.", error),
						errhint("Put its master key into the file again, or give the provider's "
								"key anew with eduai.add_provider().")));
	args[0] = CStringGetTextDatum(secret->provider);
	args[1] = PointerGetDatum(eduai_core_seal(key, length, context));
	eduai_core_seal_wipe(key);
	(void) eduai_core_run_latest(&update, args, NULL);
}

Datum
eduai_reseal_secrets(PG_FUNCTION_ARGS)
{
	EduaiPrivilege saved;
	Secret *secrets;
	char *fault = eduai_core_seal_fault();
	int resealed = 0;
	uint64 n;

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("there is no usable master key to seal with"),
						errdetail("The reason: %s.", fault),
						errhint("A superuser sets eduai.master_key_file.")));
	eduai_core_enter(&saved);
	SPI_connect();
	eduai_gateway_lock_fleet();
	secrets = read_secrets(&n);
	for (uint64 i = 0; i < n; i++)
		if (!eduai_core_seal_is_current(secrets[i].sealed))
		{
			reseal(&secrets[i]);
			resealed++;
		}
	SPI_finish();
	eduai_core_leave(&saved);
	PG_RETURN_INT32(resealed);
}
