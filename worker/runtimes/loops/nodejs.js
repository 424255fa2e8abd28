'use strict';

// The loop of the nodejs runtimes: asks Hearth's Runtime API for calls and gives them to the function's handler, as AWS's
// own client for Node does it (facts: handlers that return, await, or call back; CommonJS and ES modules; streamed
// answers), over one connection and without dependencies. An answer and the request for the next call leave in one write:
// each write saved is a wake-up of the worker saved, and those are most of what a warm call costs.

const net = require('net');
const path = require('path');
const fs = require('fs');
const util = require('util');
const { Writable } = require('stream');
const { createRequire } = require('module');
const { pathToFileURL } = require('url');

const API = process.env.AWS_LAMBDA_RUNTIME_API;
const COLON = API.lastIndexOf(':');
const ROOT = process.env.LAMBDA_TASK_ROOT;
const BASE = '/2018-06-01/runtime/';
const HOST = `Host: ${API}\r\nUser-Agent: hearth-nodejs/${process.versions.node}\r\n`;
const NEXT = `GET ${BASE}invocation/next HTTP/1.1\r\n${HOST}\r\n`;
const MAX_HEAD = 1 << 20;
const JSON_TYPE = 'application/json';

// ---- errors -----------------------------------------------------------------------------------------------------------

class RuntimeError extends Error {
  constructor(name, reason) {
    super(reason instanceof Error ? String(reason) : reason);
    this.name = `Runtime.${name}`;
  }
}

// errorObject is what a caller sees of whatever was thrown.
function errorObject(error) {
  try {
    if (util.types.isNativeError(error) || looksLikeError(error)) {
      return { errorType: error.name, errorMessage: error.message, trace: error.stack.split('\n') };
    }
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  } catch {
    return {
      errorType: 'handled',
      errorMessage: 'callback called with Error argument, but there was a problem while retrieving one or more of its ' +
        'message, name, and stack',
    };
  }
}

function looksLikeError(x) {
  return x && typeof x.name === 'string' && x.name !== '' && typeof x.message === 'string' && typeof x.stack === 'string';
}

function errorText(error) {
  try {
    return JSON.stringify(errorObject(error));
  } catch {
    return JSON.stringify({ errorType: 'handled', errorMessage: 'the error cannot be written as JSON', trace: [] });
  }
}

// ---- logs -------------------------------------------------------------------------------------------------------------

let requestId; // of the call that runs, in every line

function writeLine(level, text) {
  const line = text.includes('\n') ? text.replace(/\n/g, '\r') : text;
  process.stdout.write(`${new Date().toISOString()}\t${requestId}\t${level}\t${line}\n`);
}

function patchConsole() {
  const levels = { log: 'INFO', info: 'INFO', warn: 'WARN', error: 'ERROR', debug: 'DEBUG', trace: 'TRACE', fatal: 'FATAL' };
  for (const [name, level] of Object.entries(levels)) {
    console[name] = (...args) => writeLine(level, util.format(...args));
  }
}

// logError writes an error with all that it carries, on one line.
function logError(title, error) {
  let text;
  try {
    text = JSON.stringify(error, (_key, value) => {
      if (!(value instanceof Error)) return value;
      const all = { errorType: value.name, errorMessage: value.message, code: value.code, ...value };
      if (typeof value.stack === 'string') all.stack = value.stack.split('\n');
      return all;
    });
  } catch {
    text = errorText(error);
  }
  writeLine('ERROR', `${title} \t${text}`);
}

// ---- connection -------------------------------------------------------------------------------------------------------

