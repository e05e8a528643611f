#!/bin/bash
# Checks every endpoint and behaviour of the provider simulator.
# Needs curl, jq and gzip.  Prints "provider: N passed, N failed" at the end.
set -u
cd "$(dirname "$0")" || exit 2

work=$(mktemp -d)
passed=0
failed=0
sim_pid=

stop_simulator()
{
	[ -n "$sim_pid" ] && kill "$sim_pid" 2>/dev/null
	rm -rf "$work"
}
trap stop_simulator EXIT

pass()
{
	passed=$((passed + 1))
}

fail()
{
	failed=$((failed + 1))
	printf 'FAILED %s\n  got:      %s\n  expected: %s\n' "$1" "${2:0:300}" "$3"
}

# is NAME GOT EXPECTED: the same text
is()
{
	if [ "$2" = "$3" ]; then pass; else fail "$1" "$2" "$3"; fi
}

# like NAME GOT PATTERN: a shell pattern
like()
{
	# shellcheck disable=SC2053
	if [[ $2 == $3 ]]; then pass; else fail "$1" "$2" "$3"; fi
}

# between NAME NUMBER LOW HIGH
between()
{
	if awk -v n="$2" -v low="$3" -v high="$4" 'BEGIN { exit !(n >= low && n <= high) }'
	then pass; else fail "$1" "$2" "$3 to $4"; fi
}

