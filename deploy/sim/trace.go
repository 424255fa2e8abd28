package sim

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Call is one call of a workload.
type Call struct {
	At       time.Duration // when it comes, since any moment that is the same for all
	Function string
	Tenant   string        // "" unless the function is per tenant: then every call of it names one
	Run      time.Duration // how long it runs
	Init     time.Duration // of an environment that is made for the function from now on; 0: as before
	MemoryMB int           // of the function; 0: 128. The same for all its calls
	Line     int           // of a trace, 0 elsewhere
}

// Source gives calls one after the other, and io.EOF after the last. They may be a little out of order; see [Run].
type Source interface {
	Next() (Call, error)
}

// Bounds of what a trace may say.
const (
	maxLine     = 64 << 10
	maxAt       = 4e12 // ms; beyond Unix time in ms until the year 2096
	maxRun      = 24 * 60 * 60 * 1000
	maxInit     = 15 * 60 * 1000
	leastMemory = 1
	mostMemory  = 10240
)

// columns of a trace, and which of them it must have.
var columns = []struct {
	name string
	must bool
}{{"at_ms", true}, {"function", true}, {"duration_ms", true}, {"init_ms", false}, {"tenant", false}, {"memory_mb", false}}

const (
	colAt = iota
	colFunction
	colRun
	colInit
	colTenant
	colMemory
	colCount
)

// Trace reads calls from CSV with a header: at_ms, function, duration_ms, and where they are known init_ms, tenant and memory_mb, in any
// order. Times are in milliseconds, with a fraction if need be. It reads one line at a time and keeps the functions' names, at most
// [MaxFunctions]. Not safe for concurrent use.
type Trace struct {
	r         *bufio.Reader
	line      int
	place     [colCount]int // of each column, -1: it has none
	width     int
	functions map[string]*traced
	err       error
}

// traced is what is the same for all calls of a function, and which line said so.
type traced struct {
	name      string
	line      int
	memory    int
	perTenant bool
}

// NewTrace reads the header. Its error, as those of Next, is a [LineError] where the trace is at fault, else one of r.
func NewTrace(r io.Reader) (*Trace, error) {
	t := &Trace{r: bufio.NewReaderSize(r, maxLine), functions: make(map[string]*traced)}
	header, err := t.read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, &LineError{1, "", "is missing: a header is wanted, at_ms,function,duration_ms and, if you have them, init_ms,tenant,memory_mb"}
	case err != nil:
		return nil, err
	}
	fields, err := t.split(strings.TrimPrefix(header, "\ufeff"))
	if err != nil {
		return nil, err
	}
	if err := t.header(fields); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Trace) header(fields []string) error {
	for i := range t.place {
		t.place[i] = -1
	}
	t.width = len(fields)
	for at, field := range fields {
		field = strings.ToLower(strings.TrimSpace(field))
		i := slices.IndexFunc(columns, func(c struct {
			name string
			must bool
		}) bool {
			return c.name == field
		})
		switch {
		case i < 0:
			return &LineError{t.line, clip(field), "is no column of a trace; they are at_ms, function, duration_ms, init_ms, tenant and memory_mb: " +
				"leave others out, for instance with `cut -d,`"}
		case t.place[i] >= 0:
			return &LineError{t.line, field, "stands twice in the header; leave one of them out"}
		}
		t.place[i] = at
	}
	for i, c := range columns {
		if c.must && t.place[i] < 0 {
			return &LineError{t.line, c.name, "is missing in the header; at_ms, function and duration_ms are needed"}
		}
	}
	return nil
}

// Next is the next call, or io.EOF. After an error it gives the same one.
func (t *Trace) Next() (Call, error) {
	if t.err != nil {
		return Call{}, t.err
	}
	var c Call
	c, t.err = t.next()
	return c, t.err
}

