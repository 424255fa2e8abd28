package subjects

import (
	"strconv"
	"strings"
)

// A worker that is a process of its own speaks to a manager on subjects that name it, `_HM.<manager>.w.<worker>.…`: the NATS
// server lets it publish to its own and to no other's, so that they say who speaks. SECURITY 6.

// WorkerOpen is where a manager opens a session with a worker that is a process of its own.
func (n Names) WorkerOpen(id string) string { return n.prefix + ".w." + Escape(id) + ".open" }

// WorkerLink is where a manager speaks to such a worker in a session.
func (n Names) WorkerLink(id string) string { return n.prefix + ".w." + Escape(id) + ".link" }

// WorkerInbox is an inbox of a worker.
func WorkerInbox(id, rest string) string { return workerInboxes + Escape(id) + "." + rest }

const workerInboxes = "_HW."

// OfWorker reports whether a subject is an inbox of this worker.
func OfWorker(reply, id string) bool {
	return len(reply) <= MaxReply && strings.HasPrefix(reply, WorkerInbox(id, "")) && literal(reply)
}

// workerMark is the token of a manager's inboxes below which workers speak.
const workerMark = "w."

// ManagerOf is a subject below those on which a worker speaks to a manager; rest may be several tokens.
func ManagerOf(manager, worker, rest string) string {
	return ManagerInbox(manager, workerMark+Escape(worker)+"."+rest)
}

// ManagerAny is what a worker may publish to of what managers hear: its own, of any manager.
func ManagerAny(worker string) string { return "_HM.*." + workerMark + Escape(worker) + ".>" }

// ManagerHello is where a worker asks a manager for a session.
func ManagerHello(manager, worker string) string { return ManagerOf(manager, worker, "hello") }

// ManagerLink is where a worker speaks to its manager in a session, and ManagerPayload where it asks for a call's payload.
func ManagerLink(manager, worker, session string) string {
	return ManagerOf(manager, worker, "l."+session)
}

// ManagerPayload is described at [ManagerLink].
func ManagerPayload(manager, worker, session string) string {
	return ManagerOf(manager, worker, "p."+session)
}

// ManagerToken is where a worker asks in a session for the token of one of its environments.
func ManagerToken(manager, worker, session string) string {
	return ManagerOf(manager, worker, "t."+session)
}

// WorkerAsk is what a worker asks its manager to have the NATS server do, for it has no right to: the kind and what follows it.
type WorkerAsk string

// What workers ask for. The server answers into the inbox of the worker.
const (
	AskHello WorkerAsk = "hello" // asks for a session; the manager itself answers
	AskLease WorkerAsk = "lease" // writes the worker's lease
	AskLog   WorkerAsk = "log"   // stores log lines
	AskCode  WorkerAsk = "code"  // reads of a package
	AskUsage WorkerAsk = "usage" // stores what it counted
)

// ManagerAsks is the filter of what all workers ask a manager for, of one kind.
func ManagerAsks(manager string, kind WorkerAsk) string {
	all := ManagerInbox(manager, workerMark+"*."+string(kind))
	if kind == AskLog || kind == AskCode {
		all += ".>"
	}
	return all
}

// ParseWorkerAsk reads the subject of a question to this manager: whose it is, and what follows the kind.
func ParseWorkerAsk(subject, manager string, kind WorkerAsk) (worker, rest string, ok bool) {
	if len(subject) > MaxSubject {
		return "", "", false
	}
	rest, ok = strings.CutPrefix(subject, ManagerInbox(manager, workerMark))
	token, rest, more := strings.Cut(rest, ".")
	worker, named := name(token)
	if !ok || !more || !named {
		return "", "", false
	}
	if rest == string(kind) {
		return worker, "", true
	}
	rest, ok = strings.CutPrefix(rest, string(kind)+".")
	return worker, rest, ok && rest != ""
}

// ManagerLease is where a worker asks for its lease to be written.
func ManagerLease(manager, worker string) string { return ManagerOf(manager, worker, string(AskLease)) }

// ManagerLog is where a worker gives log lines whose subject this is; "" if that is none of [Names.Log].
func (n Names) ManagerLog(manager, worker, log string) string {
	rest, ok := cutPrefix(log, n.prefix, "log")
	if !ok {
		return ""
	}
	return ManagerOf(manager, worker, string(AskLog)+"."+rest)
}

// LogOfAsk is the subject of the log lines of a question whose rest this is.
func (n Names) LogOfAsk(rest string) (string, bool) {
	log := n.prefix + ".log." + rest
	_, _, _, _, ok := n.ParseLog(log)
	return log, ok
}

// ManagerUsage is where a worker gives what it counted.
func ManagerUsage(manager, worker string) string { return ManagerOf(manager, worker, string(AskUsage)) }

// Piece says which part of a package is read: its entry, or the first piece of these chunks that stands at a sequence or after it.
type Piece struct {
	SHA256 string // 64 hexadecimal digits
	Chunks string // the object's name for its chunks, "" for the entry
	From   uint64
}

// ManagerCode is where a worker asks for part of a package.
func ManagerCode(manager, worker string, p Piece) string {
	rest := string(AskCode) + "." + p.SHA256
	if p.Chunks != "" {
		rest += "." + p.Chunks + "." + strconv.FormatUint(p.From, 10)
	}
	return ManagerOf(manager, worker, rest)
}

// ParsePiece reads what follows the kind in [ManagerCode]. What it lets through is literal and made of plain letters and digits.
func ParsePiece(rest string) (p Piece, ok bool) {
	sha, rest, more := strings.Cut(rest, ".")
	if len(sha) != 64 || strings.Trim(sha, "0123456789abcdef") != "" {
		return Piece{}, false
	}
	p.SHA256 = sha
	if !more {
		return p, true
	}
	chunks, from, more := strings.Cut(rest, ".")
	if !more || len(chunks) > 64 || !plain(chunks) {
		return Piece{}, false
	}
	p.Chunks = chunks
	p.From, ok = number64(from)
	return p, ok
}
