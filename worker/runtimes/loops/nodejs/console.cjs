'use strict';

// The console as Lambda has it: each line carries time, request id and level, and what is said in one call stays one line.

const util = require('util');

const LEVELS = { log: 'INFO', info: 'INFO', warn: 'WARN', error: 'ERROR', debug: 'DEBUG', trace: 'TRACE', fatal: 'FATAL' };

let requestId; // of the call that runs; "undefined" between calls, as Lambda writes it

function setRequestId(id) {
  requestId = id;
}

function writeLine(level, text) {
  const line = text.includes('\n') ? text.replace(/\n/g, '\r') : text;
  process.stdout.write(`${new Date().toISOString()}\t${requestId}\t${level}\t${line}\n`);
}

function patchConsole() {
  for (const [name, level] of Object.entries(LEVELS)) {
    console[name] = (...args) => writeLine(level, util.format(...args));
  }
}

module.exports = { setRequestId, writeLine, patchConsole };
