// Package deploy puts the roles of a fabric together: all of them in one process, as `hearth up` and `hearth demo` run them
// ([Up]), or one in a process of its own on a NATS server that others run ([StartManager], [StartFrontend]), by the same code.
// It alone knows managers, workers, frontends and the NATS server at once; they know each other by package schema and over
// NATS.
//
// # What Up starts, in this order, and stops in reverse
//
//	data folder     0700, locked for one process; the admin's key, the managers' key for variables, the streams' files
//	NATS server     embedded, with a user for each role, or another one by its URL
//	driver          what makes environments, shared by the workers of the process
//	managers' key   of the data folder; an empty one gets it from a manager of the ring (manager.AgreeKey)
//	managers        each with a worker in-process and a connection of its own; all at once
//	frontends       the first one with the HTTP listener; each with the control service beside it
//
// So it stops by taking no more calls, letting those that run end, taking the managers off the ring, ending environments,
// and only then the server that carried it all. [Up] returns when the first frontend serves and the ring holds all managers.
//
// # Who may do what
//
// The embedded server always has users (SECURITY 6). Roles in this process have keys drawn at each start that never
// leave it; the admin has a key in a file that only this user can read; and where the server listens on loopback alone,
// whoever connects without a word is `client` and may call functions and nothing else. Others (managers and frontends of their
// own, named clients, further admins) have a seed file each, which [MakeCredential] makes: in the data folder of an embedded
// server, which takes them in while it runs (admit.go), or for another server, which is told of them by [Credential.Block].
// A role's rights go by its id. rights.go is the table of SECURITY 6 as code; a test publishes what it forbids, subject by
// subject. Clients are in a NATS account of their own, so that no reply they name reaches the fabric (accounts.go).
//
// # Where code lies
//
// The data folder is closed to everybody else. A driver that runs functions as other users (process, as root) needs unpacked
// code where those can reach it: then it lies in a folder outside, named after the data folder, that others may pass through
// and not list (reach.go).
package deploy
