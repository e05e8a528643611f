/*
 * pack.c: packed jsonb objects and arrays.  See pack.h.
 *
 * A container is a header with the number of entries, a JEntry for each value
 * (in an object for each key and then for each value) and their bytes in the
 * same order.  A JEntry has the type and the length or, every JB_OFFSET_STRIDE
 * of them, the end's offset.  Numbers and containers begin at multiples of four
 * bytes; the padding belongs to them.
 */
#include "postgres.h"

#include "projections/pack.h"

/* ---- reading ---- */

static void
read_value(JEntry entry, char *base, uint32 offset, uint32 length, JsonbValue *value)
{
	char *aligned = base + INTALIGN(offset);

	if (JBE_ISSTRING(entry))
	{
		value->type = jbvString;
		value->val.string.val = base + offset;
		value->val.string.len = length;
	}
	else if (JBE_ISNUMERIC(entry))
	{
		value->type = jbvNumeric;
		value->val.numeric = (Numeric) aligned;
	}
	else if (JBE_ISCONTAINER(entry))
	{
		value->type = jbvBinary;
		value->val.binary.data = (JsonbContainer *) aligned;
		value->val.binary.len = length - (INTALIGN(offset) - offset);
	}
	else if (JBE_ISBOOL(entry))
	{
		value->type = jbvBool;
		value->val.boolean = JBE_ISBOOL_TRUE(entry);
	}
	else
		value->type = jbvNull;
}

void
eduai_projections_pack_read(const JsonbContainer *container, PackEntry *entries)
{
	int n = JsonContainerSize(container);
	bool is_object = JsonContainerIsObject(container);
	int children = is_object ? 2 * n : n;
	char *base = (char *) &container->children[children];
	uint32 offset = 0;

	for (int i = 0; i < children; i++)
	{
		JEntry entry = container->children[i];
		uint32 end = offset;

		JBE_ADVANCE_OFFSET(end, entry);
		read_value(entry, base, offset, end - offset,
				   is_object && i < n ? &entries[i].key : &entries[i < n ? i : i - n].value);
		offset = end;
	}
}

/* ---- writing ---- */

int
eduai_projections_pack_compare(const JsonbValue *a, const JsonbValue *b)
{
	if (a->val.string.len != b->val.string.len)
		return a->val.string.len < b->val.string.len ? -1 : 1;
	return memcmp(a->val.string.val, b->val.string.val, a->val.string.len);
}

/* The bytes that a value needs at most. */
static Size
room_of(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return value->val.string.len;
		case jbvNumeric:
			return VARSIZE_ANY(value->val.numeric) + ALIGNOF_INT;
		case jbvBinary:
			return value->val.binary.len + ALIGNOF_INT;
		default:
			return 0;
	}
}

typedef struct Writer
{
	Jsonb *json;
	char *at;
	uint32 total; /* bytes of the values so far */
	int nvalues;
} Writer;

static Writer
begin(uint32 header, int nvalues, Size room)
{
	Size size = offsetof(Jsonb, root.children) + sizeof(JEntry) * nvalues + room;
	Writer w = {NULL, NULL, 0, 0};

	if (room > JENTRY_OFFLENMASK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("total size of jsonb object elements exceeds the maximum of %u bytes",
						JENTRY_OFFLENMASK)));
	w.json = palloc(size);
	w.json->root.header = header;
	w.at = (char *) &w.json->root.children[nvalues];
	return w;
}

static void
put_bytes(Writer *w, const void *bytes, Size length)
{
	memcpy(w->at, bytes, length);
	w->at += length;
}

static void
put_aligned(Writer *w, const void *bytes, Size length)
{
	while ((w->at - (char *) w->json) % ALIGNOF_INT != 0)
		*w->at++ = '\0';
	put_bytes(w, bytes, length);
}

static JEntry
put_bytes_of(Writer *w, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return JENTRY_ISNULL;
		case jbvBool:
			return value->val.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		case jbvString:
			put_bytes(w, value->val.string.val, value->val.string.len);
			return JENTRY_ISSTRING;
		case jbvNumeric:
			put_aligned(w, value->val.numeric, VARSIZE_ANY(value->val.numeric));
			return JENTRY_ISNUMERIC;
		case jbvBinary:
			put_aligned(w, value->val.binary.data, value->val.binary.len);
			return JENTRY_ISCONTAINER;
		default:
			elog(ERROR, "unexpected type of jsonb value: %d", (int) value->type);
	}
}

static void
put(Writer *w, const JsonbValue *value)
{
	char *from = w->at;
	JEntry type = put_bytes_of(w, value);
	uint32 length = w->at - from;

	w->total += length;
	w->json->root.children[w->nvalues] =
		w->nvalues % JB_OFFSET_STRIDE == 0 ? type | JENTRY_HAS_OFF | w->total : type | length;
	w->nvalues++;
}

static Jsonb *
end(Writer *w)
{
	SET_VARSIZE(w->json, w->at - (char *) w->json);
	return w->json;
}

Jsonb *
eduai_projections_pack_object(const PackEntry *entries, int n)
{
	Size room = 0;
	Writer w;

	for (int i = 0; i < n; i++)
		room += room_of(&entries[i].key) + room_of(&entries[i].value);
	w = begin(n | JB_FOBJECT, 2 * n, room);
	for (int i = 0; i < n; i++)
		put(&w, &entries[i].key);
	for (int i = 0; i < n; i++)
		put(&w, &entries[i].value);
	return end(&w);
}

Jsonb *
eduai_projections_pack_array(const PackEntry *entries, int n)
{
	Size room = 0;
	Writer w;

	for (int i = 0; i < n; i++)
		room += room_of(&entries[i].value);
	w = begin(n | JB_FARRAY, n, room);
	for (int i = 0; i < n; i++)
		put(&w, &entries[i].value);
	return end(&w);
}

JsonbValue
eduai_projections_pack_value(Jsonb *json)
{
	JsonbValue value = {.type = jbvBinary};

	value.val.binary.data = &json->root;
	value.val.binary.len = VARSIZE(json) - VARHDRSZ;
	return value;
}