func (t *Trace) next() (c Call, err error) {
	text, err := t.read()
	if err != nil {
		return c, err
	}
	fields, err := t.split(text)
	if err != nil {
		return c, err
	}
	if len(fields) != t.width {
		return c, &LineError{t.line, "", fmt.Sprintf("has %d fields, the header has %d; a field with a comma stands in double quotes", len(fields), t.width)}
	}
	field := func(col int) string {
		if t.place[col] < 0 {
			return ""
		}
		return strings.TrimSpace(fields[t.place[col]])
	}
	c.Line = t.line
	if c.At, err = t.ms(colAt, field(colAt), maxAt); err != nil {
		return c, err
	}
	if c.Run, err = t.ms(colRun, field(colRun), maxRun); err != nil {
		return c, err
	}
	if text := field(colInit); text != "" {
		if c.Init, err = t.ms(colInit, text, maxInit); err != nil {
			return c, err
		}
		c.Init = max(c.Init, time.Nanosecond) // 0 would be "as before"
	}
	if text := field(colMemory); text != "" {
		if c.MemoryMB, err = strconv.Atoi(text); err != nil || c.MemoryMB < leastMemory || c.MemoryMB > mostMemory {
			return c, t.bad(colMemory, text, fmt.Sprintf("a whole number of MB, %d to %d", leastMemory, mostMemory))
		}
	}
	if c.Tenant = field(colTenant); c.Tenant != "" && schema.ValidateTenant(c.Tenant) != nil {
		return c, t.bad(colTenant, c.Tenant, "1 to 256 of a-z, A-Z, 0-9, blank and ._:/=+-@, or nothing")
	}
	name := field(colFunction)
	if schema.ValidateFunctionName(name) != nil {
		return c, t.bad(colFunction, name, "a name: 1 to 64 of a-z, A-Z, 0-9, - and _")
	}
	c.Function, err = t.same(name, &c)
	return c, err
}

// same checks that a call says of its function what the calls before said.
func (t *Trace) same(name string, c *Call) (string, error) {
	f := t.functions[name]
	if f == nil {
		if len(t.functions) >= MaxFunctions {
			return "", &LineError{t.line, "function", fmt.Sprintf("is %q, one function more than the %d that a trace may have; split the trace", name, MaxFunctions)}
		}
		name = strings.Clone(name)
		f = &traced{name, t.line, c.MemoryMB, c.Tenant != ""}
		t.functions[name] = f
	}
	switch {
	case f.memory != c.MemoryMB:
		return "", t.bad(colMemory, memoryText(c.MemoryMB), fmt.Sprintf("%s, as line %d says of function %s: a function has one size", memoryText(f.memory), f.line, name))
	case f.perTenant && c.Tenant == "":
		return "", t.bad(colTenant, "", fmt.Sprintf("a sub-tenant, since line %d names one for function %s: all its calls do, or none", f.line, name))
	case !f.perTenant && c.Tenant != "":
		return "", t.bad(colTenant, c.Tenant, fmt.Sprintf("nothing, since line %d names no sub-tenant for function %s: all its calls do, or none", f.line, name))
	}
	return f.name, nil
}

func memoryText(mb int) string {
	if mb == 0 {
		return ""
	}
	return strconv.Itoa(mb)
}

func (t *Trace) bad(col int, was, allowed string) error {
	return &LineError{t.line, columns[col].name, fmt.Sprintf("is %q; %s", clip(was), allowed)}
}

// ms reads a number of milliseconds.
func (t *Trace) ms(col int, text string, most float64) (time.Duration, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.Trim(text, "0123456789.") != "" || v > most {
		return 0, t.bad(col, text, fmt.Sprintf("milliseconds, 0 to %.0f, as 12 or 12.5", most))
	}
	whole, part := math.Modf(v)
	return time.Duration(whole)*time.Millisecond + time.Duration(math.Round(part*1e6)), nil
}

// read is the next line that is not blank, without its end.
func (t *Trace) read() (string, error) {
	for {
		text, err := t.r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return "", &LineError{t.line + 1, "", fmt.Sprintf("is longer than %d bytes; is this CSV?", maxLine)}
		case err != nil && !errors.Is(err, io.EOF):
			return "", fmt.Errorf("read the trace after line %d: %w", t.line, err)
		case err != nil && len(text) == 0:
			return "", io.EOF
		}
		t.line++
		if line := strings.TrimRight(string(text), "\r\n"); strings.TrimSpace(line) != "" {
			return line, nil
		}
	}
}

// split gives the fields of a line.
func (t *Trace) split(line string) ([]string, error) {
	if !strings.Contains(line, `"`) {
		return strings.Split(line, ","), nil
	}
	fields, err := csv.NewReader(strings.NewReader(line)).Read()
	if err != nil {
		var parse *csv.ParseError
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, &LineError{t.line, "", fmt.Sprintf("is no CSV: %v; write a double quote within a field twice", err)}
	}
	return fields, nil
}

// clip shortens what a message repeats.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
