package deploy_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/schema"
)

// TestAllowLocal: the exception to what no function reaches is for addresses of this host alone, and each that is none is named.
func TestAllowLocal(t *testing.T) {
	t.Parallel()
	good := deploy.Config{AllowLocal: []string{"127.0.0.1:5432", "localhost:80", "[::1]:80", "127.9.9.9:1"}}
	if bad := good.Validate(); len(bad) != 0 {
		t.Errorf("refused %v", bad)
	}
	wrong := []string{"169.254.169.254:80", "192.0.2.77:80", "db.example.org:80", "127.0.0.1", "127.0.0.1:25", "localhost:0", ":80", "[fe80::1%lo]:80", "", "10.0.0.0/8"}
	cfg, manager := deploy.Config{AllowLocal: wrong}, deploy.ManagerConfig{AllowLocal: wrong}
	worker := deploy.WorkerConfig{Manager: "m", AllowLocal: wrong}
	for name, bad := range map[string][]schema.FieldError{"up": cfg.Validate(), "manager": manager.Validate(), "worker": worker.Validate()} {
		var got []string
		for _, f := range bad {
			if f.Field == "AllowLocal" {
				got = append(got, f.Got)
			}
		}
		if !slices.Equal(got, wrong) {
			t.Errorf("%s refused %q", name, got)
		}
	}
	if _, err := deploy.StartWorker(t.Context(), worker); !errors.As(err, new(*schema.Error)) {
		t.Errorf("a worker started with %q: %v", wrong, err)
	}
}
