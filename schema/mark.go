package schema

// Mark is how a call ended, as its manager tells its frontend in one byte of [Ends]: how it found its environment, and its end.
// The zero value is that of managers which tell neither.
type Mark uint8

// Ends of a [Mark].
const (
	MarkNone     Mark = iota << 2
	MarkOK            // the function answered
	MarkFailed        // its own error, or its runtime's
	MarkTimedOut      // its time-out was over
	MarkRefused       // it certainly did not run
)

const markStart Mark = 1<<2 - 1

var markStarts = [...]Start{"", StartCold, StartSpecialised, StartWarm}

// MarkOf is the mark of a call that ran; o is nil where its worker told nothing of it.
func MarkOf(start Start, o *Outcome) Mark {
	var m Mark
	for i, s := range markStarts {
		if s == start {
			m = Mark(i)
		}
	}
	switch {
	case o == nil:
	case o.Error == nil:
		m |= MarkOK
	case o.Error.PlatformCode() == CodeTimedOut: // a function may call its errors so too
		m |= MarkTimedOut
	default:
		m |= MarkFailed
	}
	return m
}

// Start is how the call found its environment, "" where that is not told.
func (m Mark) Start() Start { return markStarts[m&markStart] }

// End is how it ended: one of the Mark constants, or one of a later build.
func (m Mark) End() Mark { return m &^ markStart }

// Failed reports whether the function ran and gave no good answer.
func (m Mark) Failed() bool { return m.End() == MarkFailed || m.End() == MarkTimedOut }