# within SECONDS COMMAND...: run it until it succeeds, or the deadline
within()
{
	local deadline=$((SECONDS + $1 + 1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		read -rt 0.02 <> <(:)
	done
	return 0
}

post()
{
	local path=$1 body=$2
	shift 2
	curl -sS -m 5 -H 'Content-Type: application/json' -d "$body" "$@" "$url$path" 2>&1
}

question='{"model":"sim-chat","user":"nonce-1","messages":[{"role":"user","content":"one"},{"role":"assistant","content":"two"},{"role":"user","content":"h\u00e9 \"three\""}]}'
streamed='{"model":"sim-chat","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"stream it please"}]}'
claude='{"model":"sim-claude","max_tokens":100,"metadata":{"user_id":"nonce-2"},"system":"be brief","messages":[{"role":"user","content":[{"type":"text","text":"hello"}]}]}'
anthropic=(-H 'x-api-key: k' -H 'anthropic-version: 2023-06-01')

# chat BEHAVIOUR [curl options]
chat()
{
	local behaviour=$1
	shift
	post /v1/chat/completions "$question" -H "X-Sim: $behaviour" "$@"
}

stream()
{
	local behaviour=$1
	shift
	post /v1/chat/completions "$streamed" -H "X-Sim: $behaviour" "$@"
}

status_of()
{
	"$@" -o /dev/null -w '%{http_code}'
}

# curl's own exit code; errors are expected here
exit_of()
{
	"$@" -o /dev/null >/dev/null 2>&1
	echo $?
}

stat()
{
	curl -sS "$url/_sim/stats" | jq -r "$1"
}

default()
{
	post /_sim/default "$1" -o /dev/null
}

reset()
{
	post /_sim/reset '' -o /dev/null
}

# raw BYTES: send them as they are, print what comes back
raw()
{
	exec 3<>"/dev/tcp/127.0.0.1/$port"
	# shellcheck disable=SC2059
	printf "$1" >&3
	timeout 3 cat <&3 2>/dev/null
	exec 3<&-
}

start_simulator()
{
	./eduai-simulator --port-file "$work/port" --journal "$work/journal" \
		--parent-pid $$ >"$work/log" 2>&1 &
	sim_pid=$!
	within 5 test -s "$work/port" || { cat "$work/log"; exit 2; }
	port=$(cat "$work/port")
	url=http://127.0.0.1:$port
	within 5 grep -q listening "$work/log"
	is 'announces its address' "$(cat "$work/log")" \
		"eduai provider simulator listening on $url"
}

test_chat()
{
	local got
	got=$(post /v1/chat/completions "$question" -i)
	like 'server header' "$got" $'*\r\nServer: eduai-simulator\r\n*'
	like 'request id' "$got" $'*\r\nx-request-id: req_sim_*'
	got=$(post /v1/chat/completions "$question")
	is 'chat shape' "$(jq -c '[.object, .model, (.id|type), (.created|type),
		.choices[0].index, .choices[0].message.role, .choices[0].finish_reason]' <<<"$got")" \
		'["chat.completion","sim-chat","string","number",0,"assistant","stop"]'
	is 'chat text' "$(jq -r '.choices[0].message.content' <<<"$got")" \
		'simulated answer to hé "three"'
	is 'chat usage' "$(jq -c '.usage|[.prompt_tokens, .completion_tokens, .total_tokens,
		.prompt_tokens_details.cached_tokens, .completion_tokens_details.reasoning_tokens]' <<<"$got")" \
		'[5,8,13,0,0]'
	is 'without /v1' "$(status_of post /chat/completions "$question")" 200
	is 'under /api/v1' "$(status_of post /api/v1/chat/completions "$question")" 200
	is 'n choices' "$(post /v1/chat/completions "${question/\{/\{\"n\":3,}" |
		jq -c '[.choices[].index]')" '[0,1,2]'
	got=$(post /v1/chat/completions "${question/\{/\{\"max_tokens\":3,}")
	is 'max_tokens' "$(jq -c '[.choices[0].message.content, .choices[0].finish_reason,
		.usage.completion_tokens]' <<<"$got")" '["simulated a","length",3]'
}

test_chat_errors()
{
	local got
	got=$(post /v1/chat/completions '{"messages":[]}')
	is 'model required' "$(jq -c '.error|[.type,.param,.code]' <<<"$got")" \
		'["invalid_request_error","model","missing_required_parameter"]'
	is 'messages required' "$(status_of post /v1/chat/completions '{"model":"m"}')" 400
	is 'not JSON' "$(status_of post /v1/chat/completions '{"model":')" 400
	is 'not UTF-8' "$(status_of post /v1/chat/completions $'{"model":"\xff"}')" 400
	is 'unknown path' "$(status_of post /v1/nothing '{}')" 404
	is 'wrong method' "$(curl -s -o /dev/null -w '%{http_code}' "$url/v1/embeddings")" 405
	got=$(chat 'no_such_key=1')
	like 'unknown behaviour' "$got" '*unknown behaviour key no_such_key*'
	like 'bad behaviour value' "$(chat 'error=2')" '*bad value of the behaviour key error*'
}

test_stream()
{
	local got
	got=$(stream '')
	is 'stream text' "$(sed -n 's/^data: //p' <<<"$got" | grep -v DONE |
		jq -rj '.choices[0].delta.content // empty')" 'simulated answer to stream it please'
	like 'stream end' "$got" $'*data: [[]DONE]'
	is 'stream finish' "$(grep -c '"finish_reason":"stop"' <<<"$got")" 1
	is 'stream usage' "$(grep '"choices":\[\]' <<<"$got" | sed 's/^data: //' |
		jq -c '.usage.completion_tokens')" 10
	is 'stream type' "$(stream '' -o /dev/null -w '%{content_type}')" \
		'text/event-stream; charset=utf-8'
	is 'no_done' "$(stream no_done | grep -c DONE)" 0
	is 'no_finish' "$(stream no_finish | grep -c '"finish_reason":"')" 0
	is 'no_usage' "$(stream no_usage | grep -c '"usage"')" 0
	is 'no_finish, not streamed' "$(chat no_finish | jq '.choices[0]|has("finish_reason")')" false
	is 'no_usage, not streamed' "$(chat no_usage | jq 'has("usage")')" false
}

test_embeddings()
{
	local one many
	one=$(post /v1/embeddings '{"model":"sim-embedding","input":"h\u00e9"}')
	many=$(post /v1/embeddings '{"model":"sim-embedding","input":["x","hé"],"dimensions":8}')
	is 'embeddings shape' "$(jq -c '[.object, .model, .data[0].object, .data[0].index,
		(.data[0].embedding|length), .usage.prompt_tokens]' <<<"$one")" \
		'["list","sim-embedding","embedding",0,8,1]'
	is 'embeddings are of the text' "$(jq -c '.data[0].embedding' <<<"$one")" \
		"$(jq -c '.data[1].embedding' <<<"$many")"
	between 'embeddings have length one' \
		"$(jq '[.data[0].embedding[]|.*.]|add' <<<"$one")" 0.999 1.001
	is 'dimensions' "$(post /v1/embeddings '{"model":"m","input":"a","dimensions":256}' |
		jq '.data[0].embedding|length')" 256
	is 'base64' "$(post /v1/embeddings '{"model":"m","input":"a","encoding_format":"base64"}' |
		jq -r '.data[0].embedding' | base64 -d | wc -c)" 32
	is 'tokens as input' "$(post /v1/embeddings '{"model":"m","input":[1,2,3]}' |
		jq -c '[(.data|length), .usage.total_tokens]')" '[1,4]'
	is 'input required' "$(status_of post /v1/embeddings '{"model":"m"}')" 400
}

