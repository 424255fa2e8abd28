package subjects

import "strings"

// MaxReply is the longest reply subject that is answered, in bytes; MaxSubject the longest subject that is parsed.
const (
	MaxReply   = 256
	MaxSubject = 1024
)

// ReplyAllowed reports whether a reply subject that a stranger chose may be answered: literal, at most [MaxReply]
// bytes, and an inbox of clients ("_INBOX.", "_INBOX_<user>.", "_HC.<name>.") or of callers in other NATS accounts ("_R_."). A reply
// anywhere else would make the fabric publish with its own rights where the caller has none. The fabric's own inboxes
// are not open to strangers either. SECURITY 2.
func ReplyAllowed(reply string) bool {
	if len(reply) > MaxReply || !literal(reply) {
		return false
	}
	first, _, _ := strings.Cut(reply, ".")
	return len(first) < len(reply) &&
		(first == "_INBOX" || first == "_R_" || first == "_HC" || strings.HasPrefix(first, "_INBOX_") && len(first) > len("_INBOX_"))
}

// FabricReplyAllowed is [ReplyAllowed] for what nodes of the fabric send one another: their own inboxes count too.
func FabricReplyAllowed(reply string) bool {
	if ReplyAllowed(reply) {
		return true
	}
	if len(reply) > MaxReply || !literal(reply) {
		return false
	}
	first, _, more := strings.Cut(reply, ".")
	return more && (first == "_HF" || first == "_HM" || first == "_HW")
}

// literal reports whether every token of a subject stands for itself and none is empty.
func literal(subject string) bool {
	start := 0
	for i := 0; i <= len(subject); i++ {
		if i < len(subject) && subject[i] != '.' {
			if c := subject[i]; c <= ' ' || c == 0x7f || c == '*' || c == '>' {
				return false
			}
			continue
		}
		if i == start {
			return false
		}
		start = i + 1
	}
	return true
}
