// Package deploy puts the roles together. It alone knows frontends, managers and workers, which meet only in package
// schema and over NATS.
//
// [Up] is a whole fabric in one process: the embedded NATS server with a user for each role (SECURITY 6), managers with
// their workers, frontends with the control service, and HTTP. What lasts lies in one data folder:
//
//	lock        held by the process that runs on the folder, with its pid
//	admin.nk    the admin's nkey seed, 0600; client commands find it by themselves
//	seal.key    the private half of the key to which variables are sealed, 0600
//	nats/       JetStream's files
//
// Start and stop run in the order of DESIGN 6: the server, the managers (who set up streams and buckets and join the
// ring), the frontends (who wait for that), the doors; and back. Unpacked code is a cache: where functions run under
// users of their own it lies outside the data folder, which those users must not enter (SECURITY 3).
package deploy
