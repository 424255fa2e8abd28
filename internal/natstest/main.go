package natstest

import (
	"testing"

	"go.uber.org/goleak"
)

// Main is the TestMain of packages whose tests use a server: it runs the tests and fails if a goroutine is left.
//
//	func TestMain(m *testing.M) { natstest.Main(m) }
func Main(m *testing.M) { goleak.VerifyTestMain(m) }
