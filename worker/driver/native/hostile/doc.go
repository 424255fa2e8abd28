// Package hostile is a function that tries to get out: [Probes] reach for files, processes, the kernel, limits and the network
// from inside an environment, and each names the exact refusal that it must meet there (SECURITY 1 and 3, S70).
//
// # What makes a probe worth something
//
// A refusal proves nothing while nobody knows that the probe would succeed without it. So each has controls: the same probe in
// the same sandbox with some fences taken away ([Fence]), or in a bare process under the uid of an environment, and what it
// must get there. Where several fences stand one behind the other, there is a control for each of them.
//
//	test (root) ---- native driver, whole -----------------------> guest: every probe is refused
//	      |--------- native driver without seccomp --------------> guest: io_uring opens
//	      |--------- native driver without seccomp and rights ---> guest: mount works, in its own namespace
//	      +--------- a private mount, net and ipc namespace -----> guest as uid of an environment: reads, connects, signals
//
// # The guest
//
// It is the binary of whoever calls [Main] first in its own main or TestMain, run again. What it learns comes as an argument
// ([Facts]); what it finds goes out as lines of JSON ([Result]) on standard output.
//
// It does not run as root outside a sandbox: there its probes would do to the host what they try. Also where they succeed, they
// change nothing that outlives their environment: files are opened for writing and not written, the kernel is asked with
// arguments that it refuses behind the check of rights.
package hostile
