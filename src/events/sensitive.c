/*
 * sensitive.c: sensitive fields of events; see sensitive.h.
 */
#include "postgres.h"

#include "core/json.h"
#include "core/personal.h"
#include "events/event_type_cache.h"
#include "events/sensitive.h"
#include "utils/inval.h"

/* What becomes of a sensitive field. */
typedef Jsonb *(*FieldChange)(void *arg, const char *field, const JsonbValue *value);

typedef struct Sealing
{
	const char *tenant;
	const EduaiEvent *event;
	char *subject;
} Sealing;

/* Copies of the names: what the change runs may load the cache again. */
static char **
sensitive_fields(const char *event_type, int *n)
{
	const EventType *type = eduai_events_type_find(event_type, strlen(event_type));
	char **fields;

	*n = type ? type->nsensitive : 0;
	if (*n == 0)
		return NULL;
	fields = palloc(sizeof(char *) * *n);
	for (int i = 0; i < *n; i++)
		fields[i] = pstrdup(type->sensitive[i]);
	return fields;
}

static const char *
find_name(char *const *fields, int n, const JsonbValue *key)
{
	for (int i = 0; i < n; i++)
		if (strlen(fields[i]) == key->val.string.len &&
			memcmp(fields[i], key->val.string.val, key->val.string.len) == 0)
			return fields[i];
	return NULL;
}

static bool
has_one(const Jsonb *data, char *const *fields, int n)
{
	JsonbValue value;

	for (int i = 0; i < n; i++)
		if (eduai_core_json_get(data, fields[i], &value) && value.type != jbvNull)
			return true;
	return false;
}

/* Data with each sensitive field that is not null changed; without those for which NULL comes. */
static Jsonb *
change_fields(const Jsonb *data, char *const *fields, int n, FieldChange change, void *arg)
{
	JsonbIterator *it = JsonbIteratorInit((JsonbContainer *) &data->root);
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;
	EduaiJson j;

	eduai_core_json_begin(&j);
	(void) JsonbIteratorNext(&it, &key, true);
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		const char *field = find_name(fields, n, &key);
		char *name = pnstrdup(key.val.string.val, key.val.string.len);
		Jsonb *changed;

		(void) JsonbIteratorNext(&it, &value, true);
		if (field == NULL || value.type == jbvNull)
			eduai_core_json_put_value(&j, name, &value);
		else if ((changed = change(arg, field, &value)) != NULL)
			eduai_core_json_put_json(&j, name, changed);
	}
	return eduai_core_json_end(&j);
}

static char *
subject_of(const char *event_type)
{
	return psprintf("event:%s", event_type);
}

static Jsonb *
seal_field(void *arg, const char *field, const JsonbValue *value)
{
	const Sealing *s = arg;
	Jsonb *plain = JsonbValueToJsonb((JsonbValue *) value);

	return eduai_core_personal_seal(s->tenant, s->event->user_id, plain, s->subject, field);
}

static bool
seal_event(const char *tenant, EduaiEvent *event)
{
	int n;
	char **fields = sensitive_fields(event->event_type, &n);
	Sealing s = {tenant, event, NULL};

	if (n == 0 || !has_one(event->data, fields, n))
		return false;
	eduai_core_personal_require_sealing(event->user_id);
	if (event->user_id == NULL || !eduai_core_personal_sealing())
		return false;
	s.subject = subject_of(event->event_type);
	event->data = change_fields(event->data, fields, n, seal_field, &s);
	return true;
}

Jsonb **
eduai_events_seal_sensitive(EduaiAppendBatch *batch)
{
	Jsonb **clear;
	bool sealed = false;

	if (!eduai_core_personal_guarding())
		return NULL;
	/* a prepared call in an open transaction may take no lock that would do it */
	AcceptInvalidationMessages();
	clear = palloc(sizeof(Jsonb *) * batch->nevents);
	for (int i = 0; i < batch->nevents; i++)
	{
		clear[i] = batch->events[i].data;
		sealed |= seal_event(batch->tenant, &batch->events[i]);
	}
	return sealed ? clear : NULL;
}

const Jsonb *
eduai_events_in_clear(const char *tenant, const char *user_id, const char *event_type,
					  const Jsonb *data)
{
	return eduai_core_personal_reveal(tenant, user_id, data, subject_of(event_type), InvalidOid);
}

static Jsonb *
leave_out(void *arg, const char *field, const JsonbValue *value)
{
	return NULL;
}

Jsonb *
eduai_events_without_sensitive(const char *event_type, Jsonb *data)
{
	int n;
	char **fields = sensitive_fields(event_type, &n);

	if (n == 0 || data == NULL || !has_one(data, fields, n))
		return data;
	return change_fields(data, fields, n, leave_out, NULL);
}