test_images()
{
	local got
	got=$(post /v1/images/generations '{"model":"sim-image","prompt":"a \"cat\"","n":2}')
	is 'images' "$(jq '.data|length' <<<"$got")" 2
	is 'image is a PNG' "$(jq -r '.data[0].b64_json' <<<"$got" | base64 -d | head -c4 | tail -c3)" PNG
	got=$(post /v1/images/generations '{"model":"m","prompt":"p","response_format":"url"}' |
		jq -r '.data[0].url')
	is 'image url' "$(curl -s "$got" | head -c4 | tail -c3)" PNG
	is 'prompt required' "$(status_of post /v1/images/generations '{"model":"m"}')" 400
}

test_transcriptions()
{
	local got
	head -c 40000 /dev/urandom >"$work/audio"
	got=$(curl -sS -F model=sim-speech -F user=nonce-3 -F "file=@$work/audio" "$url/v1/audio/transcriptions")
	is 'transcription' "$(jq -c '[.text, .usage.type, .usage.seconds]' <<<"$got")" \
		'["simulated answer: transcript of 40000 bytes","duration",3]'
	got=$(curl -sS -F model=m -F response_format=text -F "file=@$work/audio" "$url/v1/audio/transcriptions")
	is 'transcription as text' "$got" 'simulated answer: transcript of 40000 bytes'
	is 'file required' "$(curl -sS -F model=m -o /dev/null -w '%{http_code}' "$url/v1/audio/transcriptions")" 400
	is 'form required' "$(status_of post /v1/audio/transcriptions '{}')" 400
	is 'behaviour in a form' "$(curl -sS -F model=m@status=503 -F "file=@$work/audio" \
		-o /dev/null -w '%{http_code}' "$url/v1/audio/transcriptions")" 503
	head -c 3000000 /dev/zero >"$work/audio"
	got=$(curl -sS -m 5 -H 'Expect: 100-continue' -F model=m -F "file=@$work/audio" "$url/v1/audio/transcriptions")
	like 'a large upload with Expect' "$got" '*of 3000000 bytes*'
}

test_models()
{
	is 'models' "$(curl -s "$url/v1/models" | jq -c '[.object, .data[0].object]')" '["list","model"]'
}

test_messages()
{
	local got
	got=$(post /v1/messages "$claude" "${anthropic[@]}")
	is 'messages shape' "$(jq -c '[.type, .role, .model, .content[0].type, .content[0].text,
		.stop_reason, .usage.input_tokens, .usage.output_tokens,
		.usage.cache_read_input_tokens]' <<<"$got")" \
		'["message","assistant","sim-claude","text","simulated answer to hello","end_turn",4,7,0]'
	like 'anthropic request id' "$(post /v1/messages "$claude" "${anthropic[@]}" -i)" \
		$'*\r\nrequest-id: req_sim_*'
	is 'key required' "$(post /v1/messages "$claude" -H 'anthropic-version: x' |
		jq -c '[.type, .error.type]')" '["error","authentication_error"]'
	like 'version required' "$(post /v1/messages "$claude" -H 'x-api-key: k')" \
		'*anthropic-version: header is required*'
	like 'max_tokens required' "$(post /v1/messages '{"model":"m","messages":[]}' "${anthropic[@]}")" \
		'*max_tokens: Field required*'
	is 'cached tokens are not input' "$(post /v1/messages "$claude" "${anthropic[@]}" \
		-H 'X-Sim: tokens_in=100;cached=60' |
		jq -c '.usage|[.input_tokens, .cache_read_input_tokens]')" '[40,60]'
	is 'overloaded' "$(post /v1/messages "$claude" "${anthropic[@]}" -H 'X-Sim: status=529' |
		jq -r '.error.type')" overloaded_error
	got=$(post /v1/messages "${claude/\{/\{\"stream\":true,}" "${anthropic[@]}")
	is 'anthropic stream' "$(sed -n 's/^event: //p' <<<"$got" | uniq | tr '\n' ' ')" \
		'message_start content_block_start ping content_block_delta content_block_stop message_delta message_stop '
	is 'anthropic stream text' "$(sed -n 's/^data: //p' <<<"$got" | jq -rj '.delta.text // empty')" \
		'simulated answer to hello'
}

