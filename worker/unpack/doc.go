// Package unpack turns packages (zips named by their SHA-256) into read-only folders that environments run from, once for
// each package, and keeps them in a cache of bounded size.
//
// # What a package passes
//
// Everything in a zip is written by a stranger, so it passes one check after another and is refused at the first that
// fails, with an error that names the entry and what is wrong with it:
//
//	bytes          at most MaxZip, SHA-256 equal to the one asked for      zipfile.go
//	directory      at most maxDirectory bytes of it are parsed              entries.go
//	entries        names, kinds, sizes, ratio, overlaps, before a byte is written  entries.go
//	writing        through os.Root, exclusively, never more than announced tree.go
//	links          made last, then followed through os.Root: what leaves the folder is refused
//	the tree       kinds, modes, names, links and sum of what was made       settle.go
//
// It is unpacked in a folder beside, made durable, and renamed: a folder with the name of a hash is always whole.
//
// # Who may read
//
// The folder of the cache is 0711 and what lies in it 0555 or 0444: an environment reaches the folder that it was told
// and cannot list its neighbours. On a worker that runs as root nobody else can write there.
//
// # Life of a folder
//
// [Cache.Get] pins a folder until [Cache.Release]; folders that nobody pins are removed, the one unused for longest first,
// when the cache is larger than its budget. A package that was refused is refused again without unpacking it.
//
// # Who unpacks
//
// As root on Linux a child of this program does, which [Main] becomes: reading what a stranger wrote is where a mistake would be
// found, and there it gives nothing.
//
//	worker                                      child
//	fetch, SHA-256                                |
//	user of its own, empty folder of that one     |
//	  +--- zip (read only), folder -------------->| limits: memory, processor, files; root = the folder; user; no rights;
//	  |                                           | filter of system calls (confine)
//	  |                                           | entries, writing, links (extract)
//	  |<-- done, or why not; or its end ----------+
//	look at all of it, make it ours, close it, sync (settle)
//	rename
//
// The worker believes nothing of what the child says or leaves. Anywhere else, and without root, the same code runs in this
// process: a child would have the rights of its parent.
//
// DESIGN 8; SECURITY 3.
package unpack
