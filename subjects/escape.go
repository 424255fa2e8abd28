package subjects

import "strings"

// Absent is the token that stands for a name that is not there. [Escape] yields it for no name.
const Absent = "_"

const upperHex = "0123456789ABCDEF"

// Escape turns any name into one NATS token, KV key part, label or path element. It is injective: bytes of
// [A-Za-z0-9_-] stand for themselves, every other byte becomes =XX, and a name that is just "_" becomes "=5F", so
// that [Absent] stays free. The empty name becomes "=" alone, which nothing else yields. SECURITY 2.
func Escape(name string) string {
	if plain(name) {
		return name
	}
	if name == "" {
		return "="
	}
	if name == Absent {
		return "=5F"
	}
	var b strings.Builder
	b.Grow(len(name) + 8)
	for i := range len(name) {
		if c := name[i]; plainByte(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// Unescape is the inverse of [Escape]. It reports false for every token that Escape does not yield, so a name has
// exactly one spelling.
func Unescape(token string) (string, bool) {
	switch token {
	case "=":
		return "", true
	case "=5F":
		return Absent, true
	case "=24LATEST": // the commonest name that is escaped; this way it costs no allocation
		return "$LATEST", true
	}
	if plain(token) {
		return token, true
	}
	if token == "" || token == Absent {
		return "", false
	}
	b := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if plainByte(c) {
			b = append(b, c)
			continue
		}
		if c != '=' || i+2 >= len(token) {
			return "", false
		}
		hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if hi < 0 || lo < 0 {
			return "", false
		}
		d := byte(hi<<4 | lo)
		if plainByte(d) {
			return "", false
		}
		b = append(b, d)
		i += 2
	}
	return string(b), true
}

// orAbsent escapes a name that may be missing: "" becomes [Absent].
func orAbsent(name string) string {
	if name == "" {
		return Absent
	}
	return Escape(name)
}

func fromAbsent(token string) (string, bool) {
	if token == Absent {
		return "", true
	}
	name, ok := Unescape(token)
	return name, ok && name != ""
}

func plain(s string) bool {
	if s == "" || s == Absent {
		return false
	}
	for i := range len(s) {
		if !plainByte(s[i]) {
			return false
		}
	}
	return true
}

func plainByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
