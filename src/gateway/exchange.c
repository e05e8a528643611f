/*
 * exchange.c: one HTTP exchange as libcurl sees it; see exchange.h.
 *
 * The callbacks run inside libcurl: they never raise, never palloc, and end a
 * transfer by noting why in t->abort and returning short.
 *
 * An attempt sends its request once.  libcurl would send it again by itself
 * when a connection that was kept alive turns out to be dead; whether the
 * provider had read it the first time cannot be known, so the second sending
 * is refused and the attempt fails.
 */
#include "postgres.h"

#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/seal.h"
#include "gateway/address.h"
#include "gateway/deadline.h"
#include "gateway/exchange.h"
#include "gateway/gateway.h"
#include "gateway/line.h"
#include "gateway/show.h"
#include "gateway/wire.h"
#include "utils/timestamp.h"

#define MAX_POOLED_HANDLES 1024
#define FIRST_ROOM         (16 * 1024)
#define IDLE_SECONDS       60L

/*
 * Handles between exchanges.  They keep what is the same for all of them
 * (set_constants()), and nothing that belongs to one.
 */
static CURL *pool[MAX_POOLED_HANDLES];
static int pooled = 0;

/* ---- callbacks ---- */

static bool
may_connect(Transfer *t, AddressClass class)
{
	const Provider *provider = t->call->instance->provider;

	if (!eduai_gateway_address_allowed(class, provider->allow_loopback, provider->allow_private))
		t->abort = ABORT_ADDRESS;
	else if (class == ADDRESS_PUBLIC && provider->api_key != NULL &&
			 strncmp(t->request.url, "http:", 5) == 0)
		t->abort = ABORT_CLEAR_TEXT;
	else
		return true;
	return false;
}

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	eduai_gateway_line_resolved(arg);
	if (!may_connect(arg, eduai_gateway_address_class(&address->addr)))
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/*
 * The connection stands and the request is about to leave.  A connection that
 * another provider opened to the same host did not pass on_open_socket() for
 * this one, so its address is judged here.
 */
static int
on_connected(void *arg, char *remote, char *local, int remote_port, int local_port)
{
	Transfer *t = arg;
	AddressClass class;

	eduai_gateway_line_resolved(t);
	if (!eduai_gateway_address_parse(remote, &class))
		class = ADDRESS_FORBIDDEN;
	if (!may_connect(t, class))
		return CURL_PREREQFUNC_ABORT;
	/* another of the host's addresses may have been refused before */
	t->abort = ABORT_NONE;
	if (t->sends++ > 0)
	{
		t->abort = ABORT_RESENT;
		return CURL_PREREQFUNC_ABORT;
	}
	t->outcome->sent = true;
	t->connected_us = eduai_core_mono_us();
	eduai_gateway_deadline_phase(t);
	return CURL_PREREQFUNC_OK;
}

static size_t
on_header(char *line, size_t size, size_t n, void *arg)
{
	Transfer *t = arg;
	size_t length = size * n;

	if (t->first_byte_us == 0)
		t->first_byte_us = eduai_core_mono_us();
	return eduai_gateway_head_line(t, line, length) ? length : 0;
}

/* Makes room by doubling; false, and t->abort says why, when it cannot. */
static bool
make_room(Transfer *t, size_t more)
{
	size_t room = Max(t->body_room, FIRST_ROOM);
	char *body;

	if (more > t->max_body || t->body_length > t->max_body - more)
	{
		t->abort = ABORT_BODY_TOO_LARGE;
		return false;
	}
	while (room < t->body_length + more)
		room *= 2;
	if (room == t->body_room)
		return true;
	body = realloc(t->body, room);
	if (body == NULL)
	{
		t->abort = ABORT_OUT_OF_MEMORY;
		return false;
	}
	t->body = body;
	t->body_room = room;
	return true;
}

