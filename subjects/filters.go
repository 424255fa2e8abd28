package subjects

// EventsOf is the filter of all async calls of an account: what its EVENTS stream takes.
func (n Names) EventsOf(account string) string { return n.prefix + ".event." + Escape(account) + ".>" }

// RetriesAll is the filter of what the stream RETRIES takes.
func (n Names) RetriesAll() string { return n.prefix + ".retry.>" }

// DeadLettersAll is the filter of what the stream DEADLETTERS takes.
func (n Names) DeadLettersAll() string { return n.prefix + ".dead.>" }

// UsageAll is the filter of what the stream USAGE takes.
func (n Names) UsageAll() string { return n.prefix + ".usage.>" }

// LogsAll is the filter of what the stream LOGS takes.
func (n Names) LogsAll() string { return n.prefix + ".log.>" }
