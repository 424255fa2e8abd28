// Keeps records for whoever calls it, each customer's own: the service behind it takes the customer from the token, so this
// function need not be trusted to name the right one. README.md has the commands.
//
//   {"id": "invoice-1", "record": {"total": 42}}    writes
//   {"id": "invoice-1"}                             reads
//
// A call that lasts longer than a token, minutes, gets the next one by `await context.getHearthToken()`.

export async function handler(event, context) {
  const { id, record } = event ?? {};
  if (typeof id !== "string") throw new TypeError('"id" must be a string');
  const response = await fetch(`${process.env.RECORDS}/records/${encodeURIComponent(id)}`, {
    method: record === undefined ? "GET" : "PUT",
    headers: { authorization: `Bearer ${context.hearthToken}` },
    body: record === undefined ? undefined : JSON.stringify(record),
    signal: AbortSignal.timeout(Math.max(1, context.getRemainingTimeInMillis() - 200)),
  });
  return { customer: context.tenantId, status: response.status, ...(await response.json()) };
}
