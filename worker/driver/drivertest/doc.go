// Package drivertest is the suite that every driver passes: [Exercise] starts real processes in environments of the driver
// and looks at what they see and what is left of them.
//
// The process is the test's own binary, run again as a guest ([Guest], which TestMain calls first). A guest connects to
// its Runtime API, tells what it sees, and does what the test writes to it, line by line; its connection is also its
// leash: that it ends is the proof that the process is gone, whatever its number was and wherever it hid.
//
// What a driver does not claim by its [driver.Abilities] is skipped by name; what this host should let it do, and does
// not, fails where CI=true. STYLE 9.
package drivertest
