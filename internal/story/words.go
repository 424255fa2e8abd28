package story

import (
	"fmt"
	"strconv"
	"time"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// word is a step as it is told.
type word struct {
	what, text string
	facts      map[string]string
}

// facts makes a map of pairs, leaving out those without a value.
func facts(pairs ...string) map[string]string {
	m := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			m[pairs[i]] = pairs[i+1]
		}
	}
	return m
}

func one(what, text string, pairs ...string) []word { return []word{{what, text, facts(pairs...)}} }

func digits[T int | int32 | int64 | uint16](n T) string { return strconv.FormatInt(int64(n), 10) }

// span is a duration as people read it: three digits that count.
func span(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

func microsOf(n int32) time.Duration { return time.Duration(n) * time.Microsecond }

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return digits(n) + " " + what + "s"
}

// words are what a step says. Some say more than one thing.
func (s *Step) words() []word {
	if s.Code < claimed {
		return s.frontendWords()
	}
	return s.managerWords()
}

func (s *Step) frontendWords() []word {
	attempt := digits(s.attempt)
	switch s.Code {
	case admitted:
		return s.admission()
	case decided:
		return s.decision()
	case stored:
		return one("stored", fmt.Sprintf("the stream has it: %s, sequence %d", s.s, s.long), "stream", s.s, "sequence", digits(s.long))
	case spilled:
		arc, why := subjects.UnreservedName(int(s.n[4])), "it does not take calls now"
		if s.t == string(schema.ReasonScale) {
			why = "it is full"
		}
		return one("spilled", fmt.Sprintf("the reserved arc refused it, %s: published on unreserved arc %s instead (reason %s)", why, arc, s.t),
			"arc", arc, "reason", s.t)
	case overflowed:
		arc := subjects.UnreservedName(int(s.n[4]))
		return one("overflow", fmt.Sprintf("a catcher moved it to unreserved arc %s, no member of the reservation was idle: %s has it, sequence %d (reason overflow)",
			arc, s.s, s.long), "arc", arc, "reason", string(schema.ReasonOverflow), "stream", s.s, "sequence", digits(s.long))
	case named:
		return one("running", "manager "+s.s+" says that it has the call", "manager", s.s)
	case gone:
		text := "its message is not in the stream any more: somebody has taken it"
		if s.flags&flagDoubt != 0 {
			text = "its start-by passed, and its message was not in the stream any more: somebody has started it, so the wait goes on"
		}
		return one("taken", text)
	case refused:
		return one("refused", fmt.Sprintf("refused, it did not start: %s: %s", s.s, s.t), "code", s.s, "message", s.t)
	case answered:
		if s.s != "" {
			return one("answered", "the answer came through here: its time-out was over", "outcome", string(schema.StoryTimeout), "code", s.s)
		}
		if s.flags&flagFailed != 0 {
			return one("answered", "the answer came through here: an error of the function or its runtime", "outcome", string(schema.StoryError))
		}
		return one("answered", "the answer came through here, and went to whoever waited", "outcome", string(schema.StoryOK))
	case ended:
		return one("ended", "its manager told the end: the answer went straight to the caller")
	case untold:
		return one("untold", "nobody told its end; its caller had an answer, or had gone")
	case lost:
		return one("lost", "nobody can tell whether it ran, for its manager is gone: answered "+string(schema.CodeExecutionLost),
			"code", string(schema.CodeExecutionLost))
	case repeated:
		return one("again", "lost, and the function is idempotent: published again, attempt "+attempt, "attempt", attempt)
	case joined:
		return one("joined", "another frontend had published this try of the event: its answer comes here from now on", "tries", digits(s.n[1]))
	case abandoned:
		return one("abandoned", "its caller has gone; the call goes on")
	}
	return one("unknown", "step "+digits(int64(s.Code)))
}

func (s *Step) admission() []word {
	door, tries := "nats", ""
	how := "taken over NATS"
	switch {
	case s.flags&flagHTTP != 0:
		door, how = "http", "taken over HTTP"
	case s.flags&flagEvent != 0:
		door, tries = "event", digits(s.n[1])
		how = fmt.Sprintf("taken from the stream of events, try %d", s.n[1]+1)
	}
	startBy := time.Duration(s.long)
	return one("admitted", fmt.Sprintf("%s, %s; it has to start within %s", how, plural(int64(s.n[0]), "byte"), span(startBy)),
		"door", door, "bytes", digits(s.n[0]), "start_by", startBy.String(), "tries", tries)
}

