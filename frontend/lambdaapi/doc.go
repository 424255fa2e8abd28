// Package lambdaapi speaks the AWS Lambda service API over HTTP, so that the aws command and every AWS SDK work with
// an endpoint URL and nothing else.
//
// It is a door: it turns a request into a [schema.Request], hands it to the frontend ([Invoker]), and gives the answer
// the shape that Lambda's clients expect. Events and dry runs pass the same way, and end where the stream has the event, or
// where it is known that a call would be taken. It decides nothing about calls. Paths are split while they are still escaped,
// because clients send names and ARNs percent-encoded; every error leaves as JSON with X-Amzn-ErrorType and a request
// id, because clients read nothing else; and what may have run never leaves as a status that clients send again by
// themselves.
//
// What stands before it (Host, Origin, proxies) is the frontend's guard. DESIGN 10, SECURITY 6; Lambda B.
package lambdaapi
