'use strict';

// The console as Lambda has it: each line carries time, request id and level, as text or as JSON, and what is said in one
// call stays one line.

const util = require('util');

const { RuntimeError, errorOf, logText } = require('./errors.cjs');

const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
const METHODS = { trace: 'TRACE', debug: 'DEBUG', info: 'INFO', log: 'INFO', warn: 'WARN', error: 'ERROR', fatal: 'FATAL' };

const JSON_FORM = (process.env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON';
const LEAST = LEVELS.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase()); // -1: all

let requestId; // of the call that runs; as text "undefined" between calls, as Lambda writes it
let tenantId;

function setCall(id, tenant) {
  requestId = id;
  tenantId = tenant;
}

function textLine(level, args) {
  return `${new Date().toISOString()}\t${requestId}\t${level}\t${util.format(...args)}`;
}

function jsonLine(level, args) {
  const line = { timestamp: new Date().toISOString(), level, requestId };
  if (tenantId) line.tenantId = tenantId;
  if (args.length === 1) {
    line.message = args[0];
    try {
      return JSON.stringify(line, withError);
    } catch {
      // What JSON cannot hold, for instance a circle, is written as text writes it.
      line.message = util.format(args[0]);
      return JSON.stringify(line);
    }
  }
  line.message = util.format(...args);
  const error = args.find((x) => x instanceof Error);
  if (error !== undefined) Object.assign(line, errorMembers(error));
  return JSON.stringify(line);
}

function errorMembers(error) {
  return {
    errorType: error instanceof RuntimeError ? error.name : (error.constructor && error.constructor.name) || 'UnknownError',
    errorMessage: error.message,
    stackTrace: typeof error.stack === 'string' ? error.stack.split('\n') : [],
  };
}

function withError(_key, value) {
  return value instanceof Error ? { ...errorMembers(value), ...value } : value;
}

const line = JSON_FORM ? jsonLine : textLine;

function write(level, args) {
  const text = line(level, args);
  process.stdout.write((text.includes('\n') ? text.replace(/\n/g, '\r') : text) + '\n');
}

function writeLine(level, ...args) {
  if (LEVELS.indexOf(level) >= LEAST) write(level, args);
}

// logError writes an error that ended a call, an init or the process.
function logError(title, error) {
  try {
    if (JSON_FORM) writeLine('ERROR', errorOf(error));
    else writeLine('ERROR', `${title} \t${logText(errorOf(error))}`);
  } catch {
    writeLine('ERROR', `${title}: what was thrown cannot be written`);
  }
}

function patchConsole() {
  for (const [name, level] of Object.entries(METHODS)) {
    console[name] = LEVELS.indexOf(level) >= LEAST ? (...args) => write(level, args) : () => {};
  }
}

module.exports = { setCall, writeLine, logError, patchConsole };
