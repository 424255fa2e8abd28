'use strict';

// The loop of the nodejs runtimes: asks Hearth's Runtime API for calls and gives them to the function's handler, as AWS's
// own client for Node does it (handlers that return, await, or call back; CommonJS and ES modules; streamed answers), over
// one connection and without dependencies. An answer and the request for the next call leave in one write: each write
// saved is a wake-up of the worker saved, and those are most of what a warm call costs.

const util = require('util');

const connection = require('./connection.cjs');
const { setCall, writeLine, logError, patchConsole } = require('./console.cjs');
const { RuntimeError, errorObject, errorText } = require('./errors.cjs');
const { loadHandler } = require('./handler.cjs');
const { addToken } = require('./token.cjs');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

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
  const context = Object.assign(base, fixed, {
    clientContext: parseHeader(headers['lambda-runtime-client-context']),
    identity: parseHeader(headers['lambda-runtime-cognito-identity']),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  });
  return addToken(context, headers['hearth-tenant-token']);
}

// invoke runs one call; it is what is done with the answer to NEXT.
function invoke(status, headers, bytes) {
  if (status !== 200) {
    process.stderr.write(`the runtime API has no next call: ${status} ${bytes.toString().trim()}\n`);
    process.exit(1);
  }
  const id = headers['lambda-runtime-aws-request-id'];
  const trace = headers['lambda-runtime-trace-id'];
  setCall(id, headers['lambda-runtime-aws-tenant-id']);
  if (trace === undefined) delete process.env._X_AMZN_TRACE_ID;
  else process.env._X_AMZN_TRACE_ID = trace;
  call = { id };
  // The connection alone must not keep the event loop alive: that it is empty tells that the handler is through.
  connection.release();
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

function invokeStreaming(id, headers, bytes) {
  const { ResponseStream } = require('./stream.cjs'); // few functions need it
  const stream = new ResponseStream(id, accepted, { highWaterMark: handler[HIGH_WATER_MARK] });
  let waits = true; // callbackWaitsForEmptyEventLoop
  const next = () => {
    setCall();
    connection.send(connection.NEXT, invoke);
  };
  // The caller has its answer; as Lambda's client does, what the handler left to happen happens before the next call.
  const end = () => {
    if (call === null || call.id !== id) return;
    call = idle = null;
    if (waits) idle = () => setImmediate(next);
    else next();
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
  idle = () => {
    waits = false; // nothing is left to wait for
    fail(new RuntimeError('NodeJsExit', 'The handler ended without settling its promise.'));
  };
  try {
    const context = buildContext({
      get callbackWaitsForEmptyEventLoop() { return waits; },
      set callbackWaitsForEmptyEventLoop(value) { waits = value; },
    }, headers);
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

// isStreaming tells which form of handler it is.
function isStreaming(found) {
  const mark = found[STREAMING];
  if (mark === undefined || mark === null || mark === false) return false;
  if (mark !== 'response') throw new RuntimeError('MalformedStreamingHandler', 'Only response streaming is supported.');
  return true;
}

// answer sends the end of a call and asks for the next one, in one write.
function answer(id, what, text) {
  setCall();
  call = idle = null;
  connection.send(connection.post(`invocation/${id}/${what}`, text, '') + connection.NEXT, accepted, invoke);
}

function accepted(status, _headers, bytes) {
  if (status !== 202) writeLine('ERROR', `the runtime API refused the answer: ${status} ${bytes.toString().trim()}`);
}

function installGlobal() {
  if (['1', 'true'].includes(process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) return;
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

// leave tells the API of an error that nothing can go on after, and ends the process when it has heard.
function leave(error, code) {
  const exit = () => process.exit(code);
  let request;
  if (loading) {
    const type = String(errorObject(error).errorType).replace(/[^\w.]/g, '_');
    request = connection.post('init/error', errorText(error), `Lambda-Runtime-Function-Error-Type: ${type}\r\n`);
  } else if (call !== null) {
    request = connection.post(`invocation/${call.id}/error`, errorText(error), '');
  } else {
    exit();
    return;
  }
  call = idle = null;
  loading = false;
  connection.forget();
  connection.send(request, exit);
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
connection.open(invoke);
loadHandler(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER || '').then((found) => {
  handler = found;
  handlerIsAsync = Object.prototype.toString.call(found) === '[object AsyncFunction]';
  streaming = isStreaming(found);
  loading = false;
  connection.send(connection.NEXT, invoke);
}).catch((error) => {
  logError('Uncaught Exception', error);
  leave(error, 1);
});
