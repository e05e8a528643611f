/*
 * bench.c: see bench.h.
 */
#include "bench.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void
fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

const char *
required_env(const char *name)
{
	const char *value = getenv(name);

	if (value == NULL || *value == '\0')
		fail("%s is not set: run this through make bench", name);
	return value;
}

int
env_int(const char *name, int otherwise)
{
	const char *value = getenv(name);

	return value != NULL && *value != '\0' ? atoi(value) : otherwise;
}

int64_t
wall_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

PGconn *
connect_db(void)
{
	PGconn *db = PQconnectdb("");

	if (PQstatus(db) != CONNECTION_OK)
		fail("%s", PQerrorMessage(db));
	return db;
}

static PGresult *
query(PGconn *db, const char *sql)
{
	PGresult *result = PQexec(db, sql);
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		fail("%s: %s", sql, PQerrorMessage(db));
	return result;
}

void
run(PGconn *db, const char *sql)
{
	PQclear(query(db, sql));
}

char *
ask(PGconn *db, const char *sql)
{
	PGresult *result = query(db, sql);
	char *value = strdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");

	PQclear(result);
	return value;
}

int64_t
ask_int(PGconn *db, const char *sql)
{
	char *value = ask(db, sql);
	int64_t number = atoll(value);

	free(value);
	return number;
}

typedef struct Body
{
	char *text;
	size_t length;
} Body;

static size_t
receive(char *data, size_t size, size_t n, void *to)
{
	Body *body = to;

	body->text = realloc(body->text, body->length + size * n + 1);
	if (body->text == NULL)
		return 0;
	memcpy(body->text + body->length, data, size * n);
	body->length += size * n;
	body->text[body->length] = '\0';
	return size * n;
}

char *
http(const char *url, const char *body)
{
	static CURL *curl = NULL;
	static struct curl_slist *headers = NULL;
	Body answer = {0};
	CURLcode code;

	if (curl == NULL)
	{
		curl = curl_easy_init();
		headers = curl_slist_append(NULL, "Content-Type: application/json");
	}
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
	if (body != NULL)
	{
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	}
	code = curl_easy_perform(curl);
	if (code != CURLE_OK)
		fail("%s: %s", url, curl_easy_strerror(code));
	return answer.text ? answer.text : strdup("");
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return x < y ? -1 : x > y;
}

double
percentile(double *values, int n, double share)
{
	int at = (int) (share * (n - 1) + 0.5);

	if (n == 0)
		return 0;
	qsort(values, n, sizeof(double), compare);
	return values[at];
}

double
median(double *values, int n)
{
	return percentile(values, n, 0.5);
}
