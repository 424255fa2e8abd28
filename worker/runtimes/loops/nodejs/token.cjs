'use strict';

// The token by which a function proves for which sub-tenant it speaks: the one that came with the call, and a fresh one for
// calls that last longer than that is good for. Both are members of the context that are not enumerable, so that a context that
// is printed, copied or made JSON of does not carry the secret along.

// Taken before the package's code is loaded, which may change its variables. Without sub-tenants there are none of these.
const URL = process.env.HEARTH_TOKEN_URL;
const AUTH = process.env.HEARTH_TOKEN_AUTH;

// getHearthToken asks the Runtime API for the present token. It is a request of http, not of fetch: Node's fetch sends
// Sec-Fetch-Mode, by which the API knows requests that somebody else made the function send. Nor is it one of the agent that
// others share: what that may be told, for instance to use a proxy, would get to see the secret.
function getHearthToken() {
  const http = require('http'); // few functions need it
  return new Promise((resolve, reject) => {
    const headers = { 'Hearth-Token-Request': 'true', 'Hearth-Token-Auth': AUTH, 'Content-Length': 0 };
    const request = http.request(URL, { method: 'POST', agent: false, headers }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        try {
          const answer = JSON.parse(Buffer.concat(chunks).toString());
          if (response.statusCode === 200) resolve(answer.token);
          else reject(refusal(response.statusCode, answer));
        } catch (error) {
          reject(error);
        }
      });
    });
    request.on('error', reject);
    request.end();
  });
}

function refusal(status, answer) {
  const error = new Error(`no token: ${answer.errorMessage}`);
  error.name = answer.errorType;
  error.statusCode = status;
  return error;
}

// addToken gives the context of a call its token. token is undefined where the function has no audience.
function addToken(context, token) {
  if (URL === undefined || AUTH === undefined) return context;
  return Object.defineProperties(context, { hearthToken: { value: token }, getHearthToken: { value: getHearthToken } });
}

module.exports = { addToken };
