/*-------------------------------------------------------------------------
 * conn.c
 *		Connections: reading requests, sending answers on time.
 *
 * A connection reads a request, or has an answer under way, or drains: it
 * has sent its last answer, half closed, and waits for the client to leave,
 * because closing over unread bytes would destroy the answer.  It keeps
 * reading while an answer is under way, to notice a client that leaves.
 *
 * The thousands of connections that hang must be cheap: buffers that an
 * answer's wait does not need are given back.
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <event2/event_struct.h>

#include "conn.h"
#include "journal.h"
#include "reply.h"

#define READ_SIZE       8000 /* with what malloc and Buf add, two pages */
#define LARGE_READ_SIZE (1024 * 1024)
#define MAX_READ_AHEAD  (64 * 1024)
#define KEPT_BUFFER     (64 * 1024)
#define PADS_AT_ONCE    64
#define TURN_BYTES      (1024 * 1024)
#define DRAIN_SECONDS   2

typedef struct Conn
{
	int fd;
	struct event readable;
	struct event writable;
	struct event timer;
	Buf in;
	RequestReader reader;
	Reply reply;
	bool answering;
	bool draining;
	bool used; /* carried a provider's request */

	/* of the answer under way */
	int64_t start_us; /* monotonic */
	size_t part;
	size_t sent;     /* of reply.out */
	size_t pad_sent; /* of the current block */
	uint64_t all_sent;
} Conn;

typedef enum Progress
{
	PROGRESS_WAIT, /* an event will continue */
	PROGRESS_DONE, /* ready for the next request */
	PROGRESS_GONE  /* the connection was freed */
} Progress;

static int64_t
monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void
reply_clear(Reply *reply)
{
	Buf out = reply->out;

	buf_clear(&out, KEPT_BUFFER);
	free(reply->ends);
	memset(reply, 0, sizeof(*reply));
	reply->out = out;
}

static void
finish(Conn *conn, Outcome outcome)
{
	if (conn->answering && conn->reply.seq != 0)
		journal_finish(conn->reply.seq, outcome, conn->all_sent);
	conn->answering = false;
	reply_clear(&conn->reply);
}

static void
conn_free(Conn *conn)
{
	if (!conn->answering && !conn->draining && conn->in.len > 0)
		journal_incomplete();
	finish(conn, OUTCOME_ABORTED);
	event_del(&conn->readable);
	event_del(&conn->writable);
	event_del(&conn->timer);
	close(conn->fd);
	buf_free(&conn->in);
	buf_free(&conn->reply.out);
	free(conn);
	journal_connection(-1);
}

static void
set_timer(Conn *conn, int64_t us)
{
	struct timeval delay = {us / 1000000, us % 1000000};

	event_add(&conn->timer, &delay);
}

/* All that was to be sent was sent. */
static Progress
end_answer(Conn *conn)
{
	After after = conn->reply.after;
	struct linger no_linger = {1, 0};

	switch (after)
	{
		case AFTER_KEEP:
			finish(conn, OUTCOME_SENT);
			return PROGRESS_DONE;
		case AFTER_CLOSE:
			finish(conn, OUTCOME_SENT);
			conn->draining = true;
			conn->in.len = 0;
			shutdown(conn->fd, SHUT_WR);
			event_add(&conn->readable, NULL);
			set_timer(conn, (int64_t) DRAIN_SECONDS * 1000000);
			return PROGRESS_WAIT;
		case AFTER_HANG:
			return PROGRESS_WAIT;
		case AFTER_RESET:
			setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &no_linger, sizeof(no_linger));
			break;
		case AFTER_CUT:
			break;
	}
	finish(conn, OUTCOME_BROKEN);
	conn->in.len = 0;
	conn_free(conn);
	return PROGRESS_GONE;
}

/* Account for len sent bytes of padding. */
static void
advance_pad(Conn *conn, size_t len)
{
	Reply *reply = &conn->reply;
	uint64_t total = conn->pad_sent + len;

	reply->pad_left -= total / reply->pad_len;
	conn->pad_sent = total % reply->pad_len;
}

static ssize_t
send_pad(Conn *conn)
{
	Reply *reply = &conn->reply;
	struct iovec blocks[PADS_AT_ONCE];
	int count = 0;
	ssize_t sent;

	for (; count < PADS_AT_ONCE && (uint64_t) count < reply->pad_left; count++)
	{
		blocks[count].iov_base = (char *) reply->pad;
		blocks[count].iov_len = reply->pad_len;
	}
	blocks[0].iov_base = (char *) reply->pad + conn->pad_sent;
	blocks[0].iov_len -= conn->pad_sent;
	sent = writev(conn->fd, blocks, count);
	if (sent > 0)
		advance_pad(conn, sent);
	return sent;
}

static ssize_t
send_out(Conn *conn, size_t end)
{
	ssize_t sent = write(conn->fd, conn->reply.out.data + conn->sent, end - conn->sent);

	if (sent > 0)
		conn->sent += sent;
	return sent;
}

/* Send what belongs to the current part; true when all of it left. */
static bool
send_part(Conn *conn, size_t end, size_t *budget, bool *failed)
{
	Reply *reply = &conn->reply;

	for (;;)
	{
		bool pad_ahead = reply->pad_left > 0 && reply->pad_at <= end;
		ssize_t sent;

		if (pad_ahead && conn->sent == reply->pad_at)
			sent = send_pad(conn);
		else if (conn->sent < end)
			sent = send_out(conn, pad_ahead ? reply->pad_at : end);
		else
			return true;
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
		{
			*failed = errno != EAGAIN;
			return false;
		}
		conn->all_sent += (uint64_t) sent;
		if ((size_t) sent >= *budget)
			return false;
		*budget -= sent;
	}
}

