// Package process is the driver of bare processes: each environment is one process of the host with a listener on
// 127.0.0.1 as its Runtime API. It isolates nothing but memory; as root on Linux it gives each environment a uid that owns
// nothing else. It is for one's own code, for development and for systems where the sandbox cannot be built.
//
// # Life of an environment
//
//	New             Start                     the main process ends, or Kill
//	 | uid, scratch   | fork on the spawner     | group and strays killed until none lives,
//	 | folder,        | thread, session of      | output read to its end, scratch removed,
//	 | listener       | its own                 | uid given back
//	fresh --------> starting ----> running ----> ending ----> ended (Done is closed)
//	  |                |
//	  +--- Kill -------+--- failed ------------> ending
//
// [Environment] alone moves it, under its mutex.
//
// # No process outlives its worker
//
// Three things see to it, each where the one before cannot:
//
//   - The kernel kills the main process when the worker's spawner thread dies (PR_SET_PDEATHSIG; it fires when the thread
//     dies that forked, so that thread lives as long as the driver, golang/go#27505).
//   - When an environment ends, everything else of it is killed: first its session, then, by a census of /proc, whatever
//     runs under its uid (as root) or was started with its scratch folder in its environment (otherwise), so also what
//     called setsid and forked twice. As root a last resort kills all processes of the uid in one system call, which no
//     fork can outrun.
//   - The keeper, a process of its own, is told of every environment through a pipe. When the pipe ends, however the
//     worker died, it does the same for all that are left, and removes their folders.
//
// Without root a process that left its session and also wiped its own environment variables escapes; [Driver.Probe] says
// so. On systems other than Linux there is no census: sessions, and as root uids, are what is killed.
//
// # Users
//
// uids come from 1,900,000,000 upwards, in blocks that workers of a host reserve by file locks, so that two of them never
// use one at the same time; a lock is held by worker and keeper and ends with the last of them. A uid is used again only
// after all others of its block.
//
// DESIGN 8; SECURITY 3.
package process
