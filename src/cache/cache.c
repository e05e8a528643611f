/*
 * cache.c: starts the room's parts in their order.
 */
#include "postgres.h"

#include "cache/advice.h"
#include "cache/cache.h"
#include "cache/kind.h"
#include "cache/personal.h"
#include "cache/query.h"
#include "cache/statistics.h"
#include "cache/store.h"
#include "cache/validity.h"
#include "cache/value.h"

void
eduai_cache_init(void)
{
	eduai_cache_store_init();
	eduai_cache_kind_init();
	eduai_cache_statistics_init();
	eduai_cache_advice_init();
	eduai_cache_validity_init();
	eduai_cache_delete_init();
	eduai_cache_get_init();
	eduai_cache_query_init();
	eduai_cache_personal_init();
}