func (s *Step) decision() []word {
	l, m, b, c := s.n[0], s.n[1], s.n[2], s.n[3]
	arc, kind := s.s, "reserved"
	if arc == "" {
		arc, kind = subjects.UnreservedName(int(s.n[4])), "unreserved"
	}
	why := "the version has no reservation that takes calls"
	switch schema.Reason(s.t) {
	case schema.ReasonReserved:
		why = fmt.Sprintf("%s in flight, within L %d and S %d", plural(int64(c), "call"), l, m)
	case schema.ReasonSpillover:
		why = fmt.Sprintf("%s in flight, beyond L %d or S %d, but of S %d members only B %d are busy", plural(int64(c), "call"), l, m, m, b)
	case schema.ReasonScale:
		why = fmt.Sprintf("%s in flight, beyond L %d or S %d, and B %d of S %d members are busy", plural(int64(c), "call"), l, m, b, m)
	}
	attempt := digits(s.attempt)
	return []word{
		{"decided", fmt.Sprintf("goes to %s arc %s: %s (reason %s)", kind, arc, why, s.t), facts(
			"arc", arc, "reason", s.t, "L", digits(l), "S", digits(m), "B", digits(b), "C", digits(c))},
		{"published", "published on arc " + arc + ", attempt " + attempt, facts("arc", arc, "attempt", attempt)},
	}
}

func (s *Step) managerWords() []word {
	switch s.Code {
	case claimed:
		return s.claiming()
	case waits:
		if s.flags&flagMade != 0 {
			return one("waits", "no environment is free for it: one is being made", "made", "true")
		}
		return one("waits", "no environment is free for it: it takes the first that comes")
	case kept:
		return one("kept", "nothing is idle: the catcher keeps it for "+span(microsOf(s.n[0]))+", something may come free", "for", microsOf(s.n[0]).String())
	case givenBack:
		after := microsOf(s.n[0])
		text := "given back (NAK), " + s.s + ": it comes again at once"
		if after > 0 {
			text = "given back (NAK), " + s.s + ": it comes again after " + span(after)
		}
		return one("given_back", text, "why", s.s, "after", after.String())
	case fetched:
		return one("fetched", "fetched the payload from the frontend that holds it, "+plural(int64(s.n[0]), "byte"), "bytes", digits(s.n[0]))
	case handedOn:
		return one("handed_over", "handed to manager "+s.s+", which keeps a warm environment for it", "to", s.s)
	case unpromised:
		return one("not_promised", "manager "+s.s+" was thought to have a warm environment and did not promise it: goes on here", "by", s.s)
	case movedOff:
		arc := subjects.UnreservedName(int(s.n[4]))
		return one("moved", "no member of the reservation is idle: won the lock, and moved it to unreserved arc "+arc+" (reason overflow)",
			"arc", arc, "reason", string(schema.ReasonOverflow))
	case dropped:
		return one("dropped", "left alone, past its start-by: its frontend takes it out and refuses it")
	case notOurs:
		if s.flags&flagDoubt != 0 {
			return one("not_ours", "did not get its lock: somebody else has the call, or its frontend took it out", "line", "lost")
		}
		return one("not_ours", "could not see its acknowledgement leave: not started here, to be on the safe side", "line", "unclear")
	case started:
		return s.start()
	case finished:
		return s.finish()
	case initFailed:
		return one("init_failed", "the init of the environment that was made for it failed, so it did not run: `hearth logs` shows why",
			"outcome", string(schema.StoryError), "code", string(schema.CodeInitError))
	case turnedDown:
		text := "refused, it did not start: " + s.s
		if s.t != "" {
			text += ": " + s.t
		}
		return one("refused", text, "code", s.s, "message", s.t)
	case redirected:
		return one("redirected", "frontend "+s.s+" has its event now: the answer goes there", "to", s.s)
	}
	return one("unknown", "step "+digits(int64(s.Code)))
}

