package frontend

import (
	crand "crypto/rand"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/hearth-run/hearth/schema"
)

// tokenDigits is how many hex digits a token has in an inbox subject.
const tokenDigits = 16

// names draws what must be unguessable: the tokens by which calls are named in this frontend's inboxes, and request
// ids. ChaCha8 with a seed from the system is a cryptographic generator and costs no system call a call (SECURITY 2).
type names struct {
	mu  sync.Mutex
	gen *rand.ChaCha8
}

func newNames() *names {
	var seed [32]byte
	crand.Read(seed[:]) // never fails: Go ends the process first
	return &names{gen: rand.NewChaCha8(seed)}
}

// draw gives a token, never 0, and the random bytes of a request id.
func (n *names) draw() (token uint64, id [16]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for token == 0 {
		token = n.gen.Uint64()
	}
	n.gen.Read(id[:]) // never fails
	return token, id
}

// requestID spells a UUID of version 4 in lower case.
func requestID(b [16]byte) string {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// checkRequestID lets a caller name its call: by a UUID of version 4 in lower case, as this frontend would. Nothing but
// logs and answers goes by it; calls are told apart by their tokens.
func checkRequestID(id string) error {
	var b [16]byte
	plain := strings.ReplaceAll(id, "-", "")
	if n, err := hex.Decode(b[:], []byte(plain[:min(len(plain), 32)])); err != nil || n != len(b) || requestID(b) != id {
		return schema.Invalid(schema.FieldError{
			Field: schema.HeaderRequestID, Got: short(id), Allowed: "a UUID of version 4 in lower case, or left out",
		})
	}
	return nil
}

// tokenSubject is an inbox subject of one call: the prefix, which ends in the kind and a dot, and the token.
func tokenSubject(prefix string, token uint64) string {
	var s [96]byte
	b := append(s[:0], prefix...)
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[token>>shift&15])
	}
	return string(b)
}

// parseToken reads the digits of a token; it accepts only what [tokenSubject] writes.
func parseToken(s string) (token uint64, ok bool) {
	if len(s) != tokenDigits {
		return 0, false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			token = token<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			token = token<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return token, true
}

// randomID names a frontend for one life of its process.
func randomID() string {
	var b [8]byte
	crand.Read(b[:])
	return fmt.Sprintf("%x", b)
}
