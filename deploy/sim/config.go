package sim

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Bounds of a simulation.
const (
	MaxManagers  = 256
	MaxCapacity  = 100_000 // places of a manager
	MaxFrontends = 64
	MaxFunctions = 1 << 17
	MaxReserved  = 10_000 // members of one reservation
	MaxDelay     = time.Minute
)

// Defaults of a [Config].
const (
	DefaultManagers  = 8
	DefaultCapacity  = 40
	DefaultFrontends = 2
	DefaultHop       = 50 * time.Microsecond
	DefaultInit      = 250 * time.Millisecond
)

// Config is the fabric that is simulated. The zero value of each field is its default.
type Config struct {
	Managers  int           // default 8
	Capacity  int           // of each manager, in places of 128 MB; default 40
	Frontends int           // calls go to them in turns; default 2
	Fabric    schema.Fabric // default [schema.DefaultFabric]
	Reserve   []Reservation
	Hop       time.Duration // from any node to the NATS server, or back; default 50 us
	Init      time.Duration // of environments of functions whose calls tell none; default 250 ms
	Lag       time.Duration // by which statuses come later to the last frontend than to the others; default 0
}

// Reservation is a limit of a function. It is ready before the first call comes if At is 0, else it is asked for so long after it; a
// later one of the same function changes it, and a Limit of 0 ends it.
type Reservation struct {
	Function string
	Limit    int
	At       time.Duration
}

func (c Config) withDefaults() Config {
	c.Managers = cmp.Or(c.Managers, DefaultManagers)
	c.Capacity = cmp.Or(c.Capacity, DefaultCapacity)
	c.Frontends = cmp.Or(c.Frontends, DefaultFrontends)
	c.Hop = cmp.Or(c.Hop, DefaultHop)
	c.Init = cmp.Or(c.Init, DefaultInit)
	if c.Fabric == (schema.Fabric{}) {
		c.Fabric = schema.DefaultFabric()
	}
	return c
}

// Validate checks every field and names each that is not allowed, in a [schema.Error] of code InvalidParameterValue.
func (c Config) Validate() error {
	c = c.withDefaults()
	var bad []schema.FieldError
	within := func(field string, n, least, most int) {
		if n < least || n > most {
			bad = append(bad, schema.FieldError{Field: field, Got: fmt.Sprint(n), Allowed: fmt.Sprintf("%d to %d", least, most)})
		}
	}
	short := func(field string, d, least time.Duration) {
		if d < least || d > MaxDelay {
			bad = append(bad, schema.FieldError{Field: field, Got: d.String(), Allowed: fmt.Sprintf("%v to %v", least, MaxDelay)})
		}
	}
	within("managers", c.Managers, 1, MaxManagers)
	within("capacity", c.Capacity, 1, MaxCapacity)
	within("frontends", c.Frontends, 1, MaxFrontends)
	short("hop", c.Hop, time.Microsecond)
	short("init", c.Init, time.Microsecond)
	short("lag", c.Lag, 0)
	if f := c.Fabric; !(f.Theta > 0 && f.Theta <= 1) || f.T < 1 || f.Arcs < 1 || f.Arcs > subjects.MaxArcs || f.Vnodes < 1 || f.KeepAlive <= 0 ||
		f.Reclaim <= 0 || f.Quiet <= 0 || f.Catch <= 0 || f.StartBy <= 0 || f.Growth < 1 || f.MaxEnvironments < 0 {
		bad = append(bad, schema.FieldError{Field: "fabric", Got: fmt.Sprintf("%+v", f), Allowed: "what `hearth fabric set` takes"})
	}
	seen := make(map[Reservation]bool)
	for _, r := range c.Reserve {
		field := "reserve " + r.Function
		if err := schema.ValidateFunctionName(r.Function); err != nil {
			bad = append(bad, schema.FieldError{Field: "reserve", Got: r.Function, Allowed: "a name: 1 to 64 of a-z, A-Z, 0-9, - and _"})
		}
		within(field, r.Limit, 0, MaxReserved)
		if r.At < 0 {
			bad = append(bad, schema.FieldError{Field: field, Got: r.At.String(), Allowed: "a time after the first call, 0 or more"})
		}
		if at := (Reservation{Function: r.Function, At: r.At}); seen[at] {
			bad = append(bad, schema.FieldError{Field: field, Got: fmt.Sprint(r.Limit), Allowed: "one limit for each function and time"})
		} else {
			seen[at] = true
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return schema.Invalid(bad...)
}

// LineError is a line of a trace that cannot be used. Its text says which line and field, what stood there, and what to do.
type LineError struct {
	Line  int    // 1 is the header
	Field string // column, "" for the line as a whole
	Text  string
}

// Error is the line, the field, and what to do about it, in one line.
func (e *LineError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "line %d: ", e.Line)
	if e.Field != "" {
		b.WriteString(e.Field + " ")
	}
	return b.String() + e.Text
}
