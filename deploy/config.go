package deploy

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// Defaults of `hearth up`.
const (
	DefaultData     = "./hearth-data"
	DefaultHTTP     = "127.0.0.1:4280"
	DefaultNATS     = "127.0.0.1:4222"
	DriverProcess   = "process"
	DriverNull      = "null"
	placeBytes      = 128 << 20
	startTimeout    = time.Minute
	serverStartTime = 20 * time.Second
	maxManagers     = 64
)

// Config says what [Up] puts together. Zero values are the defaults named.
type Config struct {
	DataDir   string            // what lasts; "" means [DefaultData]
	HTTP      string            // address of the HTTP door; "" means [DefaultHTTP], port 0 picks a free one
	NATS      string            // address of the embedded server; "" means [DefaultNATS]. Ignored with ServerURL
	ServerURL string            // a running NATS server to use instead of the embedded one
	Creds     string            // credential for ServerURL: a .creds file or an nkey seed file; "" means none
	Managers  int               // in this process; 0 means 1
	Frontends int               // in this process; 0 means 1. The first has the HTTP door
	Capacity  int               // places of 128 MB in all; 0 means 3/4 of the memory free at start
	Driver    string            // "" means [DriverProcess]
	Set       map[string]string // values of [schema.Fabric] that were asked for by name
	Anonymous bool              // clients on loopback need no credential
	Hosts     []string          // names beside localhost under which HTTP is served
	Prefix    string            // of the fabric's names; "" means subjects.DefaultPrefix
	Build     string            // told to other nodes
	Logger    *slog.Logger      // nil means none
	Telemetry *telemetry.Telemetry
}

// Validate reports every field that is out of range.
func (c *Config) Validate() []schema.FieldError {
	var bad []schema.FieldError
	refuse := func(field string, got any, allowed string) {
		bad = append(bad, schema.FieldError{Field: field, Got: fmt.Sprint(got), Allowed: allowed})
	}
	if c.Managers < 0 || c.Managers > maxManagers {
		refuse("Managers", c.Managers, fmt.Sprintf("1 to %d", maxManagers))
	}
	if c.Frontends < 0 || c.Frontends > maxManagers {
		refuse("Frontends", c.Frontends, fmt.Sprintf("1 to %d", maxManagers))
	}
	if c.Capacity < 0 {
		refuse("Capacity", c.Capacity, "at least 1 place")
	}
	if c.Driver != "" && c.Driver != DriverProcess && c.Driver != DriverNull {
		refuse("Driver", c.Driver, DriverProcess+" or "+DriverNull)
	}
	fabric := schema.DefaultFabric()
	for key, value := range c.Set {
		if err := fabric.Set(key, value); err != nil {
			refuse("Set", key+"="+value, err.Error())
		}
	}
	return append(bad, fabric.Validate()...)
}
