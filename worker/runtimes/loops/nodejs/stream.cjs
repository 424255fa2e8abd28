'use strict';

// The answer of a streaming handler: chunks as they are written, an error in the trailers (Lambda A4).

const { Writable } = require('stream');

const connection = require('./connection.cjs');
const { RuntimeError, errorObject } = require('./errors.cjs');

const HTTP_TYPE = 'application/vnd.awslambda.http-integration-response';
const MODE = 'Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n' +
  'Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n';

// ResponseStream is the answer of a streaming handler: chunks as they are written, an error in the trailers.
class ResponseStream extends Writable {
  #id;
  #accepted; // is told the status of the answer
  #type = 'application/octet-stream';
  #prelude = null;
  begun = false;
  ended = false;

  constructor(id, accepted, options) {
    super(options);
    this.#id = id;
    this.#accepted = accepted;
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

  // What is no text and no bytes is written as JSON.
  write(chunk, ...rest) {
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) chunk = JSON.stringify(chunk);
    return super.write(chunk, ...rest);
  }

  #head() {
    if (this.begun) return [];
    this.begun = true;
    connection.expect(this.#accepted);
    const parts = [Buffer.from(connection.head(`invocation/${this.#id}/response`, this.#type, MODE))];
    if (this.#prelude !== null) {
      parts.push(...framed(Buffer.concat([Buffer.from(JSON.stringify(this.#prelude)), Buffer.alloc(8)])));
    }
    return parts;
  }

  _write(chunk, _encoding, done) {
    connection.write(Buffer.concat([...this.#head(), ...framed(chunk)]), done);
  }

  _final(done) {
    this.ended = true;
    connection.write(Buffer.concat([...this.#head(), Buffer.from('0\r\n\r\n')]), done);
  }

  // abort ends an answer that has begun with the error that cut it off.
  abort(error) {
    const object = errorObject(error);
    const type = String(object.errorType).replace(/[^\w.$-]/g, '_');
    this.ended = true;
    connection.write('0\r\n' +
      `Lambda-Runtime-Function-Error-Type: ${type}\r\n` +
      `Lambda-Runtime-Function-Error-Body: ${Buffer.from(JSON.stringify(object)).toString('base64')}\r\n\r\n`);
    this.destroy();
  }
}

function framed(chunk) {
  if (chunk.length === 0) return [];
  return [Buffer.from(chunk.length.toString(16) + '\r\n'), chunk, Buffer.from('\r\n')];
}

module.exports = { ResponseStream };
