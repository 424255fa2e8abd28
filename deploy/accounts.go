package deploy

import (
	"fmt"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/hearth-run/hearth/subjects"
)

// Clients are in a NATS account of their own, which takes from the fabric's what they may publish to and nothing else:
//
//	clients                                     the fabric: nodes, streams, the admin
//	hearth.invoke.default.>   ── import ──►     hearth.invoke.default.>
//	hearth.event.default.>    ── import ──►     hearth.event.default.>  (stream EVENTS)
//	the reply that they named ◄─ _R_.… ────     the answer, or the PubAck
//
// A reply subject is input from a stranger (SECURITY 2), and the PubAck of an event is sent by the server itself, which asks for
// nobody's rights: in one account with the fabric, a client that named a key of a bucket as its reply had the record under it
// overwritten, and one that named an arc put a message into the stream of calls (tried). Here a reply is a subject of the
// clients' account, whatever it says.
const (
	clientsName = "HEARTH_CLIENTS"
	fabricName  = "HEARTH_FABRIC" // in the text below; the server's own account "$G", where the streams of older folders lie

	// answerTime is how long the server remembers where an answer goes: longer than the longest call with its start-by, 15 min
	// each. The server's default of 2 min loses longer calls.
	answerTime = "35m"
)

// clientAccount adds the two accounts to the server's options, and gives that of the clients. The server has no other way to
// say which accounts have streams than the text of its configuration, and no word there for its own account.
func clientAccount(names subjects.Names, opts *server.Options) (*server.Account, error) {
	account := subjects.Escape(subjects.DefaultAccount)
	var exports, imports string
	for _, kind := range []string{"invoke", "event"} {
		subject := names.Prefix() + "." + kind + "." + account + ".>"
		exports += fmt.Sprintf("{ service: %q, accounts: [%s], threshold: %q }\n", subject, clientsName, answerTime)
		imports += fmt.Sprintf("{ service: { account: %s, subject: %q } }\n", fabricName, subject)
	}
	err := opts.ProcessConfigString(fmt.Sprintf("accounts {\n%s { jetstream: enabled, exports: [\n%s] }\n%s { imports: [\n%s] }\n}\n",
		fabricName, exports, clientsName, imports))
	if err != nil {
		return nil, fmt.Errorf("accounts of the NATS server: %w", err)
	}
	var clients *server.Account
	for _, a := range opts.Accounts {
		switch a.Name {
		case fabricName:
			a.Name = server.DEFAULT_GLOBAL_ACCOUNT
		case clientsName:
			clients = a
		}
	}
	return clients, nil
}
