/*-------------------------------------------------------------------------
 * behaviour.c
 *		How the simulator answers: parsing, defaults and chance.
 *-------------------------------------------------------------------------
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

#include "behaviour.h"

typedef enum KeyKind
{
	KEY_FLAG,
	KEY_INT,
	KEY_RATE,
	KEY_TEXT,
	KEY_LATENCY,
	KEY_FLAP
} KeyKind;

typedef struct Key
{
	const char *name;
	KeyKind kind;
	size_t offset;
	int64_t max;
} Key;

#define HOUR_MS   3600000
#define TERA      INT64_C(1000000000000)
#define GIGA      INT64_C(1000000000)
#define AT(field) offsetof(Behaviour, field)

static const Key keys[] = {
	{"latency", KEY_LATENCY, AT(latency_ms), 0},
	{"error_latency", KEY_INT, AT(error_latency_ms), HOUR_MS},
	{"first_byte", KEY_INT, AT(first_byte_ms), HOUR_MS},
	{"chunk_ms", KEY_INT, AT(chunk_ms), HOUR_MS},
	{"error", KEY_RATE, AT(error_rate), 0},
	{"status", KEY_INT, AT(status), 599},
	{"fail_first", KEY_INT, AT(fail_first), GIGA},
	{"first", KEY_INT, AT(first), GIGA},
	{"flap", KEY_FLAP, 0, 0},
	{"code", KEY_TEXT, AT(code), 0},
	{"retry_after", KEY_TEXT, AT(retry_after), 0},
	{"retry_after_ms", KEY_INT, AT(retry_after_ms), TERA},
	{"retry_date", KEY_INT, AT(retry_date), GIGA},
	{"should_retry", KEY_TEXT, AT(should_retry), 0},
	{"redirect", KEY_TEXT, AT(redirect), 0},
	{"error200", KEY_FLAG, AT(error200), 0},
	{"silent", KEY_FLAG, AT(silent), 0},
	{"reset", KEY_FLAG, AT(reset), 0},
	{"hangup", KEY_FLAG, AT(hangup), 0},
	{"close", KEY_FLAG, AT(close), 0},
	{"stall_after", KEY_INT, AT(stall_after), TERA},
	{"cut_after", KEY_INT, AT(cut_after), TERA},
	{"garbage", KEY_FLAG, AT(garbage), 0},
	{"body", KEY_TEXT, AT(body), 0},
	{"type", KEY_TEXT, AT(type), 0},
	{"headers", KEY_TEXT, AT(headers), 0},
	{"encoding", KEY_TEXT, AT(encoding), 0},
	{"length", KEY_INT, AT(length), TERA},
	{"until_close", KEY_FLAG, AT(until_close), 0},
	{"trailers", KEY_FLAG, AT(trailers), 0},
	{"chunk_bytes", KEY_INT, AT(chunk_bytes), TERA},
	{"interim", KEY_INT, AT(interim), TERA},
	{"malformed_chunk", KEY_FLAG, AT(malformed_chunk), 0},
	{"wrong_type", KEY_FLAG, AT(wrong_type), 0},
	{"nul", KEY_FLAG, AT(nul), 0},
	{"raw_nul", KEY_FLAG, AT(raw_nul), 0},
	{"latin1", KEY_FLAG, AT(latin1), 0},
	{"surrogate", KEY_FLAG, AT(surrogate), 0},
	{"giant", KEY_INT, AT(giant), TERA},
	{"giant_headers", KEY_INT, AT(giant_headers), TERA},
	{"gzip_bomb", KEY_INT, AT(gzip_bomb), TERA},
	{"no_done", KEY_FLAG, AT(no_done), 0},
	{"no_finish", KEY_FLAG, AT(no_finish), 0},
	{"no_usage", KEY_FLAG, AT(no_usage), 0},
	{"no_stream", KEY_FLAG, AT(no_stream), 0},
	{"stream_error", KEY_FLAG, AT(stream_error), 0},
	{"bad_event", KEY_FLAG, AT(bad_event), 0},
	{"comments", KEY_FLAG, AT(comments), 0},
	{"crlf", KEY_FLAG, AT(crlf), 0},
	{"heartbeat", KEY_INT, AT(heartbeat_ms), HOUR_MS},
	{"text", KEY_TEXT, AT(text), 0},
	{"echo", KEY_FLAG, AT(echo), 0},
	{"tokens_in", KEY_INT, AT(tokens_in), GIGA},
	{"tokens_out", KEY_INT, AT(tokens_out), GIGA},
	{"cached", KEY_INT, AT(cached), GIGA},
	{"reasoning", KEY_INT, AT(reasoning), GIGA},
	{"cost", KEY_TEXT, AT(cost), 0},
	{"limit_requests", KEY_TEXT, AT(limit_requests), 0},
	{"limit_tokens", KEY_TEXT, AT(limit_tokens), 0},
};

typedef struct Default
{
	char *model; /* NULL: global */
	char *text;  /* what behaviour's strings point into */
	Behaviour behaviour;
} Default;

