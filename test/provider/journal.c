/*-------------------------------------------------------------------------
 * journal.c
 *		What the simulator was asked, and what became of it.
 *
 * A reset hides older entries and zeroes the counters, but requests in
 * flight stay in flight: they count in open, and their end counts nowhere.
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "journal.h"

static JournalEntry *ring;
static uint64_t last_seq;
static uint64_t reset_seq; /* entries up to here are forgotten */
static int file = -1;
static Buf lines;

static struct
{
	uint64_t requests;
	uint64_t open;
	uint64_t peak_open;
	uint64_t completed;
	uint64_t aborted;
	uint64_t broken;
	uint64_t incomplete;
	uint64_t connections;
	uint64_t by_status[600];
} stats;

static int64_t connections_open;

static const char *const outcome_names[] = {"pending", "sent", "aborted", "broken"};

int64_t
wall_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* The ring takes memory only as it fills. */
void
journal_open(const char *path)
{
	ring = mmap(NULL, sizeof(JournalEntry) * JOURNAL_ENTRIES, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ring == MAP_FAILED)
	{
		perror("eduai-simulator: could not allocate the journal");
		exit(1);
	}
	if (path == NULL)
		return;
	file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (file < 0)
	{
		fprintf(stderr, "eduai-simulator: could not open \"%s\": %m\n", path);
		exit(1);
	}
}

uint64_t
journal_next_seq(void)
{
	return last_seq + 1;
}

/* Tabs, line ends and backslashes would break the line apart. */
static void
add_column(const char *s)
{
	for (; *s != '\0'; s++)
	{
		if ((unsigned char) *s < 0x20 || *s == '\\' || *s == 0x7f)
			buf_printf(&lines, "\\x%02x", (unsigned char) *s);
		else
			buf_add(&lines, s, 1);
	}
	buf_add(&lines, "\t", 1);
}

static void
add_number(uint64_t number, char end)
{
	buf_int(&lines, (int64_t) number);
	buf_add(&lines, &end, 1);
}

static void
add_line(const JournalEntry *entry)
{
	add_number(entry->seq, '\t');
	add_number(entry->first_byte_us, '\t');
	add_number(entry->arrival_us, '\t');
	add_column(entry->endpoint);
	add_column(entry->model);
	add_column(entry->user);
	add_column(entry->idempotency_key);
	add_number(entry->body_bytes, '\t');
	buf_printf(&lines, "%016" PRIx64 "\t", entry->body_fnv64);
	add_number(entry->status, '\t');
	add_column(entry->plan);
	lines.data[lines.len - 1] = '\n';
}

void
journal_add(const JournalEntry *entry)
{
	last_seq = entry->seq;
	ring[entry->seq % JOURNAL_ENTRIES] = *entry;
	stats.requests++;
	stats.by_status[entry->status]++;
	if (++stats.open > stats.peak_open)
		stats.peak_open = stats.open;
	if (file >= 0)
		add_line(entry);
}

void
journal_finish(uint64_t seq, Outcome outcome, uint64_t sent_bytes)
{
	JournalEntry *entry = &ring[seq % JOURNAL_ENTRIES];

	stats.open--;
	if (seq <= reset_seq)
		return;
	if (entry->seq == seq)
	{
		entry->outcome = outcome;
		entry->sent_bytes = sent_bytes;
		entry->done_us = wall_clock_us();
	}
	if (outcome == OUTCOME_SENT)
		stats.completed++;
	else if (outcome == OUTCOME_ABORTED)
		stats.aborted++;
	else
		stats.broken++;
}

/* Called once per turn of the event loop, and before exit. */
void
journal_flush(void)
{
	size_t done = 0;

	while (done < lines.len)
	{
		ssize_t written = write(file, lines.data + done, lines.len - done);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
		{
			/* A journal with holes would prove things that are not so. */
			perror("eduai-simulator: could not write the journal");
			_exit(1);
		}
		done += written;
	}
	lines.len = 0;
}

void
journal_reset(void)
{
	uint64_t open = stats.open;

	memset(&stats, 0, sizeof(stats));
	stats.open = stats.peak_open = open;
	reset_seq = last_seq;
}

void
journal_connection(int opened)
{
	connections_open += opened;
}

void
journal_used_connection(void)
{
	stats.connections++;
}

void
journal_incomplete(void)
{
	stats.incomplete++;
}

void
journal_write_stats(Buf *out)
{
	const char *comma = "";

	buf_printf(out,
			   "{\"requests\":%" PRIu64 ",\"open\":%" PRIu64 ",\"peak_open\":%" PRIu64
			   ",\"completed\":%" PRIu64 ",\"aborted\":%" PRIu64 ",\"broken\":%" PRIu64
			   ",\"incomplete\":%" PRIu64 ",\"connections\":%" PRIu64
			   ",\"connections_open\":%" PRId64 ",\"last_seq\":%" PRIu64 ",\"by_status\":{",
			   stats.requests, stats.open, stats.peak_open, stats.completed, stats.aborted,
			   stats.broken, stats.incomplete, stats.connections, connections_open, last_seq);
	for (int status = 0; status < 600; status++)
	{
		if (stats.by_status[status] == 0)
			continue;
		buf_printf(out, "%s\"%d\":%" PRIu64, comma, status, stats.by_status[status]);
		comma = ",";
	}
	buf_str(out, "}}");
}

static void
add_member(Buf *out, const char *name, const char *value)
{
	buf_printf(out, ",\"%s\":\"", name);
	buf_json(out, value);
	buf_str(out, "\"");
}

static void
write_entry(Buf *out, const JournalEntry *entry)
{
	buf_printf(out, "{\"seq\":%" PRIu64 ",\"first_byte_us\":%" PRId64 ",\"arrival_us\":%" PRId64,
			   entry->seq, entry->first_byte_us, entry->arrival_us);
	if (entry->done_us > 0)
		buf_printf(out, ",\"done_us\":%" PRId64, entry->done_us);
	else
		buf_str(out, ",\"done_us\":null");
	add_member(out, "endpoint", entry->endpoint);
	add_member(out, "model", entry->model);
	add_member(out, "user", entry->user);
	add_member(out, "idempotency_key", entry->idempotency_key);
	buf_printf(out,
			   ",\"body_bytes\":%" PRIu64 ",\"body_fnv64\":\"%016" PRIx64
			   "\",\"status\":%d,\"plan\":\"%s\",\"outcome\":\"%s\",\"sent_bytes\":%" PRIu64 "}",
			   entry->body_bytes, entry->body_fnv64, entry->status, entry->plan,
			   outcome_names[entry->outcome], entry->sent_bytes);
}

/* Up to limit entries after that seq, oldest first. */
void
journal_write_entries(Buf *out, uint64_t after, uint64_t limit)
{
	const char *separator = "";

	if (after < reset_seq)
		after = reset_seq;
	if (last_seq > JOURNAL_ENTRIES && after < last_seq - JOURNAL_ENTRIES)
		after = last_seq - JOURNAL_ENTRIES;
	buf_str(out, "[");
	for (uint64_t seq = after + 1; seq <= last_seq && limit > 0; seq++, limit--)
	{
		buf_str(out, separator);
		write_entry(out, &ring[seq % JOURNAL_ENTRIES]);
		separator = ",\n";
	}
	buf_str(out, "]\n");
}
