package subjects

import "strings"

// StatusAsk is where all managers are asked who runs an event. DESIGN 4.
func (n Names) StatusAsk() string { return n.prefix + ".status.ask" }

// EventFilters are the subjects of one function's events: the filter of its consumer on EVENTS.
func (n Names) EventFilters(account, function string) []string {
	s := n.Event(account, function, "")
	return []string{s, s + ".*"}
}

// RetryHeld is the subject under which the next try of an event waits until its schedule puts it on [Names.RetryDue]. The id,
// of the event and try, makes it one of its kind: a schedule replaces what stands on its subject.
func (n Names) RetryHeld(account, function, id string) string {
	return n.prefix + ".retry.held." + Escape(account) + "." + Escape(function) + "." + Escape(id)
}

// RetryDue is the subject of a function's events whose next try is due: the filter of its consumer on RETRIES.
func (n Names) RetryDue(account, function string) string {
	return n.prefix + ".retry.due." + Escape(account) + "." + Escape(function)
}

// RetryHeldOf is the filter of a function's events that wait on RETRIES.
func (n Names) RetryHeldOf(account, function string) string {
	return n.prefix + ".retry.held." + Escape(account) + "." + Escape(function) + ".*"
}

// Dead is the subject of a function's dead letters.
func (n Names) Dead(account, function string) string {
	return n.prefix + ".dead." + Escape(account) + "." + Escape(function)
}

// DeadOf is the filter of all dead letters of an account.
func (n Names) DeadOf(account string) string { return n.prefix + ".dead." + Escape(account) + ".*" }

// Log is the subject of the lines of a function version, for one sub-tenant ("" for none).
func (n Names) Log(account, function, version, tenant string) string {
	return n.prefix + ".log." + Escape(account) + "." + Escape(function) + "." + Escape(version) + "." + orAbsent(tenant)
}

// LogsOf is the filter of a function's lines; an empty version or tenant means all of them.
func (n Names) LogsOf(account, function, version, tenant string) string {
	any := func(name string) string {
		if name == "" {
			return "*"
		}
		return Escape(name)
	}
	return n.prefix + ".log." + Escape(account) + "." + Escape(function) + "." + any(version) + "." + any(tenant)
}

// ParseLog reads the subject of log lines. It accepts exactly what [Names.Log] yields.
func (n Names) ParseLog(subject string) (account, function, version, tenant string, ok bool) {
	rest, ok := cutPrefix(subject, n.prefix, "log")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 4 {
		return "", "", "", "", false
	}
	var ok1, ok2, ok3, ok4 bool
	account, ok1 = name(parts[0])
	function, ok2 = name(parts[1])
	version, ok3 = name(parts[2])
	tenant, ok4 = fromAbsent(parts[3])
	return account, function, version, tenant, ok1 && ok2 && ok3 && ok4
}

// Usage is the subject of what a manager's workers counted for an account.
func (n Names) Usage(account, manager string) string {
	return n.prefix + ".usage." + Escape(account) + "." + Escape(manager)
}

// UsageOf is the filter of what all managers' workers counted for an account.
func (n Names) UsageOf(account string) string { return n.prefix + ".usage." + Escape(account) + ".*" }

// EventDurable is the durable consumer of a function's events on EVENTS, and of its due retries on RETRIES.
func (n Names) EventDurable(account, function string) string {
	return "e-" + Escape(account) + "~" + Escape(function) // a byte that no escaped name has
}

// RetriesDue is the filter of all events whose next try is due.
func (n Names) RetriesDue() string { return n.prefix + ".retry.due.>" }

// ParseRetryDue reads the subject of events whose next try is due. It accepts exactly what [Names.RetryDue] yields.
func (n Names) ParseRetryDue(subject string) (account, function string, ok bool) {
	rest, ok := cutPrefix(subject, n.prefix, "retry")
	rest, due := strings.CutPrefix(rest, "due.")
	a, f, more := strings.Cut(rest, ".")
	if !ok || !due || !more {
		return "", "", false
	}
	account, ok1 := name(a)
	function, ok2 := name(f)
	if !ok1 || !ok2 {
		return "", "", false
	}
	return account, function, true
}
