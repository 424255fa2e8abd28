// Package native is the default driver on Linux as root: each environment is a sandbox of namespaces, cgroups and filters that
// code which nobody trusts may run in (SECURITY 1 and 3).
//
// # A sandbox, and who is in it
//
//	worker                            sandbox: mount, pid, net, ipc, uts, cgroup namespaces
//	  | spawner thread ---- fork ---->  the shim: process 1, carries out system calls from a list
//	  |                                   | joins cgroups, mounts /proc /tmp /dev/shm, landlock's rules,
//	  |                                   | lo, a tap there, listens on 127.0.0.1:9001
//	  |<--- the listening socket, tap ----| waits: an empty sandbox of the stock
//	  |---- letter: code, uid, command -->| mounts /var/task
//	  |                                   +-- fork --> the function: process 2, gives up all rights, executes
//	  |<--- control socket ends ----------+            (the last who had it)
//	  |     it serves the Runtime API     | gives up all rights, waits
//	  |<--- status of the function -------| ends, and the kernel ends all that are left
//
// The worker composes the list (script) in Go; the shim is 150 bytes of assembly that knows nothing else (shim_linux_amd64.s),
// so what waits in a sandbox takes no memory to speak of and starts as fast as a process can. Once the letter is carried
// out nobody can enter: there is no control socket any more, and process 1 has the rights of nobody.
//
// The function is not the first process of its namespace, because the kernel keeps signals from that one: a process that
// aborts or kills itself would go on. The first one reaps what the function leaves behind.
//
// # Life
//
//	stock: building --> ready --+--> fresh --> starting --> running --> ending --> ended (Done is closed)
//	                            |      |           |           |
//	                            +------+-- Kill ---+-----------+
//
// A sandbox is bound once, and ended, never emptied for another. [Environment] alone moves it from fresh on, under its mutex.
// Kill thaws and sends SIGKILL to the first process: its end, which the worker waits for, is the end of all. Then the cgroups
// are another's, where version 1 lets the worker begin their numbers anew (groups), or go, and the uid is free.
//
// # No process outlives its worker
//
// The kernel kills the first process when the spawner thread dies (PR_SET_PDEATHSIG), and one that waits for its letter also
// when the control socket ends; with the first process all others go, and with them mounts and networks. What stays is empty
// cgroups: the next driver of the host removes those of drivers whose lock is free (sweep).
//
// # What it trusts
//
// The kernel. The tree shows the host's /usr, /lib, /bin and some of /etc read-only: what everybody may read there, functions
// may. DESIGN 8; SECURITY 3;
package native
