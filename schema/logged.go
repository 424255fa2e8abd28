package schema

import (
	"log/slog"
	"net/url"
	"strings"
)

// What of these types goes into a log: who and how much, never a payload, a token or a variable. slog asks for it whatever the handler;
// those below that would stand in another's record alone have a Format or a LogValue of their own ([Variables], [Token]).

// LogValue names the call, and not what it carries.
func (r Request) LogValue() slog.Value {
	return slog.GroupValue(slog.String("account", r.Account), slog.String("function", r.Function), slog.String("qualifier", r.Qualifier),
		slog.String("tenant", r.Tenant), slog.String("request", r.RequestID), slog.Int("bytes", len(r.Payload)), slog.Duration("timeout", r.Timeout),
		slog.Bool("token", r.Token != ""))
}

// LogValue names the call, and not what it carries.
func (c Call) LogValue() slog.Value {
	return slog.GroupValue(slog.String("request", c.RequestID), slog.String("account", c.Account), slog.String("function", c.Function),
		slog.String("version", c.Version), slog.String("tenant", c.Tenant), slog.String("frontend", c.Frontend), slog.Int("attempt", int(c.Attempt)),
		slog.Int("bytes", len(c.Payload)+c.Held))
}

// LogValue names the event, and not what it carries.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", e.ID), slog.String("request", e.RequestID), slog.String("function", e.Function),
		slog.String("tenant", e.Tenant), slog.Int("attempts", e.Attempts), slog.Int("bytes", len(e.Payload)))
}

// LogValue names the event and why it is dead.
func (d DeadLetter) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("event", d.Event), slog.String("reason", string(d.Reason)))
}

// LogValue names the environment, and not what it is given.
func (m WorkerMake) LogValue() slog.Value {
	return slog.GroupValue(slog.String("environment", m.Environment), slog.String("function", m.Function), slog.String("version", m.Version),
		slog.Any("variables", m.Variables))
}

// LogValue names what is ordered.
func (o WorkerOrder) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("end", o.End), slog.Bool("bye", o.Bye)}
	if o.Make != nil {
		attrs = append(attrs, slog.Any("make", *o.Make))
	}
	if o.Start != nil {
		attrs = append(attrs, slog.String("start", o.Start.Environment))
	}
	return slog.GroupValue(attrs...)
}

// LogValue names the environment, and not what it is given.
func (b Binding) LogValue() slog.Value {
	return slog.GroupValue(slog.String("function", b.Function), slog.String("version", b.Version), slog.Any("variables", b.Variables))
}

// LogValue is how a try ended, and not the function's answer.
func (e EventError) LogValue() slog.Value {
	return slog.GroupValue(slog.String("code", e.Code), slog.Int("status", e.Status), slog.Int("bytes", len(e.Body)))
}

// LogValue is [Hidden].
func (WorkerToken) LogValue() slog.Value { return slog.StringValue(Hidden) }

// LogValue is which frame it is, and not the order or report in it.
func (f LinkFrame) LogValue() slog.Value {
	return slog.GroupValue(slog.String("session", f.Session), slog.Uint64("number", f.Number), slog.Int("bytes", len(f.Body)))
}

// LogValue names the run, and not the call that it is of.
func (s WorkerStart) LogValue() slog.Value {
	return slog.GroupValue(slog.Uint64("run", s.Run), slog.String("environment", s.Environment), slog.Int("bytes", len(s.Call)))
}

// LogValue is what became of an environment.
func (e WorkerEvent) LogValue() slog.Value {
	return slog.GroupValue(slog.String("environment", e.Environment), slog.Int("kind", int(e.Kind)), slog.String("type", e.Type), slog.Int("bytes", len(e.Body)))
}

// LogValue is what a worker reports.
func (r WorkerReport) LogValue() slog.Value {
	attrs := []slog.Attr{slog.Uint64("answered", r.Answered), slog.Bool("drain", r.Drain), slog.Bool("bye", r.Bye)}
	if r.Event != nil {
		attrs = append(attrs, slog.Any("event", *r.Event))
	}
	if r.Ended != nil {
		attrs = append(attrs, slog.Uint64("ended", r.Ended.Run))
	}
	return slog.GroupValue(attrs...)
}

// LogValue names the delivery, and not the call.
func (h HandedClaim) LogValue() slog.Value {
	return slog.GroupValue(slog.String("subject", h.Subject), slog.Uint64("promise", h.Promise), slog.Duration("age", h.Age), slog.Int("bytes", len(h.Call)))
}

// LogValue is what is asked for, or handed over.
func (c ManagerClaim) LogValue() slog.Value {
	var attrs []slog.Attr
	if c.Ask != nil {
		attrs = append(attrs, slog.Any("ask", *c.Ask))
	}
	if c.Claim != nil {
		attrs = append(attrs, slog.Any("claim", *c.Claim))
	}
	if c.Way != nil {
		attrs = append(attrs, slog.Any("way", *c.Way))
	}
	return slog.GroupValue(attrs...)
}

// LogValue says how many lines they are: their text is the function's own.
func (l LogLines) LogValue() slog.Value {
	return slog.GroupValue(slog.String("environment", l.Environment), slog.Int("lines", len(l.Lines)))
}

// LogValue is what a line is of, and not its text.
func (l LogLine) LogValue() slog.Value {
	return slog.GroupValue(slog.String("request", l.RequestID), slog.String("type", l.Kind.Type()), slog.Int("bytes", len(l.Text)))
}

// Redacted is a list of URLs, separated by commas, without passwords and tokens in them.
func Redacted(urls string) string {
	all := strings.Split(urls, ",")
	for i, text := range all {
		u, err := url.Parse(strings.TrimSpace(text))
		switch {
		case err != nil || u.User == nil && strings.Contains(text, "@"):
			all[i] = Hidden
		case u.User == nil:
		default:
			u.User = url.User(Hidden) // a token stands in the user's place
			all[i] = u.String()
		}
	}
	return strings.Join(all, ",")
}