test_choice_of_behaviour()
{
	default '{"behaviour":"status=500"}'
	default '{"model":"sim-chat","behaviour":"status=503"}'
	is 'default of the model' "$(status_of post /v1/chat/completions "$question")" 503
	is 'global default' "$(status_of post /v1/chat/completions "${question/sim-chat/other}")" 500
	is 'suffix before defaults' \
		"$(status_of post /v1/chat/completions "${question/sim-chat/sim-chat@status=409}")" 409
	is 'header before suffix' "$(post /v1/chat/completions "${question/sim-chat/sim-chat@status=409}" \
		-H 'X-Sim: status=408' -o /dev/null -w '%{http_code}')" 408
	reset
	is 'echoed model' "$(post /v1/chat/completions "${question/sim-chat/sim-chat@latency=1;echo}" |
		jq -r .model)" sim-chat
}

test_time()
{
	between 'latency' "$(chat latency=150 -o /dev/null -w '%{time_total}')" 0.150 0.4
	between 'lognormal latency' "$(chat latency=lognormal:50:51 -o /dev/null -w '%{time_total}')" 0.045 0.3
	between 'error_latency' "$(chat 'latency=3000;error_latency=20;status=429' -o /dev/null -w '%{time_total}')" 0.02 0.3
	between 'first_byte' "$(chat first_byte=100 -o /dev/null -w '%{time_starttransfer}')" 0.1 0.35
	between 'body after first_byte' "$(chat 'first_byte=50;latency=200' -o /dev/null \
		-w '%{time_total}')" 0.2 0.45
	between 'stream begins' "$(stream 'first_byte=50;latency=300' -N -o /dev/null \
		-w '%{time_starttransfer}')" 0.05 0.25
	between 'stream ends' "$(stream 'first_byte=50;latency=300' -o /dev/null -w '%{time_total}')" 0.3 0.6
	between 'chunk_ms' "$(stream chunk_ms=20 -o /dev/null -w '%{time_total}')" 0.16 0.5
}

test_statuses()
{
	local status
	for status in 400 401 402 403 404 408 409 413 429 500 502 503 529; do
		is "status $status" "$(chat "status=$status" -w ' %{http_code}' |
			sed 's/^{"error":{"message":"simulated error: [^"]*","type":"[a-z_]*","param":.*}}//')" " $status"
	done
	is 'code' "$(chat code=context_length_exceeded -w ' %{http_code}' |
		sed 's/.*"param":"messages","code":"context_length_exceeded"}}//')" ' 400'
	is 'quota' "$(chat 'status=429;code=insufficient_quota' | jq -c '.error|[.type,.code]')" \
		'["insufficient_quota","insufficient_quota"]'
	is 'policy' "$(chat code=content_policy_violation | jq -r .error.code)" content_policy_violation
	like 'retry_after' "$(chat 'status=429;retry_after=Fri,+31+Dec+1999+23%3A59%3A59+GMT' -i)" \
		$'*\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n*'
	like 'retry_after_ms' "$(chat 'status=429;retry_after_ms=1500' -i)" $'*\r\nRetry-After-Ms: 1500\r\n*'
	like 'should_retry' "$(chat 'status=429;should_retry=false' -i)" $'*\r\nx-should-retry: false\r\n*'
	like 'limit_requests' "$(chat 'limit_requests=60:59:1.2s;limit_tokens=:0:6ms' -i)" \
		$'*x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\nx-ratelimit-reset-requests: 1.2s\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 6ms\r\n*'
	is 'error200' "$(chat error200 -w ' %{http_code}' | jq -c '.error?.code? // .' | tr '\n' ' ')" '502 200 '
	is 'redirect' "$(chat 'redirect=http%3A//127.0.0.1%3A1/x' -o /dev/null \
		-w '%{http_code} %{redirect_url}')" '302 http://127.0.0.1:1/x'
}

