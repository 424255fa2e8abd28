package worker

// tailSize is how much of a call's log its caller can ask for (Lambda A8).
const tailSize = 4 << 10

// tail keeps the end of what is written to it.
type tail struct {
	buf []byte
}

func (t *tail) write(p []byte) {
	if len(p) > tailSize {
		p = p[len(p)-tailSize:]
	}
	if len(t.buf)+len(p) > 2*tailSize {
		n := copy(t.buf, t.buf[len(t.buf)-tailSize:])
		t.buf = t.buf[:n]
	}
	t.buf = append(t.buf, p...)
}

// line writes a line of the platform's own, which begins at the left.
func (t *tail) line(text string) {
	if n := len(t.buf); n > 0 && t.buf[n-1] != '\n' {
		t.write([]byte{'\n'})
	}
	t.write([]byte(text))
	t.write([]byte{'\n'})
}

// last is the end of it, at most tailSize bytes.
func (t *tail) last() []byte { return t.buf[max(0, len(t.buf)-tailSize):] }
