package subjects

import (
	"math"
	"strconv"
	"strings"
)

// Target is what a call subject names.
type Target struct {
	Account, Function string
	Tenant            string // "" where the subject names none
}

// ParseInvoke reads the subject of a sync call. It accepts exactly what [Names.Invoke] yields.
func (n Names) ParseInvoke(subject string) (Target, bool) { return n.parseCall("invoke", subject) }

// ParseEvent reads the subject of an async call.
func (n Names) ParseEvent(subject string) (Target, bool) { return n.parseCall("event", subject) }

func (n Names) parseCall(kind, subject string) (Target, bool) {
	rest, ok := cutPrefix(subject, n.prefix, kind)
	if !ok {
		return Target{}, false
	}
	account, rest, ok := strings.Cut(rest, ".")
	if !ok {
		return Target{}, false
	}
	function, tenant, more := strings.Cut(rest, ".")
	var t Target
	var a, f, s bool
	t.Account, a = name(account)
	t.Function, f = name(function)
	s = true
	if more {
		t.Tenant, s = name(tenant)
	}
	return t, a && f && s
}

// ParseAPI reads the subject of a control operation: the account ([FabricAccount] for the fabric) and the operation.
func (n Names) ParseAPI(subject string) (account, operation string, ok bool) {
	rest, ok := cutPrefix(subject, n.prefix, "api")
	if !ok {
		return "", "", false
	}
	token, operation, ok := strings.Cut(rest, ".")
	if !ok || !plain(operation) {
		return "", "", false
	}
	if token == FabricAccount {
		return FabricAccount, operation, true
	}
	// An account that is really called "_" is spelled "=5F": it must not pass for the fabric.
	account, ok = name(token)
	if !ok || account == FabricAccount {
		return "", "", false
	}
	return account, operation, true
}

// ArcCall is what the subject of a published call says.
type ArcCall struct {
	Reserved                           bool
	Number                             int // unreserved arc, or shard
	Account, Function, Version, Tenant string
	Epoch                              uint64 // of a reserved arc
}

// ParseArc reads the subject of a call on an arc. It accepts exactly what [Names.UnreservedCall] and
// [Names.ReservedCall] yield.
func (n Names) ParseArc(subject string) (ArcCall, bool) {
	rest, ok := cutPrefix(subject, n.prefix, "arc")
	if !ok {
		return ArcCall{}, false
	}
	var part [6]string
	for i := range part {
		var more bool
		part[i], rest, more = strings.Cut(rest, ".")
		if more == (i == len(part)-1) {
			return ArcCall{}, false
		}
	}
	c := ArcCall{Reserved: part[0] == "r"}
	if !c.Reserved && part[0] != "u" {
		return ArcCall{}, false
	}
	number, ok1 := number(part[1])
	c.Number = int(number)
	var ok2, ok3, ok4, ok5 bool
	c.Account, ok2 = name(part[2])
	c.Function, ok3 = name(part[3])
	c.Version, ok4 = name(part[4])
	if c.Reserved {
		c.Epoch, ok5 = number64(part[5])
	} else {
		c.Tenant, ok5 = fromAbsent(part[5])
	}
	if !(ok1 && ok2 && ok3 && ok4 && ok5) {
		return ArcCall{}, false
	}
	return c, true
}

// ArcName is the short name of an arc in answers, spans and tables: "u.17", "r.0.default.resize.1.7".
func (c ArcCall) ArcName() string {
	if !c.Reserved {
		return UnreservedName(c.Number)
	}
	return "r." + strconv.Itoa(c.Number) + "." + Escape(c.Account) + "." + Escape(c.Function) + "." + Escape(c.Version) + "." +
		strconv.FormatUint(c.Epoch, 10)
}

// IsReservedName reports whether a short name is that of a reserved arc.
func IsReservedName(arc string) bool { return strings.HasPrefix(arc, "r.") }

// UnreservedName is the short name of unreserved arc nn.
func UnreservedName(nn int) string { return "u." + strconv.Itoa(nn) }

func cutPrefix(subject, prefix, kind string) (string, bool) {
	if len(subject) > MaxSubject {
		return "", false
	}
	rest, ok := strings.CutPrefix(subject, prefix)
	if !ok || !strings.HasPrefix(rest, ".") {
		return "", false
	}
	rest, ok = strings.CutPrefix(rest[1:], kind)
	if !ok || !strings.HasPrefix(rest, ".") {
		return "", false
	}
	return rest[1:], true
}

func name(token string) (string, bool) {
	s, ok := Unescape(token)
	return s, ok && s != ""
}

func number(s string) (uint64, bool) {
	v, ok := number64(s)
	return v, ok && v <= 1<<16
}

// number64 accepts the one decimal spelling of a number: no sign, no leading zero. It allocates nothing, also for what
// is no number (strconv's errors do).
func number64(s string) (v uint64, ok bool) {
	if s == "" || len(s) > 20 || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	for i := range len(s) {
		d := uint64(s[i] - '0')
		if d > 9 || v > (math.MaxUint64-d)/10 {
			return 0, false
		}
		v = v*10 + d
	}
	return v, true
}