test_chance()
{
	local i count
	is 'error=1' "$(status_of chat error=1)" 500
	is 'error=0' "$(status_of chat 'error=0;status=429')" 200
	is 'error with status' "$(status_of chat 'error=1;status=429')" 429
	for i in 1 2 3 4; do
		is "fail_first, request $i" "$(post /v1/chat/completions "${question/nonce-1/ff}" \
			-H 'X-Sim: fail_first=2;status=502' -o /dev/null -w '%{http_code}')" \
			"$([ "$i" -le 2 ] && echo 502 || echo 200)"
	done
	is 'fail_first, another nonce' "$(post /v1/chat/completions "${question/nonce-1/gg}" \
		-H 'X-Sim: fail_first=2;status=502' -o /dev/null -w '%{http_code}')" 502
	is 'flap, on' "$(status_of chat flap=1000:0)" 200
	is 'flap, off' "$(status_of chat flap=0:1000)" 503
	default '{"behaviour":"error=0.5"}'
	count=$(post '/v1/chat/completions?[1-40]' "$question" -o /dev/null -w '%{http_code}\n' | grep -c 500)
	reset
	between 'half of them fail' "$count" 8 32
}

open_is()
{
	[ "$(stat .open)" = "$1" ]
}

outcome_is()
{
	[ "$(stat ".$1")" = "$2" ]
}

test_hanging()
{
	local client
	reset
	curl -s -m 30 -H 'X-Sim: silent' -d "$question" "$url/v1/chat/completions" &
	client=$!
	within 5 open_is 1 || fail 'silent is open' "$(stat .)" 'open 1'
	is 'silent is pending' "$(curl -s "$url/_sim/journal" | jq -c '.[-1]|[.plan,.outcome,.status]')" \
		'["silent","pending",0]'
	kill "$client"
	wait "$client" 2>/dev/null
	if within 5 outcome_is aborted 1; then pass; else fail aborted "$(stat .)" 'aborted 1'; fi
	is 'no longer open' "$(stat .open)" 0
	is 'stall_after' "$(chat stall_after=10 -m 0.3 -w '%{http_code} %{size_download} %{exitcode}' -o /dev/null 2>/dev/null |
		tail -n1)" '200 10 28'
	is 'stall_after in a stream' "$(stream stall_after=100000 -m 0.3 -o /dev/null -w '%{exitcode}' 2>/dev/null |
		tail -n1)" 28
	is 'cut_after' "$(exit_of chat cut_after=10)" 18
	is 'cut_after behind the end' "$(exit_of chat cut_after=100000)" 18
	is 'cut_after in a stream' "$(exit_of stream cut_after=300)" 18
	is 'reset' "$(exit_of chat reset)" 56
	within 5 outcome_is broken 4
	is 'broken outcomes' "$(stat .broken)" 4
}

test_forms()
{
	local got
	like 'garbage' "$(chat garbage)" '*garbage*not JSON'
	is 'malformed_chunk' "$(exit_of chat malformed_chunk)" 56
	is 'wrong_type' "$(chat wrong_type -o "$work/out" -w '%{content_type}')" 'text/html; charset=utf-8'
	is 'wrong_type is JSON' "$(jq -r .object "$work/out")" chat.completion
	like 'nul' "$(chat nul)" '*\\u0000*'
	is 'raw_nul' "$(chat raw_nul | LC_ALL=C tr -dc '\0' | wc -c)" 1
	is 'latin1' "$(chat latin1 | LC_ALL=C tr -dc '\351' | wc -c)" 1
	like 'surrogate' "$(chat surrogate)" '*\\ud800*'
	is 'giant' "$(chat giant=5000000 | tee "$work/out" | wc -c)" 5000000
	is 'giant is JSON' "$(jq -r .object "$work/out")" chat.completion
	is 'giant stream' "$(stream giant=300000 | wc -c)" 300000
	got=$(chat giant_headers=100000 -D "$work/head" -o /dev/null -w '%{http_code} %{size_header}')
	like 'giant_headers' "$got" '200 100*'
	chat gzip_bomb=7000000 -o "$work/bomb"
	is 'gzip_bomb inflates' "$(gzip -dc <"$work/bomb" | tee "$work/out" | wc -c)" 7000000
	is 'gzip_bomb is JSON' "$(jq -r .object "$work/out")" chat.completion
	between 'gzip_bomb is small' "$(wc -c <"$work/bomb")" 100 20000
	is 'gzip of a plain answer' "$(chat gzip_bomb=0 --compressed | jq -r .object)" chat.completion
}

