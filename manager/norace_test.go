//go:build !race

package manager_test

const racing = false
