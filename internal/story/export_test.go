package story

// Names is how many names a book keeps.
func (b *Book) Names() int { return len(b.names) + len(b.older) }
