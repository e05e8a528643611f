// A provider over HTTP/2 and TLS, for gateway_http2.pl: what it does to a
// request depends on its model. It listens on a free port of 127.0.0.1, says so
// in PORT_FILE, and leaves with its parent.
//
//   node h2_server.mjs KEY CERTIFICATE PORT_FILE
//
// Models: plain (JSON), stream (events), held (a head and an event, then
// nothing), mute (nothing), refused (REFUSED_STREAM, which asks to be sent
// again). Its control port (plain HTTP/1.1, second in PORT_FILE): GET /stats;
// GET /cut closes every connection at once; GET /goaway ends them politely.

import http from 'node:http';
import http2 from 'node:http2';
import fs from 'node:fs';

const [key, cert, portFile] = process.argv.slice(2);
const sessions = new Set();
const stats = { requests: 0, connections: 0, open: 0, versions: {} };
const answer = JSON.stringify({
	id: 'c', object: 'chat.completion', model: 'm',
	choices: [{ index: 0, message: { role: 'assistant', content: 'over h2' }, finish_reason: 'stop' }],
	usage: { prompt_tokens: 10, completion_tokens: 5 } });
const chunk = (delta, finish) => `data: ${JSON.stringify({ id: 'c', model: 'm', choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;

function answerTo(model, response)
{
	if (model === 'mute') return;
	if (model === 'refused') {
		response.stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
		return;
	}
	if (model === 'plain') {
		response.writeHead(200, { 'content-type': 'application/json' });
		response.end(answer);
		return;
	}
	response.writeHead(200, { 'content-type': 'text/event-stream' });
	response.write(chunk({ role: 'assistant', content: 'over ' }, null));
	if (model === 'held') return;
	response.write(chunk({ content: 'h2' }, 'stop'));
	response.end('data: [DONE]\n\n');
}

const server = http2.createSecureServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert), allowHTTP1: true });
server.on('session', session => {
	stats.connections++;
	sessions.add(session);
	session.on('close', () => sessions.delete(session));
	session.on('error', () => {});
});
server.on('request', (request, response) => {
	let body = '';
	request.on('error', () => {});
	response.on('error', () => {});
	// health checks are not counted
	if (request.method === 'GET') {
		response.end('{"data": []}');
		return;
	}
	stats.open++;
	stats.versions[request.httpVersion] = (stats.versions[request.httpVersion] ?? 0) + 1;
	response.on('close', () => stats.open--);
	request.on('data', data => body += data);
	request.on('end', () => {
		stats.requests++;
		answerTo(JSON.parse(body).model, response);
	});
});
const control = http.createServer((request, response) => {
	if (request.url === '/cut')
		for (const session of sessions) session.destroy();
	if (request.url === '/goaway')
		for (const session of sessions) session.close();
	response.end(JSON.stringify(stats));
});
server.listen(0, '127.0.0.1', () => control.listen(0, '127.0.0.1', () => {
	fs.writeFileSync(`${portFile}.new`, `${server.address().port} ${control.address().port}\n`);
	fs.renameSync(`${portFile}.new`, portFile);
}));
const parent = process.ppid;
setInterval(() => { if (process.ppid !== parent) process.exit(); }, 500);
