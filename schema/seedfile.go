package schema

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hearth-run/hearth/subjects"
)

// SeedFile is what lies in the file of a credential that `hearth credential` makes:
//
//	SUAA…                       the user's nkey seed, in the first line that is no comment
//	# inbox prefix: _HC.shop    where its holder may hear answers, if that is not NATS's own place
//
// Tools of NATS read the seed of such a file and leave comments aside; our client reads both.
type SeedFile struct {
	Seed        []byte // a part of what was parsed
	InboxPrefix string // "" means `_INBOX`
}

const (
	comment   = '#'
	inboxLine = "# inbox prefix:"
)

// Encode is the file's content.
func (f SeedFile) Encode() []byte {
	text := append(bytes.Clone(f.Seed), '\n')
	if f.InboxPrefix != "" {
		text = fmt.Appendf(text, "%s %s\n", inboxLine, f.InboxPrefix)
	}
	return text
}

// ParseSeedFile reads the content of such a file. Its errors repeat nothing of it, for it may be a secret of another kind.
func ParseSeedFile(text []byte) (SeedFile, error) {
	var f SeedFile
	var err error
	if f.InboxPrefix, err = InboxPrefixOf(text); err != nil {
		return f, err
	}
	for line := range bytes.Lines(text) {
		switch line = bytes.TrimSpace(line); {
		case len(line) == 0 || line[0] == comment:
		case f.Seed != nil:
			return f, errors.New("more than one line that is no comment")
		default:
			f.Seed = line
		}
	}
	if f.Seed == nil {
		return f, errors.New("no seed")
	}
	return f, nil
}

// InboxPrefixOf finds the inbox prefix that a comment of a credential's file names, of either kind; "" if none does. One
// from which the fabric would not answer is an error, and so are two.
func InboxPrefixOf(text []byte) (string, error) {
	found := ""
	for line := range bytes.Lines(text) {
		value, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(inboxLine))
		if !ok {
			continue
		}
		prefix := string(bytes.TrimSpace(value))
		if !subjects.ReplyAllowed(prefix + ".answer") {
			return "", fmt.Errorf("inbox prefix %.64q: one under which the fabric answers, _HC.NAME of a client", prefix)
		}
		if found != "" && found != prefix {
			return "", fmt.Errorf("two inbox prefixes, %s and %s", found, prefix)
		}
		found = prefix
	}
	return found, nil
}