/* Send what is due. */
static Progress
pump(Conn *conn)
{
	Reply *reply = &conn->reply;
	size_t parts = reply->nends > 0 ? reply->nends : 1;
	size_t budget = TURN_BYTES;

	for (; conn->part < parts; conn->part++)
	{
		size_t end = reply->nends > 0 ? reply->ends[conn->part] : reply->out.len;
		int64_t due_us = reply->due_us + (int64_t) conn->part * reply->step_us;
		bool failed = false;

		if (due_us > 0)
			due_us -= monotonic_us() - conn->start_us;
		if (due_us > 0)
		{
			set_timer(conn, due_us);
			return PROGRESS_WAIT;
		}
		if (!send_part(conn, end, &budget, &failed))
		{
			if (failed)
			{
				conn_free(conn);
				return PROGRESS_GONE;
			}
			event_add(&conn->writable, NULL);
			return PROGRESS_WAIT;
		}
	}
	return end_answer(conn);
}

static void
send_continue(Conn *conn)
{
	static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";

	/* A socket that cannot take 25 bytes here has other troubles. */
	if (write(conn->fd, line, sizeof(line) - 1) < 0)
		return;
}

static void
handle(Conn *conn)
{
	Request *request = &conn->reader.request;

	request->arrival_us = wall_clock_us();
	if (control_handles(request))
	{
		control_request(request, &conn->reply);
		return;
	}
	if (!conn->used)
		journal_used_connection();
	conn->used = true;
	answer_request(request, &conn->reply);
}

static void
handle_bad(Conn *conn)
{
	Buf body = {0};

	journal_incomplete();
	buf_printf(&body,
			   "{\"error\":{\"message\":\"simulated error: %s\","
			   "\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}",
			   conn->reader.error);
	frame_simple(&conn->reply, conn->reader.error_status, "application/json",
				 (Slice){body.data, body.len}, false);
	buf_free(&body);
	conn->reader.head_len = conn->in.len;
	conn->reader.body_len = 0;
}

/* Take the next request out of the buffer and start its answer. */
static bool
take_request(Conn *conn)
{
	switch (request_read(&conn->reader, &conn->in))
	{
		case REQUEST_MORE:
			return false;
		case REQUEST_CONTINUE:
			send_continue(conn);
			return false;
		case REQUEST_BAD:
			handle_bad(conn);
			break;
		case REQUEST_READY:
			handle(conn);
			break;
	}
	request_consume(&conn->reader, &conn->in);
	if (conn->in.len > 0)
		conn->reader.request.first_byte_us = wall_clock_us();
	else
		buf_clear(&conn->in, READ_SIZE + 192);
	conn->answering = true;
	conn->start_us = conn->reply.due_us > 0 || conn->reply.nends > 0 ? monotonic_us() : 0;
	conn->part = conn->sent = conn->pad_sent = 0;
	conn->all_sent = 0;
	return true;
}

/* Answer the requests in the buffer until one has to wait. */
static void
serve(Conn *conn)
{
	while (conn->in.len > 0 && take_request(conn))
	{
		Progress progress = pump(conn);

		if (progress == PROGRESS_GONE)
			return;
		if (progress == PROGRESS_WAIT)
		{
			if (conn->in.len == 0)
				buf_free(&conn->in);
			return;
		}
	}
}

static void
resume(Conn *conn)
{
	if (conn->draining)
	{
		conn_free(conn);
		return;
	}
	if (pump(conn) != PROGRESS_DONE)
		return;
	event_add(&conn->readable, NULL);
	serve(conn);
}

static void
on_ready(evutil_socket_t fd, short what, void *arg)
{
	(void) fd;
	(void) what;
	resume(arg);
}

/* Room for what is to come of a body, within reason. */
static size_t
read_size(const Conn *conn)
{
	const RequestReader *reader = &conn->reader;
	size_t missing = READ_SIZE;

	if (reader->in_body)
		missing = reader->chunked ? reader->chunk_left
								  : reader->head_len + reader->body_len - conn->in.len;
	return missing < READ_SIZE ? READ_SIZE : missing > LARGE_READ_SIZE ? LARGE_READ_SIZE : missing;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	Conn *conn = arg;
	size_t size = read_size(conn);
	ssize_t got;

	(void) what;
	if (conn->in.len == 0 && !conn->answering)
		conn->reader.request.first_byte_us = wall_clock_us();
	buf_reserve(&conn->in, size);
	got = read(fd, conn->in.data + conn->in.len, size);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0)
	{
		conn_free(conn);
		return;
	}
	if (conn->draining)
		return;
	conn->in.len += got;
	if (!conn->answering)
		serve(conn);
	else if (conn->in.len > MAX_READ_AHEAD)
		event_del(&conn->readable);
}

void
conn_start(struct event_base *base, int fd)
{
	Conn *conn = mem_alloc(sizeof(Conn));

	conn->fd = fd;
	event_assign(&conn->readable, base, fd, EV_READ | EV_PERSIST, on_readable, conn);
	event_assign(&conn->writable, base, fd, EV_WRITE, on_ready, conn);
	event_assign(&conn->timer, base, -1, 0, on_ready, conn);
	event_add(&conn->readable, NULL);
	journal_connection(1);
}
