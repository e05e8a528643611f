/*-------------------------------------------------------------------------
 * content.c
 *		The text of an answer, and what it counts in tokens.
 *
 * A token is four characters, rounded up past the end: n characters are
 * n / 4 + 1 tokens.  Tests can compute every figure.
 *-------------------------------------------------------------------------
 */
#include "exchange.h"

#define QUOTED_CHARS     40
#define MAX_FILLER_CHARS (1024 * 1024)
#define MAX_PIECES       16384

static int64_t
tokens_of(size_t chars)
{
	return (int64_t) (chars / 4) + 1;
}

/* Lengthen the text to so many characters, or shorten it. */
static void
fit_text(Buf *text, size_t chars)
{
	static const char filler[] = " simulated";
	size_t have = json_chars((Slice){text->data, text->len});

	if (chars > MAX_FILLER_CHARS)
		chars = MAX_FILLER_CHARS;
	for (; have < chars; have++)
		buf_add(text, filler + have % (sizeof(filler) - 1), 1);
	if (have > chars)
		text->len = json_prefix((Slice){text->data, text->len}, chars);
}

static void
write_text(Exchange *x, Buf *text)
{
	Slice question = x->fields.last_user;

	buf_reserve(text, 1);
	if (x->behaviour->echo)
		buf_slice(text, question);
	else if (x->behaviour->text != NULL)
		buf_json(text, x->behaviour->text);
	else
	{
		question.len = json_prefix(question, QUOTED_CHARS);
		buf_str(text, "simulated answer to ");
		buf_slice(text, question);
		if (x->behaviour->tokens_out >= 0)
			fit_text(text,
					 x->behaviour->tokens_out > 0 ? (size_t) x->behaviour->tokens_out * 4 - 1 : 0);
	}
}

/* The text stays valid until the next call. */
void
content_make(Exchange *x, Content *content)
{
	static Buf text;
	const Behaviour *behaviour = x->behaviour;
	int64_t max_tokens = x->fields.max_tokens;

	text.len = 0;
	memset(content, 0, sizeof(*content));
	write_text(x, &text);
	content->completion_tokens = behaviour->tokens_out >= 0
									 ? behaviour->tokens_out
									 : tokens_of(json_chars((Slice){text.data, text.len}));
	if (max_tokens >= 0 && content->completion_tokens > max_tokens)
	{
		content->cut_by_max_tokens = true;
		content->completion_tokens = max_tokens;
		text.len = json_prefix((Slice){text.data, text.len},
							   max_tokens > 0 ? (size_t) max_tokens * 4 - 1 : 0);
	}
	content_add_oddities(behaviour, &text);
	content->text = (Slice){text.data, text.len};
	content->prompt_tokens =
		behaviour->tokens_in >= 0 ? behaviour->tokens_in : tokens_of(x->fields.prompt_chars);
	if (behaviour->cached > 0)
		content->cached_tokens = behaviour->cached;
	if (behaviour->reasoning > 0)
		content->reasoning_tokens = behaviour->reasoning;
}

/*
 * Cuts before spaces: never inside an escape sequence or a character.  Long
 * texts come in larger pieces, or their events would take a hundred times
 * their memory.
 */
bool
content_next_piece(const Content *content, Slice *rest, Slice *piece)
{
	size_t skip = content->text.len / MAX_PIECES + 1;
	const char *space = NULL;

	if (rest->len == 0)
		return false;
	*piece = *rest;
	if (rest->len > skip)
		space = memchr(rest->p + skip, ' ', rest->len - skip);
	if (space != NULL)
		piece->len = space - rest->p;
	rest->p += piece->len;
	rest->len -= piece->len;
	return true;
}

/* What a JSON string should not hold, on request. */
void
content_add_oddities(const Behaviour *behaviour, Buf *out)
{
	if (behaviour->nul)
		buf_str(out, " nul \\u0000 here");
	if (behaviour->raw_nul)
		buf_add(out, " raw nul \0 here", 15);
	if (behaviour->latin1)
		buf_str(out, " caf\xe9 latin1");
	if (behaviour->surrogate)
		buf_str(out, " surrogate \\ud800 here");
}
