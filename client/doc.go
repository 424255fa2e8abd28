// Package client calls functions of a Hearth fabric over NATS and manages them: what the `hearth` command speaks with,
// and open to any Go program.
//
//	c, err := client.Connect(ctx, client.Options{}) // nats://127.0.0.1:4222
//	answer, err := c.Invoke(ctx, client.Call{Function: "count", Payload: payload})
//
// A call has three kinds of end, kept apart:
//
//   - an [Answer] without a FunctionError: the function's own result;
//   - an [Answer] with one: the function failed, timed out, or was lost ([Answer.Status]). It ran, or may have;
//   - an error: the call was refused, and it did not start. It is a [*schema.Error]; its code's row says whether to try
//     again ([schema.Code.Row]). The one exception is [ErrNoAnswer], the caller's own time-out, code
//     [schema.CodeNoAnswer]: nobody said anything, so the call may still run.
//
// An event ([Client.Send]) has no answer: it is accepted when the fabric's stream has it, and runs, with its tries and its dead
// letter, without its caller.
//
// Nothing is ever sent twice by this package.
//
// Requests to manage functions go to the control service (DESIGN 9, `hearth.api`), with the inputs and outputs of AWS
// Lambda's API as package schema has them. Code goes to the object store first ([Client.PutCode]), under its SHA-256;
// then an operation names it.
//
// What functions wrote is [Client.Logs], and [Client.FollowLogs] for who stays to see what comes.
//
// A [Client] is safe for concurrent use. Its connection comes back by itself, for ever.
package client