# What goes wrong in a stream, or is only unusual.
test_stream_faults()
{
	local got messages
	messages=${claude/\{/\{\"stream\":true,}
	got=$(stream stream_error)
	is 'stream_error' "$(sed -n 's/^data: //p' <<<"$got" | tail -n1 |
		jq -c '[.error.code, .choices[0].finish_reason]')" '[529,"error"]'
	is 'stream_error has text before it' "$(grep -c '"content":"simulated"' <<<"$got")" 1
	is 'stream_error, by name' "$(stream 'stream_error;code=rate_limit_exceeded' | sed -n 's/^data: //p' |
		tail -n1 | jq -r .error.code)" rate_limit_exceeded
	got=$(post /v1/messages "$messages" "${anthropic[@]}" -H 'X-Sim: stream_error')
	is 'stream_error of messages' "$(tail -n2 <<<"$got" | tr '\n' ' ' | cut -c1-100)" \
		'event: error data: {"type":"error","error":{"type":"overloaded_error","message":"simulated error: ov'
	is 'bad_event' "$(stream bad_event | sed -n 's/^data: //p' | grep -v DONE | jq -c . 2>&1 >/dev/null | grep -c error)" 1
	is 'bad_event goes on' "$(stream bad_event | grep -c DONE)" 1
	is 'comments' "$(stream comments | grep -c '^: simulated comment$')" "$(stream '' | grep -c '^data: ')"
	is 'crlf' "$(stream crlf | grep -c $'\r$')" "$(stream '' | wc -l)"
	is 'crlf is the same otherwise' "$(stream crlf | tr -d '\r' | grep -v '"id"' | cksum)" "$(stream '' | grep -v '"id"' | cksum)"
	is 'chunk_bytes' "$(stream chunk_bytes=26 --raw | grep -cx $'1a\r')" $(($(stream '' | wc -c) / 26))
	is 'chunk_bytes is the same otherwise' "$(stream chunk_bytes=7 | grep -v '"id"' | cksum)" "$(stream '' | grep -v '"id"' | cksum)"
	is 'no_stream' "$(stream no_stream | jq -r .object)" chat.completion
	is 'no_stream of messages' "$(post /v1/messages "$messages" "${anthropic[@]}" -H 'X-Sim: no_stream' | jq -r .type)" message
	got=$(stream 'heartbeat=20;latency=200' -w '%{time_total}')
	is 'heartbeat' "$(grep -c '^: simulated heartbeat' <<<"$got")" 10
	between 'heartbeat takes its time' "$(tail -n1 <<<"$got")" 0.2 1
	is 'heartbeat without a stream' "$(chat 'heartbeat=20;latency=200' | head -c 10 | tr -d '\n' | wc -c)" 0
	is 'heartbeat without a stream is JSON' "$(chat 'heartbeat=20;latency=100' | jq -r .object)" chat.completion
}

# Bytes that are given, and framing that is wrong or rare.
test_wire()
{
	local got
	is 'body' "$(chat 'body=%3Chtml%3E;status=502;type=text/html' -w ' %{http_code} %{content_type}')" '<html> 502 text/html'
	is 'an empty body' "$(chat 'body=' -w '%{http_code} %{size_download}')" '200 0'
	is 'body for those that fail' "$(post /v1/chat/completions "${question/nonce-1/bb}" \
		-H 'X-Sim: fail_first=1;body=x' -o /dev/null -w '%{size_download}')" 1
	is 'and the next is whole' "$(post /v1/chat/completions "${question/nonce-1/bb}" \
		-H 'X-Sim: fail_first=1;body=x' | jq -r .object)" chat.completion
	is 'first' "$(for i in 1 2; do post /v1/chat/completions "${question/nonce-1/cc}" -H 'X-Sim: first=1;hangup' \
		-o /dev/null -w '%{http_code}\n' | tail -n1; done | tr '\n' ' ')" '000 200 '
	is 'hangup' "$(exit_of chat hangup)" 52
	is 'no type' "$(chat 'type=' -o /dev/null -w '%{content_type}')" ''
	like 'headers' "$(chat 'headers=A: 1%0D%0AA: 2%0D%0A%20folded' -i)" $'*\r\nA: 1\r\nA: 2\r\n folded\r\n*'
	got=$(chat 'status=429;retry_date=100' -o /dev/null -D - | sed -n 's/^Retry-After: \(.*\)\r$/\1/p')
	between 'retry_date' "$(($(date -d "$got" +%s) - $(date +%s)))" 95 100
	like 'encoding' "$(chat encoding=simulated -i)" $'*\r\nContent-Encoding: simulated\r\n*'
	is 'a length too long' "$(exit_of chat 'length=100000;close')" 18
	is 'a length too short' "$(chat length=10 | wc -c)" 10
	is 'until_close' "$(chat until_close | jq -r .object)" chat.completion
	is 'until_close tells no length' "$(chat until_close -i | grep -ciE '^(content-length|transfer-encoding|connection):')" 0
	is 'close is not announced' "$(chat close -i | grep -ci '^connection:')" 0
	is 'close closes' "$(post "/v1/chat/completions?[1-2]" "$question" -H 'X-Sim: close' -o /dev/null -w '%{num_connects}')" 11
	like 'trailers' "$(chat trailers --raw)" $'*\r\n0\r\nRetry-After: 3600\r\nX-Simulated-Trailer: yes\r*'
	is 'trailers, to who understands them' "$(chat trailers | jq -r .object)" chat.completion
	is 'interim' "$(chat interim=3 -i | grep -c '^HTTP/1.1 103')" 3
	is 'interim, then the answer' "$(chat interim=3 | jq -r .object)" chat.completion
	chat giant=100000 -o /dev/null
	between 'sent_bytes' "$(curl -s "$url/_sim/journal?after=$(($(stat .last_seq) - 1))" | jq '.[0].sent_bytes')" 100000 101000
}

test_content()
{
	is 'echo' "$(chat echo | jq -r '.choices[0].message.content')" 'hé "three"'
	is 'text' "$(chat 'text=two+words%3B+"quoted"+%C3%A9' | jq -r '.choices[0].message.content')" \
		'two words; "quoted" é'
	is 'tokens_out' "$(chat tokens_out=50 | jq -c '[.usage.completion_tokens,
		(.choices[0].message.content|length)]')" '[50,199]'
	is 'tokens' "$(chat 'tokens_in=100;cached=60;reasoning=5;tokens_out=20;cost=0.0125' |
		jq -c '.usage|[.prompt_tokens, .prompt_tokens_details.cached_tokens, .total_tokens,
		.completion_tokens_details.reasoning_tokens, .cost]')" '[100,60,120,5,0.0125]'
}

