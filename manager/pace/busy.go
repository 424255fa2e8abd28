package pace

// Busy is what a manager remembers of how many members of a reservation it told to be busy: those that were busy all the time since
// the last telling. A member that is busy for less than that is told neither busy nor idle again, which would be a message to
// everybody for each call; the frontends' view may err towards the reserved arc (DESIGN 5). The zero value has told nothing. Not safe
// for concurrent use.
type Busy struct {
	told int // as it was told last
	low  int // the fewest that were busy at any moment since then
}

// Fewer notes that n are busy, since a call has ended, and reports whether those are fewer than was told.
func (b *Busy) Fewer(n int) bool {
	b.low = min(b.low, n)
	return n < b.told
}

// Below reports whether n are fewer than was told, Above whether they are more.
func (b *Busy) Below(n int) bool { return n < b.told }

// Above is described at [Busy.Below].
func (b *Busy) Above(n int) bool { return n > b.told }

// Tell is how many are told busy while n are; rising is that more are by now. Eager is to tell of an idle member before all else.
func (b *Busy) Tell(n int, eager bool) (told int, rising bool) {
	if b.told = n; eager {
		b.told = min(b.low, n)
	}
	b.low = n
	return b.told, n > b.told
}