var pulls = [...]struct{ name, text string }{
	PullNone: {"none", "handed over by another manager"}, PullIdle: {"idle", "by the pull of an idle environment"},
	PullRoom: {"room", "by a pull for room"}, PullCatcher: {"catcher", "by a catcher's pull: nothing idle and no room was open before it"},
	PullSurplus: {"surplus", "by the pull of a member above its share"},
}

func (s *Step) claiming() []word {
	pull := pulls[PullNone]
	if i := int(s.n[4]); s.flags&flagHanded == 0 && 0 < i && i < len(pulls) {
		pull = pulls[i]
	}
	text := fmt.Sprintf("claimed on arc %s at rank %d, %s", s.s, s.n[0], pull.text)
	if s.n[1] > 1 {
		text += fmt.Sprintf(", delivery %d", s.n[1])
	}
	if s.n[2] > 0 {
		text += ", " + span(microsOf(s.n[2])) + " old"
	}
	doubt := ""
	if s.flags&flagDoubt != 0 {
		doubt = "true"
		text += "; in doubt: it starts only by the lock"
	}
	tries := ""
	if s.n[3] > 0 {
		tries = digits(s.n[3])
	}
	return one("claimed", text, "arc", s.s, "rank", digits(s.n[0]), "pull", pull.name, "deliveries", digits(s.n[1]), "age", microsOf(s.n[2]).String(),
		"sequence", digits(s.long), "attempt", digits(s.attempt), "reason", s.t, "doubt", doubt, "tries", tries)
}

func (s *Step) start() []word {
	init, waited := microsOf(s.n[0]), microsOf(s.n[1])
	environment := word{"environment", "", facts("environment", s.s, "start", s.t, "waited", waited.String())}
	switch schema.Start(s.t) {
	case schema.StartCold:
		environment.text = "environment " + s.s + " was made for it (cold)"
	case schema.StartSpecialised:
		environment.text = "environment " + s.s + ", which was generic, is bound to it (specialised)"
	default:
		environment.text = "environment " + s.s + " is warm"
	}
	if init > 0 {
		environment.text += ", its init took " + span(init)
		environment.facts["init"] = init.String()
	}
	line := word{"acked", "acknowledged: from here on it may have started", facts()}
	if s.flags&flagDoubt != 0 {
		line = word{"locked", "won the lock: its message is out of the stream, and nobody else starts it", facts()}
	}
	return []word{environment, line, {"started", "runs in environment " + s.s, facts("environment", s.s, "start", s.t)}}
}

func (s *Step) finish() []word {
	took := time.Duration(s.long)
	outcome, text := string(schema.StoryOK), "ended after "+span(took)+": the function answered"
	switch {
	case s.s == string(schema.CodeExecutionLost):
		outcome, text = string(schema.StoryLost), "nobody can tell how it ended: its worker or environment is gone ("+s.s+")"
	case s.s == string(schema.CodeTimedOut):
		outcome, text = string(schema.StoryTimeout), "ended after "+span(took)+": its time-out was over ("+s.s+")"
	case s.flags&flagFailed != 0 && s.s != "":
		outcome, text = string(schema.StoryError), "ended after "+span(took)+": "+s.s
	case s.flags&flagFailed != 0:
		outcome, text = string(schema.StoryError), "ended after "+span(took)+": the function returned an error"
	}
	again := "false"
	if s.flags&flagReusable != 0 {
		again = "true"
	} else {
		text += "; its environment is not used again"
	}
	return one("finished", text, "outcome", outcome, "code", s.s, "duration", took.String(), "environment_reused", again)
}

// outcome is what a step says of how the call stands, false where it says nothing of that.
func outcome(s *schema.StoryStep) (schema.StoryStatus, bool) {
	switch s.What {
	case "finished", "answered":
		return schema.StoryStatus(s.Facts["outcome"]), true
	case "refused":
		return schema.StoryRefused, true
	case "init_failed":
		return schema.StoryError, true
	case "lost":
		return schema.StoryLost, true
	case "published", "joined":
		return schema.StoryRunning, true
	}
	return "", false
}