/* Decompressed bytes. */
static size_t
on_body(char *bytes, size_t size, size_t n, void *arg)
{
	Transfer *t = arg;
	size_t length = size * n;
	bool first = t->last_byte_us == 0;

	if (eduai_gateway_exchange_streams(t, bytes, length))
		return eduai_gateway_exchange_feed(t, bytes, length) ? length : length == 0;
	t->last_byte_us = eduai_core_mono_us();
	if (first)
		eduai_gateway_deadline_phase(t);
	if (!make_room(t, length))
		return length == 0 ? 1 : 0;
	memcpy(t->body + t->body_length, bytes, length);
	t->body_length += length;
	return length;
}

/* ---- setting up ---- */

static bool
append_headers(Transfer *t)
{
	/* libcurl would ask for leave to send what is long */
	static const char *const none[] = {"Expect:"};

	for (int i = -1; i < t->request.nheaders; i++)
	{
		struct curl_slist *longer;

		longer = curl_slist_append(t->headers, i < 0 ? none[0] : t->request.headers[i]);
		if (longer == NULL)
			return false;
		t->headers = longer;
	}
	return true;
}

static bool
is_form(const Transfer *t)
{
	return t->request.file != NULL || t->request.nfields > 0;
}

static bool
append_parts(Transfer *t)
{
	const WireRequest *request = &t->request;
	curl_mimepart *part;

	t->mime = curl_mime_init(t->easy);
	if (t->mime == NULL)
		return false;
	for (int i = 0; i + 1 < request->nfields; i += 2)
	{
		part = curl_mime_addpart(t->mime);
		if (part == NULL || curl_mime_name(part, request->fields[i]) != CURLE_OK ||
			curl_mime_data(part, request->fields[i + 1], CURL_ZERO_TERMINATED) != CURLE_OK)
			return false;
	}
	if (request->file == NULL)
		return true;
	part = curl_mime_addpart(t->mime);
	return part != NULL && curl_mime_name(part, "file") == CURLE_OK &&
		   curl_mime_data(part, request->file, request->file_length) == CURLE_OK &&
		   curl_mime_filename(part, request->file_name) == CURLE_OK &&
		   curl_mime_type(part, request->file_type) == CURLE_OK;
}

static void
set_body(Transfer *t)
{
	CURL *easy = t->easy;

	if (t->mime != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_MIMEPOST, t->mime);
		return;
	}
	if (t->request.body == NULL)
	{
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
		return;
	}
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, t->request.body);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) t->request.body_length);
}

/* Nothing is taken from the environment and no redirect is followed. */
static void
set_security(CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
}

/* What is the same for every exchange. */
static void
set_constants(CURL *easy)
{
	set_security(easy);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	/* servers drop idle connections after a minute or more: be the first to */
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "eduai/" EDUAI_VERSION);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
}

static void
set_connection(Transfer *t)
{
	const Instance *instance = t->call->instance;
	CURL *easy = t->easy;

	/* our own timer ends it; libcurl divides this among a host's addresses */
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) instance->connect_ms);
	curl_easy_setopt(
		easy, CURLOPT_HTTP_VERSION,
		(long) (instance->provider->http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	curl_easy_setopt(easy, CURLOPT_PIPEWAIT, (long) instance->provider->http2);
}

static bool
has_own_authorities(void)
{
	return eduai_gateway_http_ca_file != NULL && *eduai_gateway_http_ca_file != '\0';
}

static void
set_authorities(Transfer *t)
{
	if (!has_own_authorities())
		return;
	t->own_authorities = true;
	curl_easy_setopt(t->easy, CURLOPT_CAINFO, eduai_gateway_http_ca_file);
	curl_easy_setopt(t->easy, CURLOPT_CAPATH, NULL);
}

static void
set_callbacks(Transfer *t)
{
	CURL *easy = t->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->error);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, t);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
}

static CURL *
take_handle(void)
{
	CURL *easy;

	if (pooled > 0)
		return pool[--pooled];
	easy = curl_easy_init();
	if (easy != NULL)
		set_constants(easy);
	return easy;
}

