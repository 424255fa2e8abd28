//go:build race

package manager_test

// racing: the detector makes everything take ten times as long. Tests of many managers have fewer arcs then, and fewer calls: what
// runs at the same time is the same.
const racing = true