test_control()
{
	reset
	chat status=429 -o /dev/null -H 'Idempotency-Key: key-1'
	post /v1/messages "$claude" "${anthropic[@]}" -o /dev/null
	is 'stats' "$(stat '[.requests, .open, .completed, .by_status["429"], .by_status["200"],
		.connections]|tostring')" '[2,0,2,1,1,2]'
	is 'journal' "$(curl -s "$url/_sim/journal" | jq -c '[.[]|[.endpoint, .model, .user,
		.idempotency_key, .status, .outcome]]')" \
		'[["chat","sim-chat","nonce-1","key-1",429,"sent"],["messages","sim-claude","nonce-2","",200,"sent"]]'
	is 'journal body' "$(curl -s "$url/_sim/journal?limit=1" | jq -c '.[0]|[.body_bytes,
		(.body_fnv64|length), (.arrival_us >= .first_byte_us), (.done_us >= .arrival_us)]')" \
		"[$(printf %s "$question" | wc -c),16,true,true]"
	is 'journal after' "$(curl -s "$url/_sim/journal?after=$(stat .last_seq)" | jq length)" 0
	is 'bad default' "$(status_of post /_sim/default '{"behaviour":"nonsense"}')" 400
	is 'unknown control' "$(curl -s -o /dev/null -w '%{http_code}' "$url/_sim/nothing")" 404
	post /_sim/key '{"key":"secret"}' -o /dev/null
	is 'no key' "$(post /v1/chat/completions "$question" | jq -r .error.code)" invalid_api_key
	is 'wrong key' "$(chat '' -H 'Authorization: Bearer x' -o /dev/null -w '%{http_code}')" 401
	is 'right key' "$(chat '' -H 'Authorization: Bearer secret' -o /dev/null -w '%{http_code}')" 200
	is 'wrong anthropic key' "$(status_of post /v1/messages "$claude" "${anthropic[@]}")" 401
	reset
	is 'after a reset' "$(stat '[.requests, .completed]|tostring')" '[0,0]'
	is 'no key after a reset' "$(status_of post /v1/chat/completions "$question")" 200
}

