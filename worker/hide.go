package worker

import (
	"bytes"
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// maxSecrets is how many secrets of an environment are looked for: the one by which it asks, and of its tokens the last ones, of
// which two are good at most.
const maxSecrets = 9

// hide has a secret that the environment is told stand as stars in its lines and failures from now on. Of a token its signature
// alone is hidden too: without that the rest is of no use to anybody. What a function writes in another form, it can hide from
// nobody but itself.
func (l *logs) hide(secret string) {
	add := [][]byte{[]byte(secret)}
	if i := strings.LastIndexByte(secret, '.'); i >= 0 && len(secret)-i > 16 {
		add = append(add, []byte(secret[i+1:]))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.secrets) + len(add) - maxSecrets; n > 0 {
		l.secrets = append(l.secrets[:1:1], l.secrets[1+n:]...) // the first is the one by which it asks
	}
	l.secrets = append(l.secrets, add...)
}

// sieves reports whether the tail of a call has lines, as they pass, and not the bytes as they come. The mutex is held.
func (l *logs) sieves() bool { return l.least > schema.LevelNone || len(l.secrets) > 0 }

// hush is a line without secrets. Of one that is cut off the end is held back if a secret may begin there: it is a part of the
// next piece. The mutex is held.
func (l *logs) hush(text []byte, cut bool) (told, held []byte) {
	if len(l.secrets) == 0 {
		return text, nil
	}
	for _, s := range l.secrets {
		if bytes.Contains(text, s) {
			text = bytes.ReplaceAll(text, s, []byte(schema.Hidden))
		}
	}
	if !cut {
		return text, nil
	}
	most := 0
	for _, s := range l.secrets {
		for n := min(len(s)-1, len(text), keepLine/2); n > most; n-- {
			if bytes.HasSuffix(text, s[:n]) {
				most = n
			}
		}
	}
	return text[:len(text)-most], bytes.Clone(text[len(text)-most:])
}

// hushed is a failure that the function posted, without secrets: it stands in answers, dead letters, spans and statuses. A failure that
// is told is often that of a request, with its headers.
func (l *logs) hushed(f *schema.FunctionError) *schema.FunctionError {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f == nil || len(l.secrets) == 0 {
		return f
	}
	c := *f
	for _, text := range []*string{&c.Type, &c.Message} {
		told, _ := l.hush([]byte(*text), false)
		*text = string(told)
	}
	if c.Body != nil {
		c.Body, _ = l.hush(c.Body, false)
	}
	return &c
}
