'use strict';

// The one connection to the Runtime API: HTTP/1.1 written and read by hand, requests pipelined, answers in their order.

const net = require('net');

const API = process.env.AWS_LAMBDA_RUNTIME_API;
const COLON = API.lastIndexOf(':');
const BASE = '/2018-06-01/runtime/';
const HOST = `Host: ${API}\r\nUser-Agent: hearth-nodejs/${process.versions.node}\r\n`;
// The status of an answer may come with the next call: nobody waits for it, and that is one wake-up a call less.
const NEXT = `GET ${BASE}invocation/next HTTP/1.1\r\n${HOST}Hearth-Runtime-Answers: together\r\n\r\n`;
const MAX_HEAD = 1 << 20;

let onNext; // what is done with the answer to NEXT
let socket;
let pending = null; // bytes that came and are no whole answer yet
let body = null; // of an answer whose head has been read
let waiting = []; // what to do with the answers to come, in the order of the requests
let closing = false; // the API said that it closes this connection

// open connects. The connection alone does not keep the process alive until something is awaited.
function open(invoke) {
  onNext = invoke;
  connect();
  socket.unref();
}

function connect() {
  closing = false;
  pending = body = null;
  socket = net.connect({ host: API.slice(0, COLON), port: Number(API.slice(COLON + 1)) });
  socket.setNoDelay(true);
  socket.on('data', receive);
  socket.on('error', () => {}); // close follows
  const own = socket;
  socket.on('close', () => {
    if (own !== socket) return;
    // After an answer that it refused the API may hang up with the next request unread: that one is asked again.
    if (closing && waiting.length === 1 && waiting[0] === onNext) {
      connect();
      socket.write(NEXT);
      return;
    }
    process.stderr.write('the runtime API closed the connection\n');
    process.exit(1);
  });
}

// receive cuts what arrives into answers.
function receive(chunk) {
  if (body !== null && body.bytes !== null) {
    const n = Math.min(chunk.length, body.bytes.length - body.filled);
    chunk.copy(body.bytes, body.filled, 0, n);
    body.filled += n;
    if (body.filled < body.bytes.length) return;
    chunk = chunk.subarray(n);
    answered(body.bytes);
    if (chunk.length === 0) return;
  }
  pending = pending === null ? chunk : Buffer.concat([pending, chunk]);
  while (pending !== null) {
    if (body === null) {
      const end = pending.indexOf('\r\n\r\n');
      if (end < 0) {
        if (pending.length > MAX_HEAD) throw new Error('the runtime API sent a head without an end');
        return;
      }
      body = parseHead(pending.toString('utf8', 0, end));
      rest(end + 4);
    }
    if (body.chunked) {
      if (!takeChunks()) return;
      continue;
    }
    const have = pending === null ? 0 : pending.length;
    if (have >= body.length) {
      const bytes = body.length === 0 ? Buffer.alloc(0) : pending.subarray(0, body.length);
      rest(body.length);
      answered(bytes);
      continue;
    }
    // Larger than what is here: gathered in one place, so that a long payload is copied once.
    body.bytes = Buffer.allocUnsafe(body.length);
    if (have > 0) pending.copy(body.bytes);
    body.filled = have;
    pending = null;
  }
}

function rest(from) {
  pending = pending !== null && from < pending.length ? pending.subarray(from) : null;
}

function parseHead(text) {
  const lines = text.split('\r\n');
  const headers = Object.create(null);
  for (let i = 1; i < lines.length; i++) {
    const colon = lines[i].indexOf(':');
    headers[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 1).trim();
  }
  if (headers.connection === 'close') closing = true;
  return {
    status: Number(lines[0].slice(9, 12)),
    headers,
    length: Number(headers['content-length'] || 0),
    chunked: headers['transfer-encoding'] === 'chunked',
    bytes: null,
    filled: 0,
  };
}

// takeChunks reads a whole chunked body, or nothing: Hearth itself sends none.
function takeChunks() {
  const parts = [];
  for (let at = 0; pending !== null; ) {
    const line = pending.indexOf('\r\n', at);
    if (line < 0) return false;
    const size = parseInt(pending.toString('latin1', at, line), 16);
    if (pending.length < line + 2 + size + 2) return false;
    if (size === 0) {
      rest(line + 4);
      answered(Buffer.concat(parts));
      return true;
    }
    parts.push(pending.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
  return false;
}

function answered(bytes) {
  const { status, headers } = body;
  body = null;
  waiting.shift()(status, headers, bytes);
}

// head is the beginning of a request that posts what it is followed by.
function head(what, type, more) {
  return `POST ${BASE}${what} HTTP/1.1\r\n${HOST}Content-Type: ${type}\r\n${more}\r\n`;
}

// post is a whole request with JSON; more are further header lines.
function post(what, text, more) {
  return head(what, 'application/json', `${more}Content-Length: ${Buffer.byteLength(text)}\r\n`) + text;
}

// send writes requests in one write; then are what is done with their answers. The process lives until those are there.
function send(bytes, ...then) {
  waiting.push(...then);
  socket.ref();
  socket.write(bytes);
}

// write sends a part of a request.
function write(bytes, done) {
  socket.write(bytes, done);
}

// expect adds what is done with the answer to a request that is being written in parts.
function expect(then) {
  waiting.push(then);
}

// release lets the process end when nothing but this connection is left.
function release() {
  socket.unref();
}

// forget drops what is done with the answers to come: nobody waits for them any more.
function forget() {
  waiting = [];
}

module.exports = { NEXT, open, head, post, send, write, expect, release, forget };