static Default *defaults;
static int ndefaults;

/* Open addressing over powers of two; a zero hash is an empty slot. */
typedef struct Counter
{
	uint64_t hash;
	int64_t seen;
} Counter;

static Counter *counters;
static size_t ncounters;
static size_t counter_slots;

static uint64_t random_seed = 1;
static uint64_t random_state = 1;

static void
behaviour_init(Behaviour *behaviour)
{
	memset(behaviour, 0, sizeof(*behaviour));
	behaviour->error_rate = -1;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
	{
		if (keys[i].kind == KEY_INT)
			*(int64_t *) ((char *) behaviour + keys[i].offset) = -1;
	}
	behaviour->status = 0;
}

static int
hex_digit(char c)
{
	if (!isxdigit((unsigned char) c))
		return -1;
	return isdigit((unsigned char) c) ? c - '0' : tolower((unsigned char) c) - 'a' + 10;
}

/* '+' and %XX, in place; %00 would end the string and stays as it is. */
static void
decode_percent(char *s)
{
	char *dst = s;

	for (; *s != '\0'; s++)
	{
		int high = *s == '%' ? hex_digit(s[1]) : -1;
		int low = high >= 0 ? hex_digit(s[2]) : -1;

		if (low >= 0 && (high | low) != 0)
		{
			*dst++ = high << 4 | low;
			s += 2;
		}
		else
			*dst++ = *s == '+' ? ' ' : *s;
	}
	*dst = '\0';
}

static bool
parse_double(const char *s, double *value)
{
	char *end;

	*value = strtod(s, &end);
	return end != s && *end == '\0' && isfinite(*value) && *value >= 0;
}

/* "MS" or "lognormal:P50:P95" */
static bool
parse_latency(char *value, Behaviour *behaviour)
{
	char *colon;

	if (strncmp(value, "lognormal:", 10) != 0)
		return parse_double(value, &behaviour->latency_ms) && behaviour->latency_ms <= HOUR_MS;
	value += 10;
	colon = strchr(value, ':');
	if (colon == NULL)
		return false;
	*colon = '\0';
	return parse_double(value, &behaviour->latency_ms) &&
		   parse_double(colon + 1, &behaviour->latency_p95_ms) && behaviour->latency_ms > 0 &&
		   behaviour->latency_p95_ms >= behaviour->latency_ms &&
		   behaviour->latency_p95_ms <= HOUR_MS;
}

static bool
parse_flap(const char *value, Behaviour *behaviour)
{
	const char *colon = strchr(value, ':');

	return colon != NULL && slice_int((Slice){value, colon - value}, &behaviour->flap_on_ms) &&
		   slice_int((Slice){colon + 1, strlen(colon + 1)}, &behaviour->flap_off_ms) &&
		   behaviour->flap_on_ms >= 0 && behaviour->flap_off_ms >= 0 &&
		   behaviour->flap_on_ms + behaviour->flap_off_ms > 0 && behaviour->flap_on_ms <= TERA &&
		   behaviour->flap_off_ms <= TERA;
}

static bool
parse_value(const Key *key, char *value, Behaviour *behaviour)
{
	void *field = (char *) behaviour + key->offset;

	if (key->kind == KEY_FLAG)
	{
		*(bool *) field = value == NULL || strcmp(value, "1") == 0;
		return value == NULL || strcmp(value, "1") == 0 || strcmp(value, "0") == 0;
	}
	if (value == NULL)
		return false;
	switch (key->kind)
	{
		case KEY_INT:
			return slice_int((Slice){value, strlen(value)}, field) && *(int64_t *) field >= 0 &&
				   *(int64_t *) field <= key->max;
		case KEY_RATE:
			return parse_double(value, field) && *(double *) field <= 1;
		case KEY_LATENCY:
			return parse_latency(value, behaviour);
		case KEY_FLAP:
			return parse_flap(value, behaviour);
		default:
			decode_percent(value);
			*(char **) field = value;
			return true;
	}
}

static bool
parse_item(char *item, Behaviour *behaviour, Buf *error)
{
	char *value = strchr(item, '=');

	if (value != NULL)
		*value++ = '\0';
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
	{
		if (strcmp(item, keys[i].name) != 0)
			continue;
		if (parse_value(&keys[i], value, behaviour))
			return true;
		buf_str(error, "bad value of the behaviour key ");
		buf_str(error, item);
		return false;
	}
	buf_str(error, "unknown behaviour key ");
	buf_str(error, item);
	return false;
}

