package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/schema"
)

// demoStep is one line of `demo --json`; people see its first three members and Text.
type demoStep struct {
	Step     string  `json:"step"` // fabric, deploy, call, left-out, ratio, events, dead-letter, reservation, burst, shrink, sub-tenants
	OK       bool    `json:"ok"`
	Function string  `json:"function,omitempty"`
	Door     string  `json:"door,omitempty"` // nats, http
	Tenant   string  `json:"tenant,omitempty"`
	Answer   any     `json:"answer,omitempty"`
	Start    string  `json:"start,omitempty"`
	Arc      string  `json:"arc,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	Rank     *int    `json:"rank,omitempty"`
	Manager  string  `json:"manager,omitempty"`
	Request  string  `json:"request_id,omitempty"`
	Duration float64 `json:"duration_ms,omitempty"` // of the run
	Init     float64 `json:"init_ms,omitempty"`
	Total    float64 `json:"total_ms,omitempty"` // as the caller sees it
	Detail   string  `json:"detail,omitempty"`
	Why      string  `json:"error,omitempty"`
}

// demoSummary is the last line of `demo --json`.
type demoSummary struct {
	Calls       int     `json:"calls"`
	OK          int     `json:"ok"`
	Cold        int     `json:"cold"`
	Specialised int     `json:"specialised"`
	Warm        int     `json:"warm"`
	P50         float64 `json:"p50_ms"` // of the measured calls, as the caller sees them; of all where none was measured
	P99         float64 `json:"p99_ms"`
	RatioCore   float64 `json:"ratio_core"` // p50 of warm calls to that of a core NATS request, measured in turns; 0: not measured
}

// report prints steps as they come and counts the calls among them.
type report struct {
	app       *app
	json      bool
	failed    int
	summary   demoSummary
	latencies []time.Duration
	err       error // of printing
}

func (r *report) step(s demoStep) {
	if !s.OK {
		r.failed++
	}
	if r.json {
		r.keep(r.app.printJSON(s))
		return
	}
	mark, style := "ok", styleGreen
	switch {
	case s.Step == stepLeftOut:
		mark, style = "--", styleFaint
	case !s.OK:
		mark, style = "FAILED", styleRed
	}
	_, err := fmt.Fprintf(r.app.stdout, "%s %-8s %s\n", r.app.paint(r.app.stdout, style, fmt.Sprintf("%-6s", mark)), s.Step, oneLine(s.text()))
	r.keep(err)
}

func (r *report) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

// text is what people read of a step.
func (s demoStep) text() string {
	out := s.Detail
	if s.Function != "" && s.Step != stepCall {
		out = s.Function + ": " + out
	}
	if s.Step == stepCall {
		out = fmt.Sprintf("%s over %s", s.Function, map[string]string{doorNATS: "NATS", doorHTTP: "HTTP"}[s.Door])
		if s.Tenant != "" {
			out += " for " + s.Tenant
		}
		out += ": " + s.Detail
		if s.Start != "" {
			out += fmt.Sprintf(" (%s, arc %s, %s, rank %d at %s, ran %.1f ms", s.Start, s.Arc, s.Reason, *s.Rank, s.Manager, s.Duration)
			if s.Init > 0 {
				out += fmt.Sprintf(", init %.0f ms", s.Init)
			}
			out += fmt.Sprintf(", in all %.1f ms)", s.Total)
		}
	}
	if s.Why != "" {
		out += " " + s.Why
	}
	return out
}

// count adds a call to the summary.
func (r *report) count(start schema.Start, total time.Duration, right bool) {
	r.summary.Calls++
	if right {
		r.summary.OK++
	}
	switch start {
	case schema.StartCold:
		r.summary.Cold++
	case schema.StartSpecialised:
		r.summary.Specialised++
	case schema.StartWarm:
		r.summary.Warm++
	}
	r.latencies = append(r.latencies, total)
}

// measured adds the calls of the measurement, whose latencies stand for all: those of the steps are mostly cold.
func (r *report) measured(b *benchResult) {
	s := &r.summary
	s.Calls += b.Function.Calls + b.Errors
	s.OK += b.Function.Calls
	s.Cold += b.Cold
	s.Specialised += b.Specialised
	s.Warm += b.Function.Calls - b.Cold - b.Specialised
	s.P50, s.P99, s.RatioCore = rounded(b.Function.P50/1000), rounded(b.Function.P99/1000), b.RatioP50
}

// call tells and counts one call.
func (r *report) call(function, door string, answer *client.Answer, shown string, total time.Duration, err error) {
	s := demoStep{Step: stepCall, OK: err == nil, Function: function, Door: door, Total: inMS(total), Detail: shown}
	if err != nil {
		s.Why = err.Error()
	}
	start := schema.Start("")
	if answer != nil {
		start = answer.Start
		s.Start, s.Arc, s.Reason, s.Manager = string(answer.Start), answer.Arc, string(answer.Reason), answer.Manager
		s.Tenant, s.Request, s.Duration, s.Init = answer.Tenant, answer.RequestID, inMS(answer.Duration), inMS(answer.Init)
		rank := answer.Rank
		s.Rank = &rank
		if json.Valid(answer.Payload) && len(answer.Payload) <= 512 {
			s.Answer = json.RawMessage(answer.Payload)
		}
	}
	r.count(start, total, err == nil)
	r.step(s)
}

// close prints the summary. It is right when every step was.
func (r *report) close() error {
	if r.summary.RatioCore == 0 {
		r.summary.P50, r.summary.P99 = rounded(quantile(r.latencies, 0.5)/1000), rounded(quantile(r.latencies, 0.99)/1000)
	}
	if r.json {
		r.keep(r.app.printJSON(map[string]demoSummary{"summary": r.summary}))
	} else {
		s := r.summary
		text := fmt.Sprintf("%d calls, %d right: %d cold, %d specialised, %d warm; p50 %.2f ms, p99 %.2f ms",
			s.Calls, s.OK, s.Cold, s.Specialised, s.Warm, s.P50, s.P99)
		if s.RatioCore > 0 {
			text += fmt.Sprintf("; a warm call takes %.2f times a plain NATS request", s.RatioCore)
		}
		r.app.println(r.app.paint(r.app.stdout, styleBold, text))
	}
	switch {
	case r.err != nil:
		return fmt.Errorf("print a step: %w", r.err)
	case r.failed > 0:
		return fmt.Errorf("%s of the demo went wrong; see the lines above", plural(r.failed, "step", "steps"))
	case r.summary.Calls == 0:
		return errNothingRan
	}
	return nil
}

func inMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
