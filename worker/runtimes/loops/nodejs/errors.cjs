'use strict';

// Errors as callers and logs see them.

const util = require('util');

// RuntimeError is an error of the runtime itself.
class RuntimeError extends Error {
  constructor(name, reason) {
    super(reason instanceof Error ? String(reason) : reason);
    // Not among what the log writes of an error beside its type.
    Object.defineProperty(this, 'name', { value: `Runtime.${name}`, enumerable: false });
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

// errorOf is what was thrown as an error, for the log.
function errorOf(thrown) {
  if (thrown instanceof Error) return thrown;
  try {
    return new Error(thrown);
  } catch {
    return new Error('what was thrown cannot be written');
  }
}

// enumerable gives JSON.stringify what an error hides from it.
function enumerable(_key, value) {
  if (!(value instanceof Error)) return value;
  const all = { errorType: value.name, errorMessage: value.message, code: value.code, ...value };
  if (typeof value.stack === 'string') all.stack = value.stack.split('\n');
  return all;
}

// logText is an error with all that it carries, on one line.
function logText(error) {
  try {
    return JSON.stringify(error, enumerable);
  } catch {
    return errorText(error);
  }
}

module.exports = { RuntimeError, errorObject, errorOf, errorText, logText };
