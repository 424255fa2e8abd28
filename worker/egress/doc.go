// Package egress is the network of environments: a TCP and UDP stack of their own in user space (gVisor's), behind which each
// connection is allowed, refused, counted and made anew by a process that has no credential (DESIGN 8; SECURITY 3).
//
//	environment's network namespace       helper: a process of its own, one for all environments of a worker
//	  function ──► hearth0 (TUN) ═══════════► netstack, one an environment ──► check ──► socket of the host ──► world
//	  198.18.0.2     198.18.0.1: names ─────► resolver ──► the host's resolver
//	     │               ▲                        ▲
//	     └──► lo ──► tap │ first packets          ║
//	  worker: waits on the tap, makes hearth0 ════╝ TUN by SCM_RIGHTS; reports come back
//
// # At the first need
//
// Until an environment sends something its packets go to lo, and a tap (a packet socket of the worker's) waits there: it costs no
// process, no device and no goroutine's work. [Service] holds all of them in one epoll. The first packet has the device made, which is the
// driver's to do (Config.Device), and starts the helper, if none runs, and hands it the device; then what the tap heard is sent
// by the device (tap_linux.go). Who never opens a connection pays for the tap alone. A tap is never given to the helper: lo is the
// Runtime API's.
//
// # States of an attachment
//
//	tapped ──packet──► its device is made ──► attached ──Close──► closed
//	                                            │   ▲
//	                              helper ended  ▼   │ packet
//	                                           waiting       and what was connected is reset (flows.go)
//
// # What is checked where
//
// The resolver answers for names that the policy allows, and never with an address that it would refuse (rebinding). What it gave
// is remembered for this environment alone, as long as it told. The dialer then checks the address that the kernel is about to
// connect to: the floor, private ranges, the fabric's own addresses, the list, and last whether the kernel's routes call it
// local. No check stands on what a name was. A connection that is refused is reset at once.
//
// Why TUN and not TAP: there are no neighbours to find, so no ARP and no neighbour discovery to implement or to attack, and the
// device can say nothing but IP. Everything else than whole TCP and UDP packets of the environment's own address is dropped
// before the stack sees it (packet.go).
//
// # Bounds
//
// Connections of an environment, and of all; new ones, packets, bytes and queries a second; names that are remembered; a fixed
// window for each connection, so that connections times windows is all there is. The device holds 64 packets. The helper has a
// cgroup, a uid, landlock and the system call filter of functions. It ends with the worker: by parent-death signal, and by the
// end of its socket.
//
// # What it trusts
//
// The helper is as trusted as what it parses: its reports are bounded numbers, and it holds nothing. It does share the host's
// network, as a proxy must: who takes it over is on the host's network as an ordinary user without credential.
package egress
