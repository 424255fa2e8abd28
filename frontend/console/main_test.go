package console_test

import (
	"testing"

	"github.com/hearth-run/hearth/internal/natstest"
)

func TestMain(m *testing.M) { natstest.Main(m) }