bool
behaviour_parse(char *spec, Behaviour *behaviour, Buf *error)
{
	behaviour_init(behaviour);
	while (spec != NULL)
	{
		char *item = strsep(&spec, ";");

		while (*item == ' ')
			item++;
		if (*item != '\0' && !parse_item(item, behaviour, error))
			return false;
	}
	if (behaviour->status != 0 && behaviour->status < 200)
	{
		buf_str(error, "bad value of the behaviour key status");
		return false;
	}
	return true;
}

static Default *
find_default(const char *model)
{
	for (int i = 0; i < ndefaults; i++)
	{
		if (model == NULL ? defaults[i].model == NULL
						  : defaults[i].model != NULL && strcmp(defaults[i].model, model) == 0)
			return &defaults[i];
	}
	return NULL;
}

bool
behaviour_set_default(const char *model, const char *spec, Buf *error)
{
	Default *found = find_default(model);
	Behaviour behaviour;
	char *text = mem_strdup(spec);

	if (!behaviour_parse(text, &behaviour, error))
	{
		free(text);
		return false;
	}
	if (found == NULL)
	{
		defaults = mem_realloc(defaults, sizeof(Default) * (ndefaults + 1));
		found = &defaults[ndefaults++];
		memset(found, 0, sizeof(*found));
		found->model = model != NULL ? mem_strdup(model) : NULL;
	}
	free(found->text);
	found->text = text;
	found->behaviour = behaviour;
	return true;
}

const Behaviour *
behaviour_plain(void)
{
	static Behaviour plain;
	static bool ready = false;

	if (!ready)
		behaviour_init(&plain);
	ready = true;
	return &plain;
}

/* The model's default, else the global one, else a plain answer. */
const Behaviour *
behaviour_default(const char *model)
{
	Default *found = model[0] != '\0' ? find_default(model) : NULL;

	if (found == NULL)
		found = find_default(NULL);
	return found != NULL ? &found->behaviour : behaviour_plain();
}

void
behaviour_reset(void)
{
	for (int i = 0; i < ndefaults; i++)
	{
		free(defaults[i].model);
		free(defaults[i].text);
	}
	free(defaults);
	free(counters);
	defaults = NULL;
	counters = NULL;
	ndefaults = 0;
	ncounters = counter_slots = 0;
	random_state = random_seed;
}

static Counter *
find_counter(uint64_t hash)
{
	size_t i = hash & (counter_slots - 1);

	while (counters[i].hash != 0 && counters[i].hash != hash)
		i = (i + 1) & (counter_slots - 1);
	return &counters[i];
}

static void
grow_counters(void)
{
	Counter *old = counters;
	size_t old_slots = counter_slots;

	counter_slots = old_slots > 0 ? old_slots * 2 : 1024;
	counters = mem_alloc(sizeof(Counter) * counter_slots);
	for (size_t i = 0; i < old_slots; i++)
	{
		if (old[i].hash != 0)
			*find_counter(old[i].hash) = old[i];
	}
	free(old);
}

bool
behaviour_among_first(const char *model, const char *user, int64_t limit)
{
	uint64_t hash = fnv64(FNV64_START, model, strlen(model) + 1);
	Counter *counter;

	hash = fnv64(hash, user, strlen(user)) | 1;
	if (ncounters * 2 >= counter_slots)
		grow_counters();
	counter = find_counter(hash);
	if (counter->hash == 0)
	{
		counter->hash = hash;
		ncounters++;
	}
	return counter->seen++ < limit;
}

void
behaviour_seed(uint64_t seed)
{
	random_seed = random_state = seed;
}

/* splitmix64, in [0, 1) */
double
behaviour_random(void)
{
	uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (double) ((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

int64_t
behaviour_latency_us(const Behaviour *behaviour, bool failed)
{
	double sigma;
	double normal;

	if (failed && behaviour->error_latency_ms >= 0)
		return behaviour->error_latency_ms * 1000;
	if (behaviour->latency_p95_ms <= 0)
		return (int64_t) (behaviour->latency_ms * 1000);

	/* Box-Muller; 1.6449 is the normal distribution's 95th percentile */
	sigma = log(behaviour->latency_p95_ms / behaviour->latency_ms) / 1.6448536269514722;
	normal = sqrt(-2 * log(1 - behaviour_random())) * cos(2 * M_PI * behaviour_random());
	return (int64_t) (behaviour->latency_ms * exp(sigma * normal) * 1000);
}