in_journal_file()
{
	grep -q "$1" "$work/journal"
}

test_journal_file()
{
	post /v1/chat/completions "${question/nonce-1/tab\\there}" -H 'Idempotency-Key: key-2' -o /dev/null
	within 1 in_journal_file key-2
	is 'journal file' "$(grep key-2 "$work/journal" | cut -f4-7,10,11)" \
		$'chat\tsim-chat\ttab\\x09here\tkey-2\t200\tanswer'
	is 'columns' "$(awk -F'\t' '{ print NF }' "$work/journal" | sort -u)" 11
}

many_open()
{
	[ "$(stat .open)" -ge "$1" ]
}

test_hostile()
{
	local got i
	like 'noise' "$(raw '\x16\x03\x01\x00\n\n')" 'HTTP/1.1 400 *'
	like 'bad length' "$(raw 'POST /v1/x HTTP/1.1\r\nContent-Length: -1\r\n\r\n')" 'HTTP/1.1 400 *'
	like 'too large' "$(raw 'POST /v1/x HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n')" 'HTTP/1.1 413 *'
	like 'bad chunk' "$(raw 'POST /v1/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n')" 'HTTP/1.1 400 *'
	like 'both framings' "$(raw 'POST /v1/x HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n')" 'HTTP/1.1 400 *'
	got=$(head -c 300000 /dev/zero | tr '\0' a)
	is 'head too large' "$(curl -s -m 5 -o /dev/null -w '%{http_code}' -H @- "$url/v1/models" <<<"X-Long: $got")" 431
	is 'deep JSON' "$(printf '%0100000d' 0 | tr 0 '[' |
		curl -s -m 5 -o /dev/null -w '%{http_code}' --data-binary @- "$url/v1/chat/completions")" 400
	is 'chunked request' "$(chat echo -H 'Transfer-Encoding: chunked' | jq -r '.choices[0].message.content')" 'hé "three"'
	got=$(raw 'POST /v1/embeddings HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"model":"m","in\r\nA;x=y\r\nput":"ab"}\r\n0\r\nTrailer: t\r\n\r\nGET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n')
	is 'pipelined' "$(grep -o 'HTTP/1.1 200' <<<"$got" | wc -l)" 2
	like 'HTTP/1.0 closes' "$(raw 'GET /v1/models HTTP/1.0\r\n\r\n')" $'*Connection: close\r\n*"object":"list"*'
	is 'lone surrogate in' "$(post /v1/chat/completions '{"model":"\ud800","user":"\u0000","messages":[{"role":"user","content":"\udc00"}]}' |
		jq -r .object)" chat.completion
	reset
	for i in $(seq 300); do
		exec {fd}<>"/dev/tcp/127.0.0.1/$port"
		printf 'GET /v1/models HTTP/1.1\r\nX-Sim: silent\r\n\r\n' >&"$fd"
		held[i]=$fd
	done
	if within 5 many_open 300; then pass; else fail 'many hang' "$(stat .)" 'open 300'; fi
	is 'and it still answers' "$(status_of post /v1/chat/completions "$question")" 200
	for fd in "${held[@]}"; do exec {fd}>&-; done
	if within 5 outcome_is aborted 300; then pass; else fail 'all leave' "$(stat .)" 'aborted 300'; fi
}

gone()
{
	! kill -0 "$1" 2>/dev/null
}

test_end()
{
	local other
	kill -TERM "$sim_pid"
	wait "$sim_pid"
	is 'SIGTERM ends it' $? 0
	sim_pid=
	is 'nothing on stderr' "$(wc -l <"$work/log")" 1
	# A parent that ends as soon as the simulator listens.
	rm -f "$work/port"
	bash -c "./eduai-simulator --port-file $work/port --parent-pid \$\$ >/dev/null & echo \$! >$work/pid
		until [ -s $work/port ]; do :; done"
	other=$(cat "$work/pid")
	if within 5 gone "$other"; then pass; else fail 'follows its parent' "$other" gone; kill "$other"; fi
}

start_simulator
for name in chat chat_errors stream embeddings images transcriptions models messages \
	choice_of_behaviour time statuses chance hanging forms stream_faults wire content control \
	journal_file hostile end; do
	"test_$name"
done
echo "provider: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
