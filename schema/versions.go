package schema

// versioned is a record or status that says in which version it was written.
type versioned interface{ version() int }

func (r FunctionRecord) version() int    { return r.V }
func (r SecretRecord) version() int      { return r.V }
func (r SealKeyRecord) version() int     { return r.V }
func (r MemberRecord) version() int      { return r.V }
func (r LeaseRecord) version() int       { return r.V }
func (r RingRecord) version() int        { return r.V }
func (r ArcRecord) version() int         { return r.V }
func (s ManagerStatus) version() int     { return s.V }
func (s FrontendStatus) version() int    { return s.V }
func (f Fabric) version() int            { return f.V }
func (r ReservationRecord) version() int { return r.V }
func (r LimitRecord) version() int       { return r.V }

func (a Ask) version() int          { return a.V }
func (e Event) version() int        { return e.V }
func (d DeadLetter) version() int   { return d.V }
func (l LogLines) version() int     { return l.V }
func (c ManagerClaim) version() int { return c.V }
func (p Promise) version() int      { return p.V }
func (w Way) version() int          { return w.V }
func (c Control) version() int      { return c.V }
func (a KeyAsk) version() int       { return a.V }
func (a KeyAnswer) version() int    { return a.V }
func (a StoryAsk) version() int     { return a.V }
func (l NodeLevel) version() int    { return l.V }
func (o LevelOrder) version() int   { return o.V }
func (p StoryPart) version() int    { return p.V }

func (r WorkerRecord) version() int { return r.V }
func (l WorkerLease) version() int  { return l.V }
func (h WorkerHello) version() int  { return h.V }
func (o WorkerOpen) version() int   { return o.V }
func (f LinkFrame) version() int    { return f.V }
func (o WorkerOrder) version() int  { return o.V }
func (r WorkerReport) version() int { return r.V }

// WriteVersion is the version in which records are written while these members live: the lowest that one of them reads,
// so that a fabric is updated node by node. Without members it is [Version]. DESIGN 9.
func WriteVersion(members []MemberRecord) int {
	lowest := Version
	for _, m := range members {
		lowest = min(lowest, max(1, m.Reads))
	}
	return lowest
}

// CheckVersion reports whether this build reads records of version v: its own or the one before. The error says what to
// do; its code is [CodeInternal], for no caller can help it.
func CheckVersion(v int) error {
	oldest := max(1, Version-1)
	switch {
	case v < 1:
		return Errorf(CodeInternal, "a record without a version")
	case v > Version:
		return Errorf(CodeInternal, "a record of version %d, written by a newer build; this one reads up to %d: update this node", v, Version)
	case v < oldest:
		return Errorf(CodeInternal, "a record of version %d; this build reads %d to %d: run the build in between first, it rewrites them",
			v, oldest, Version)
	}
	return nil
}
