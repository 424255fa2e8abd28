// Package doctor tells what a host and a NATS server can do for a fabric, what is missing, and how to get it (CLI, `hearth doctor`).
//
//	LookAtHost, LookAtFabric ─► facts ─► Findings ─► one line each, with what to do
//
// Looking and judging are apart: facts are what was seen, and a judgement is a pure function of them, so that every line that can be
// printed is tested on facts that no one host has. The host part needs no network. Of a fabric it asks what the credential may ask,
// and says of what it may not ask that it does not know.
package doctor

import (
	"errors"
	"fmt"
)

// State says how something stands.
type State string

// The states. What is Missing keeps what was asked for from running; a Warning is worth a look.
const (
	OK      State = "ok"
	Warning State = "warning"
	Missing State = "missing"
	Unknown State = "unknown"
)

// Areas of findings.
const (
	AreaHost     = "host"
	AreaSandbox  = "sandbox"
	AreaRuntimes = "runtimes"
	AreaFabric   = "fabric"
)

// Finding is one thing that was looked at.
type Finding struct {
	Area  string `json:"area"`
	Check string `json:"check"` // its name, which never changes
	State State  `json:"state"`
	Found string `json:"found"`         // how it is, for people
	Fix   string `json:"fix,omitempty"` // what to do where it is not OK
}

// Worst is the worst state of some findings: Missing, Warning, or OK, for which what is not known counts too.
func Worst(all []Finding) State {
	worst := OK
	for _, f := range all {
		if f.State == Missing || f.State == Warning && worst == OK {
			worst = f.State
		}
	}
	return worst
}

// list collects findings of an area.
type list struct {
	area string
	all  []Finding
}

func (l *list) add(check string, s State, found, fix string) {
	l.all = append(l.all, Finding{Area: l.area, Check: check, State: s, Found: found, Fix: fix})
}

func (l *list) ok(check, format string, args ...any) {
	l.add(check, OK, fmt.Sprintf(format, args...), "")
}

// reason is an error without the names of files and operations before it, which say nothing to people here.
func reason(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

// bytesText is an amount of memory or disk.
func bytesText(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
