// Package runtimes knows how a function of each runtime is started: which executable with which arguments and variables.
// It starts nothing itself; a driver does.
//
//	provided...   the package's own bootstrap
//	nodejs...     an interpreter of the host and our loop, loops/nodejs
//	python...     an interpreter of the host and our loop, loops/python
//
// The loops are ours because AWS's own clients cannot be had without a compiler at install time, and cost several times
// as much a call. What a function sees of them follows AWS's clients, recorded; they
// are embedded here and written out once, where every environment can read them.
//
// # Interpreters
//
// An interpreter is found on the path that the command was started with and asked who it really is, by running it as the
// kind of user that an environment is: so a version manager's shim in somebody's home is passed over, and any other shim
// is replaced by what it leads to. The oldest one named on the path that is at least the version asked for is taken. What
// was found is remembered; that none was, only for some seconds.
//
// DESIGN 8.
package runtimes