let socket;
let pending = null; // bytes that came and are no whole answer yet
let body = null; // of an answer whose head has been read: {status, headers, bytes, filled}
let waiting = []; // what to do with the answers to come, in the order of the requests
let closing = false; // the API said that it closes this connection

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
    if (closing && waiting.length === 1 && waiting[0] === invoke) {
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

function post(what, type, text, more) {
  return `POST ${BASE}${what} HTTP/1.1\r\n${HOST}Content-Type: ${type}\r\n${more}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}

// answer sends the end of a call and asks for the next one, in one write.
function answer(id, what, text) {
  requestId = undefined;
  call = null;
  idle = null;
  waiting.push(accepted, invoke);
  socket.ref();
  socket.write(post(`invocation/${id}/${what}`, JSON_TYPE, text, '') + NEXT);
}

function accepted(status, _headers, bytes) {
  if (status !== 202) writeLine('ERROR', `the runtime API refused the answer: ${status} ${bytes.toString().trim()}`);
}

// ---- calls ------------------------------------------------------------------------------------------------------------

let handler;
let handlerIsAsync = false;
let streaming = false;
let loading = true; // the first call has not been asked for
let call = null; // {id} of the call that runs and has no answer
let idle = null; // what to do when nothing is left to happen

process.on('beforeExit', () => {
  const f = idle;
  idle = null;
  if (f !== null) f();
});

const fixed = {
  functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
  functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
  memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
  logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
  logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
};

function parseHeader(text) {
  return text ? JSON.parse(text) : undefined;
}

function buildContext(base, headers) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  return Object.assign(base, fixed, {
    clientContext: parseHeader(headers['lambda-runtime-client-context']),
    identity: parseHeader(headers['lambda-runtime-cognito-identity']),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  });
}

// invoke runs one call; it is what is done with the answer to NEXT.
function invoke(status, headers, bytes) {
  if (status !== 200) {
    process.stderr.write(`the runtime API has no next call: ${status} ${bytes.toString().trim()}\n`);
    process.exit(1);
  }
  const id = headers['lambda-runtime-aws-request-id'];
  const trace = headers['lambda-runtime-trace-id'];
  requestId = id;
  if (trace === undefined) delete process.env._X_AMZN_TRACE_ID;
  else process.env._X_AMZN_TRACE_ID = trace;
  call = { id };
  // The connection alone must not keep the event loop alive: that it is empty tells that the handler is through.
  socket.unref();
  if (streaming) invokeStreaming(id, headers, bytes);
  else invokeBuffered(id, headers, bytes);
}

function invokeBuffered(id, headers, bytes) {
  let waits = true; // callbackWaitsForEmptyEventLoop
  let finished = false;
  const once = (f) => (...args) => {
    if (finished || call === null || call.id !== id) return;
    finished = true;
    f(...args);
  };
  const fail = (error) => {
    logError('Invoke Error', error);
    answer(id, 'error', errorText(error));
  };
  const complete = (result) => {
    let text;
    try {
      text = JSON.stringify(result === undefined ? null : result);
    } catch (error) {
      fail(new RuntimeError('MarshalError', `Unable to stringify response body: ${error.message}`));
      return;
    }
    answer(id, 'response', text === undefined ? 'null' : text);
  };
  const succeed = once(complete);
  const failed = once((error) => fail(error === undefined || error === null ? 'handled' : error));
  const done = once((error, result) => (error === undefined || error === null ? complete(result) : fail(error)));
  const callback = once((error, result) => {
    if (error !== undefined && error !== null) fail(error);
    else if (!waits) complete(result);
    else idle = () => setImmediate(complete, result);
  });
  idle = () => {
    finished = true;
    // Nothing can happen any more that would answer. A plain function may have wanted to answer nothing.
    if (handlerIsAsync) fail(new RuntimeError('NodeJsExit', 'The handler ended without settling its promise.'));
    else answer(id, 'response', 'null');
  };
  try {
    const context = buildContext({
      get callbackWaitsForEmptyEventLoop() { return waits; },
      set callbackWaitsForEmptyEventLoop(value) { waits = value; },
      succeed, fail: failed, done,
    }, headers);
    const result = handler(JSON.parse(bytes.toString()), context, callback);
    if (result && typeof result.then === 'function') result.then(succeed, failed);
  } catch (error) {
    failed(error);
  }
}

// ---- streamed answers -------------------------------------------------------------------------------------------------

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const HTTP_TYPE = 'application/vnd.awslambda.http-integration-response';

// ResponseStream is the answer of a streaming handler: chunks as they are written, an error in the trailers.
class ResponseStream extends Writable {
  #id;
  #type = 'application/octet-stream';
  #prelude = null;
  begun = false;
  ended = false;

  constructor(id, options) {
    super(options);
    this.#id = id;
    this.on('error', () => {}); // told to the handler by its writes; the call's end is decided there
  }

  setContentType(type) {
    if (this.begun) throw new RuntimeError('InvalidStreamingOperation', 'Cannot set content-type, too late.');
    this.#type = type;
  }

  setPrelude(prelude) {
    this.setContentType(HTTP_TYPE);
    this.#prelude = prelude;
  }

  #head() {
    if (this.begun) return [];
    this.begun = true;
    waiting.push(accepted);
    const head = [Buffer.from(`POST ${BASE}invocation/${this.#id}/response HTTP/1.1\r\n${HOST}Content-Type: ${this.#type}\r\n` +
      'Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n' +
      'Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n')];
    if (this.#prelude !== null) {
      head.push(...framed(Buffer.concat([Buffer.from(JSON.stringify(this.#prelude)), Buffer.alloc(8)])));
    }
    return head;
  }

  _write(chunk, _encoding, done) {
    socket.write(Buffer.concat([...this.#head(), ...framed(chunk)]), done);
  }

  _final(done) {
    this.ended = true;
    socket.write(Buffer.concat([...this.#head(), Buffer.from('0\r\n\r\n')]), done);
  }

  // abort ends an answer that has begun with the error that cut it off.
  abort(error) {
    const object = errorObject(error);
    const type = String(object.errorType).replace(/[^\w.$-]/g, '_');
    this.ended = true;
    socket.write('0\r\n' +
      `Lambda-Runtime-Function-Error-Type: ${type}\r\n` +
      `Lambda-Runtime-Function-Error-Body: ${Buffer.from(JSON.stringify(object)).toString('base64')}\r\n\r\n`);
    this.destroy();
  }
}

function framed(chunk) {
  if (chunk.length === 0) return [];
  return [Buffer.from(chunk.length.toString(16) + '\r\n'), chunk, Buffer.from('\r\n')];
}

function invokeStreaming(id, headers, bytes) {
  const stream = new ResponseStream(id, { highWaterMark: handler[HIGH_WATER_MARK] });
  const end = () => {
    if (call === null || call.id !== id) return;
    call = idle = null;
    requestId = undefined;
    waiting.push(invoke);
    socket.ref();
    socket.write(NEXT);
  };
  const fail = (error) => {
    if (call === null || call.id !== id) return;
    logError('Invoke Error', error);
    if (!stream.begun) {
      stream.destroy();
      answer(id, 'error', errorText(error));
      return;
    }
    if (!stream.ended) stream.abort(error);
    end();
  };
  idle = () => fail(new RuntimeError('NodeJsExit', 'The handler ended without settling its promise.'));
  try {
    const context = buildContext({ callbackWaitsForEmptyEventLoop: true }, headers);
    const result = handler(JSON.parse(bytes.toString()), stream, context);
    if (!result || typeof result.then !== 'function') {
      fail('Streaming does not support non-async handlers.');
      return;
    }
    result.then((value) => {
      if (value !== undefined) console.warn('Streaming handlers ignore return values.');
      if (stream.writableFinished) end();
      else if (stream.writableEnded) stream.once('finish', end);
      else fail('Response stream is not finished.');
    }, fail);
  } catch (error) {
    fail(error);
  }
}

function installGlobal() {
  globalThis.awslambda = {
    streamifyResponse(f, options) {
      f[STREAMING] = 'response';
      if (options && typeof options.highWaterMark === 'number') f[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark);
      return f;
    },
    HttpResponseStream: {
      from(stream, prelude) {
        stream.setPrelude(prelude);
        return stream;
      },
    },
  };
}

// ---- the handler ------------------------------------------------------------------------------------------------------

// isModule tells whether .js files in a folder are ES modules: the nearest package.json says so.
function isModule(folder) {
  for (let at = folder; !at.endsWith('/node_modules'); at = path.dirname(at)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(at, 'package.json'), 'utf8')).type === 'module';
    } catch (error) {
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR' && error.code !== 'EACCES') return false;
    }
    if (at === path.dirname(at)) break;
  }
  return false;
}

function isFile(file) {
  try {
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

// loadModule finds a module as AWS's client does: the file as it is, .js (by the nearest package.json), .mjs, .cjs, and at
// last whatever require finds from the package's root.
async function loadModule(root, folder, name) {
  const file = path.resolve(root, folder, name);
  const require = createRequire(path.join(root, 'package.json'));
  const load = (found) => import(pathToFileURL(found).href);
  if (isFile(file)) return require(file);
  if (isFile(file + '.js')) return isModule(path.dirname(file)) ? load(file + '.js') : require(file + '.js');
  if (isFile(file + '.mjs')) return load(file + '.mjs');
  if (isFile(file + '.cjs')) return require(file + '.cjs');
  return require(require.resolve(name, { paths: [root, path.resolve(root, folder)] }));
}

async function loadHandler(root, text) {
  if (text.includes('..')) {
    throw new RuntimeError('MalformedHandlerName',
      `'${text}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(text);
  const dot = base.indexOf('.');
  if (dot < 0) throw new RuntimeError('MalformedHandlerName', 'Bad handler');
  const name = base.slice(0, dot);
  let module;
  try {
    module = await loadModule(root, text.slice(0, text.indexOf(base)), name);
  } catch (error) {
    if (error instanceof SyntaxError) throw new RuntimeError('UserCodeSyntaxError', error);
    if (error && (error.code === 'MODULE_NOT_FOUND' || error.code === 'ERR_MODULE_NOT_FOUND')) {
      throw new RuntimeError('ImportModuleError', error);
    }
    throw error;
  }
  const find = (from) => base.slice(dot + 1).split('.').reduce((at, key) => at && at[key], from);
  const found = find(module) || (module && find(module.default));
  if (!found) throw new RuntimeError('HandlerNotFound', `${text} is undefined or not exported`);
  if (typeof found !== 'function') throw new RuntimeError('HandlerNotFound', `${text} is not a function`);
  return found;
}

// ---- start and end ----------------------------------------------------------------------------------------------------

// leave tells the API of an error that nothing can go on after, and ends the process when it has heard.
function leave(error, code) {
  const exit = () => process.exit(code);
  let request;
  if (loading) {
    const type = String(errorObject(error).errorType).replace(/[^\w.]/g, '_');
    request = post('init/error', JSON_TYPE, errorText(error), `Lambda-Runtime-Function-Error-Type: ${type}\r\n`);
  } else if (call !== null) {
    request = post(`invocation/${call.id}/error`, JSON_TYPE, errorText(error), '');
  } else {
    exit();
    return;
  }
  call = idle = null;
  loading = false;
  waiting = [exit];
  socket.ref();
  socket.write(request);
  setTimeout(exit, 2000);
}

process.on('uncaughtException', (error) => {
  logError('Uncaught Exception', error);
  leave(error, 129);
});

process.on('unhandledRejection', (reason) => {
  const error = new RuntimeError('UnhandledPromiseRejection', reason instanceof Error ? reason : util.format('%s', reason));
  error.reason = reason;
  logError('Unhandled Promise Rejection', error);
  leave(error, 128);
});

patchConsole();
installGlobal();
connect();
socket.unref();
loadHandler(ROOT, process.env._HANDLER || '').then((found) => {
  handler = found;
  handlerIsAsync = Object.prototype.toString.call(found) === '[object AsyncFunction]';
  streaming = found[STREAMING] === 'response';
  loading = false;
  waiting.push(invoke);
  socket.ref();
  socket.write(NEXT);
}).catch((error) => {
  logError('Uncaught Exception', error);
  leave(error, 1);
});
