//go:build race

package natstest

// Raced says that the race detector runs, under which everything takes five to ten times as long: who proves by numbers takes
// smaller ones there, for the plain run has proved the large ones.
const Raced = true
