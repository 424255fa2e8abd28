'use strict';

// How a function's handler is found: _HANDLER is folder/file.property.path, below the package's root.

const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');
const { pathToFileURL } = require('url');

const { RuntimeError } = require('./errors.cjs');

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

module.exports = { loadHandler };