/* Nothing of the exchange may stay in it. */
static void
give_handle_back(Transfer *t)
{
	CURL *easy = t->easy;

	t->easy = NULL;
	if (pooled == MAX_POOLED_HANDLES)
	{
		curl_easy_cleanup(easy);
		return;
	}
	if (t->mime != NULL || t->own_authorities)
	{
		curl_easy_reset(easy);
		set_constants(easy);
	}
	else
	{
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, NULL);
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
		curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
		curl_easy_setopt(easy, CURLOPT_PRIVATE, NULL);
	}
	pool[pooled++] = easy;
}

bool
eduai_gateway_exchange_prepare(Transfer *t)
{
	t->easy = take_handle();
	if (t->easy == NULL || !append_headers(t) || (is_form(t) && !append_parts(t)) ||
		curl_easy_setopt(t->easy, CURLOPT_URL, t->request.url) != CURLE_OK ||
		curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers) != CURLE_OK)
	{
		t->abort = ABORT_OUT_OF_MEMORY;
		eduai_gateway_exchange_aborted(t);
		eduai_gateway_exchange_release(t);
		return false;
	}
	set_body(t);
	set_connection(t);
	set_authorities(t);
	set_callbacks(t);
	return true;
}

/*
 * The key is in the headers.  libcurl's own copy, in the buffer that it sent
 * them from, is freed without this.
 */
static void
wipe_headers(Transfer *t)
{
	for (struct curl_slist *h = t->headers; h != NULL; h = h->next)
		eduai_core_seal_wipe(h->data);
	for (int i = 0; i < t->request.nheaders; i++)
		eduai_core_seal_wipe(t->request.headers[i]);
	t->request.nheaders = 0;
}

void
eduai_gateway_exchange_release(Transfer *t)
{
	/* before the mime structure that it refers to goes */
	if (t->easy != NULL)
		give_handle_back(t);
	curl_mime_free(t->mime);
	t->mime = NULL;
	wipe_headers(t);
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	free(t->body);
	t->body = NULL;
	t->body_length = t->body_room = 0;
	eduai_gateway_show_forget(t);
	eduai_gateway_stream_free(t->stream);
	t->stream = NULL;
}

/* ---- judging ---- */

void
eduai_gateway_exchange_read(Transfer *t, int http_status, const char *body, size_t length)
{
	int64 now_unix = (int64) timestamptz_to_time_t(eduai_core_now());
	WireResponse response = {.http_status = http_status, .body = body, .body_length = length};

	eduai_gateway_head_tell(t, now_unix, &response);
	eduai_gateway_response_read(t->call, &response, now_unix, t->outcome);
}

/* Ended while the body came, by which nothing changes once the head has told of a failure. */
static bool
ended_in_body(const Transfer *t)
{
	switch (t->abort)
	{
		case ABORT_NONE:
		case ABORT_FIRST_BYTE:
		case ABORT_STALL:
		case ABORT_TOTAL:
		case ABORT_BODY_TOO_LARGE:
			return true;
		default:
			return false;
	}
}

static void
read_answer(Transfer *t, int http_status)
{
	eduai_gateway_exchange_read(t, http_status, t->body != NULL ? t->body : "", t->body_length);
}

void
eduai_gateway_exchange_judge(Transfer *t, CURLcode result)
{
	long http_status = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &http_status);
	if (t->stream != NULL)
	{
		eduai_gateway_exchange_judge_stream(t, result, (int) http_status);
		return;
	}
	if (result == CURLE_OK)
	{
		read_answer(t, (int) http_status);
		return;
	}
	t->outcome->http_status = (int) http_status;
	/* the head says enough where the status is none of success, however the body ended */
	if (http_status >= 300 && ended_in_body(t))
	{
		t->body_length = 0;
		read_answer(t, (int) http_status);
		return;
	}
	if (t->abort != ABORT_NONE)
		eduai_gateway_exchange_aborted(t);
	else
		eduai_gateway_exchange_failed(t, result);
}
