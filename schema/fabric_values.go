package schema

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/subjects"
)

// fabricValue is one number of the fabric as the command knows it: its name, how it is written and read, what is
// allowed. set reports false for what it does not allow and then changes nothing.
type fabricValue struct {
	key     string
	allowed string
	get     func(*Fabric) string
	set     func(*Fabric, string) bool
}

// fabricValues are the values of [Fabric] in the order of CLI's table. RecordVersion is not among them: managers agree
// on it, people do not set it.
func fabricValues() []fabricValue {
	return []fabricValue{
		{"theta", "a number above 0, at most 1",
			func(f *Fabric) string { return strconv.FormatFloat(f.Theta, 'g', -1, 64) },
			func(f *Fabric, s string) bool {
				v, err := strconv.ParseFloat(s, 64)
				if err != nil || !(v > 0 && v <= 1) { // also no NaN
					return false
				}
				f.Theta = v
				return true
			}},
		wholeNumber("t", 1, 1000, func(f *Fabric) *int { return &f.T }),
		wholeNumber("arcs", 1, subjects.MaxArcs, func(f *Fabric) *int { return &f.Arcs }),
		wholeNumber("vnodes", 1, 1024, func(f *Fabric) *int { return &f.Vnodes }),
		duration("reclaim", time.Millisecond, 24*time.Hour, func(f *Fabric) *time.Duration { return &f.Reclaim }),
		duration("keep-alive", time.Millisecond, 7*24*time.Hour, func(f *Fabric) *time.Duration { return &f.KeepAlive }),
		duration("quiet", time.Millisecond, 24*time.Hour, func(f *Fabric) *time.Duration { return &f.Quiet }),
		duration("catch", time.Microsecond, time.Second, func(f *Fabric) *time.Duration { return &f.Catch }),
		duration("start-by", 100*time.Millisecond, 15*time.Minute, func(f *Fabric) *time.Duration { return &f.StartBy }),
		wholeNumber("max-environments", 0, 1_000_000, func(f *Fabric) *int { return &f.MaxEnvironments }),
		wholeNumber("growth", 1, 1_000_000, func(f *Fabric) *int { return &f.Growth }),
		{"tenant-policy", "any, subject, key or jwt",
			func(f *Fabric) string { return f.TenantPolicy },
			func(f *Fabric, s string) bool {
				switch s {
				case "any", "subject", "key", "jwt":
					f.TenantPolicy = s
					return true
				}
				return false
			}},
		{"tenant-jwks", "empty, or an http or https URL of at most 1024 bytes without user or fragment",
			func(f *Fabric) string { return f.TenantJWKS },
			func(f *Fabric, s string) bool {
				if s != "" {
					u, err := url.Parse(s)
					if err != nil || len(s) > 1024 || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
						u.Fragment != "" {
						return false
					}
				}
				f.TenantJWKS = s
				return true
			}},
		{"tenant-claim", "at most 64 printable bytes without blanks; empty is tenant",
			func(f *Fabric) string { return f.TenantClaim },
			func(f *Fabric, s string) bool {
				if len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
					return false
				}
				f.TenantClaim = s
				return true
			}},
		{"issuer", "at most 256 printable bytes without blanks",
			func(f *Fabric) string { return f.Issuer },
			func(f *Fabric, s string) bool {
				if len(s) > 256 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
					return false
				}
				f.Issuer = s
				return true
			}},
	}
}

func wholeNumber(key string, least, most int, at func(*Fabric) *int) fabricValue {
	return fabricValue{
		key, fmt.Sprintf("a whole number from %d to %d", least, most),
		func(f *Fabric) string { return strconv.Itoa(*at(f)) },
		func(f *Fabric, s string) bool {
			v, err := strconv.Atoi(s)
			if err != nil || v < least || v > most {
				return false
			}
			*at(f) = v
			return true
		},
	}
}

func duration(key string, least, most time.Duration, at func(*Fabric) *time.Duration) fabricValue {
	return fabricValue{
		key, fmt.Sprintf("a Go duration from %v to %v", least, most),
		func(f *Fabric) string { return at(f).String() },
		func(f *Fabric, s string) bool {
			v, err := time.ParseDuration(s)
			if err != nil || v < least || v > most {
				return false
			}
			*at(f) = v
			return true
		},
	}
}

// Set gives one value by its name in the command (CLI, `fabric set`), checking its range. A refused value changes
// nothing; the error is a [CodeInvalidParameter] that names the key and what is allowed.
func (f *Fabric) Set(key, value string) error {
	values := fabricValues()
	for _, v := range values {
		if v.key != key {
			continue
		}
		if !v.set(f, value) {
			return Invalid(FieldError{key, clip(value), v.allowed})
		}
		return nil
	}
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = v.key
	}
	return Invalid(FieldError{"key", clip(key), "one of " + strings.Join(names, ", ")})
}

// Values are the values by their names in the command, each spelled so that [Fabric.Set] reads it back.
func (f Fabric) Values() map[string]string {
	out := make(map[string]string)
	for _, v := range fabricValues() {
		out[v.key] = v.get(&f)
	}
	return out
}

// Validate names every value that is out of its range.
func (f Fabric) Validate() []FieldError {
	var bad []FieldError
	for _, v := range fabricValues() {
		s, scratch := v.get(&f), f
		if !v.set(&scratch, s) {
			bad = append(bad, FieldError{v.key, clip(s), v.allowed})
		}
	}
	return bad
}
