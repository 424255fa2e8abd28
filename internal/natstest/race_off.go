//go:build !race

package natstest

// Raced says that the race detector runs, under which everything takes five to ten times as long. See [Fewer].
const Raced = false
