package frontend_test

import (
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
)

func TestMain(m *testing.M) {
	natstest.Parallel(6)
	natstest.Main(m)
}
