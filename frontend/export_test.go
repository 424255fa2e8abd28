package frontend

// Sees reports whether this frontend routes calls of a version by this marker, 0 for no open arc.
func (f *Frontend) Sees(account, function, version string, marker uint64) bool {
	fn := f.functions.get(target{account, function})
	if fn == nil || fn.versions[version] == nil {
		return false
	}
	r := fn.versions[version].tally.reservation.Load()
	if r == nil || !r.open {
		return marker == 0
	}
	return r.marker == marker
}

// Doubts reports whether a reserved arc has refused a call since its record changed last.
func (f *Frontend) Doubts(account, function, version string) bool {
	return f.functions.get(target{account, function}).versions[version].tally.reservation.Load().suspect.Load() != 0
}

// TriesGone reports whether this frontend would send a call of a version to its reserved arc, though it found that the stream is gone.
func (f *Frontend) TriesGone(account, function, version string) bool {
	r := f.functions.get(target{account, function}).versions[version].tally.reservation.Load()
	return r.takes() && r.stream.first.Load() == gone
}

// Members are S and B of a version as a decision here would read them.
func (f *Frontend) Members(account, function, version string) (ready, busy int) {
	r := f.functions.get(target{account, function}).versions[version].tally.reservation.Load()
	if r == nil {
		return 0, 0
	}
	return r.members.load()
}

// Elsewhere is how many calls of a version other frontends tell of, as a decision here would count them.
func (f *Frontend) Elsewhere(account, function, version string) int64 {
	r := f.functions.get(target{account, function}).versions[version].tally.reservation.Load()
	if r == nil {
		return 0
	}
	return r.others.calls.Load()
}
