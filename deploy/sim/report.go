package sim

import (
	"time"

	"github.com/hearth-run/hearth/schema"
)

// message is one kind of what goes to the NATS server or comes from it.
type message int

const (
	messageCall message = iota
	messageDelivery
	messageAck
	messageLock
	messageNak
	messagePull
	messageWithdrawal
	messageHandover
	messageMove
	messageStore
	messageStatus
	messageFrontend
	messageAnswer
	messageEnd
	messages
)

// messageNames are their names in a [Report].
var messageNames = [messages]string{
	"publish", "delivery", "ack", "lock", "nak", "pull", "withdrawal", "handover", "move", "store", "manager_status", "frontend_status", "answer", "end",
}

func (s *sim) count(m message) { s.messages[m]++ }

// refusal is why a call did not run.
type refusal string

const (
	refusedFull    refusal = "no manager has room"
	refusedCap     refusal = "max-environments"
	refusedGrowth  refusal = "growth"
	refusedStartBy refusal = "start-by"
	refusedQueue   refusal = "subject full"
	refusedTenant  refusal = "sub-tenant"
)

// Report is what became of the calls of a simulation. Times are virtual. It is the object that `hearth sim --json` prints.
type Report struct {
	Managers  int     `json:"managers"`
	Capacity  int     `json:"capacity"` // places of each manager
	Frontends int     `json:"frontends"`
	Seconds   float64 `json:"seconds"` // from the first call to the end of the last

	Calls struct {
		Total   int `json:"total"`
		Ran     int `json:"ran"`
		Refused int `json:"refused"`
	} `json:"calls"`
	Starts struct {
		Cold        int `json:"cold"`
		Specialised int `json:"specialised"`
		Warm        int `json:"warm"`
	} `json:"starts"`
	Reasons struct { // of calls that ran, and those refused
		Reserved   int `json:"reserved"`
		Spillover  int `json:"spillover"`
		Scale      int `json:"scale"`
		Overflow   int `json:"overflow"`
		Unreserved int `json:"unreserved"`
		Refused    int `json:"refused"`
	} `json:"reasons"`
	Refusals struct { // by what said so
		Full     int `json:"full"`             // no manager had room
		Cap      int `json:"max_environments"` // of the fabric
		Growth   int `json:"growth"`           // of the function
		StartBy  int `json:"start_by"`         // it had not started by then
		Queue    int `json:"subject_full"`     // 1,000 calls lay on its subject
		Throttle int `json:"tenant"`           // its sub-tenant has as many environments as it may
	} `json:"refusals"`
	Wait struct { // from a frontend to the start
		P50 float64 `json:"p50_ms"`
		P99 float64 `json:"p99_ms"`
		Max float64 `json:"max_ms"`
	} `json:"wait"`
	Environments struct {
		Made      int     `json:"made"`      // all
		Members   int     `json:"members"`   // of these, for reservations
		Evicted   int     `json:"evicted"`   // to make way
		Expired   int     `json:"expired"`   // after the keep-alive
		Reclaimed int     `json:"reclaimed"` // members above the limit
		Most      int     `json:"most"`      // at once
		Seconds   float64 `json:"seconds"`   // that they were there, added up
	} `json:"environments"`
	Utilisation struct {
		Environments float64 `json:"environments"` // time in which calls ran, over that in which environments were there
		Capacity     float64 `json:"capacity"`     // the same in places, over all places
	} `json:"utilisation"`
	Arcs struct {
		Grown  int `json:"grown"`
		Shrunk int `json:"shrunk"`
	} `json:"arcs"`
	Caught     int `json:"caught"`      // deliveries to catchers
	HandedOver int `json:"handed_over"` // calls from one manager to another

	Messages        map[string]int  `json:"messages"`
	MessagesPerCall float64         `json:"messages_per_call"`
	PerManager      []ManagerReport `json:"per_manager"`
	Reservations    []Reserved      `json:"reservations"`
	Knowing         Knowing         `json:"all_knowing"`
}

// ManagerReport is how one manager was used.
type ManagerReport struct {
	ID          string  `json:"id"`
	Calls       int     `json:"calls"`
	Cold        int     `json:"cold"`
	Made        int     `json:"made"`
	MostPlaces  int     `json:"most_places"` // taken at once
	Utilisation float64 `json:"utilisation"` // of its places
}

// Reserved is how a reservation stood at the end.
type Reserved struct {
	Function string `json:"function"`
	Limit    int    `json:"limit"`
	Size     int    `json:"size"` // members that are ready
	Open     bool   `json:"open"` // its arc takes calls
}

// Knowing is what an all-knowing scheduler would have needed for the same calls on the same places, one queue over all managers: any idle
// environment of the kind, a new one only where none of the kind would be ready before it, in the place of those whose next use is
// furthest in the future; see knowing in this package for its rules and what it bounds.
type Knowing struct {
	Made    int     `json:"made"` // environments, each with a cold start
	Refused int     `json:"refused"`
	WaitP99 float64 `json:"wait_p99_ms"`
	Seconds float64 `json:"environment_seconds"` // each until the end of its last call
	Exact   bool    `json:"exact"`               // it saw all calls from the first on; else the next 65,536

	MadeRatio    float64 `json:"made_ratio"`             // environments made over its
	SecondsRatio float64 `json:"environment_time_ratio"` // environment time of the fabric over its
}

func (r *Report) started(why schema.Reason, start schema.Start) {
	switch start {
	case schema.StartCold:
		r.Starts.Cold++
	case schema.StartSpecialised:
		r.Starts.Specialised++
	default:
		r.Starts.Warm++
	}
	switch why {
	case schema.ReasonReserved:
		r.Reasons.Reserved++
	case schema.ReasonSpillover:
		r.Reasons.Spillover++
	case schema.ReasonScale:
		r.Reasons.Scale++
	case schema.ReasonOverflow:
		r.Reasons.Overflow++
	default:
		r.Reasons.Unreserved++
	}
}

func (r *Report) refused(why refusal) {
	r.Calls.Refused++
	r.Reasons.Refused++
	switch why {
	case refusedFull:
		r.Refusals.Full++
	case refusedCap:
		r.Refusals.Cap++
	case refusedGrowth:
		r.Refusals.Growth++
	case refusedStartBy:
		r.Refusals.StartBy++
	case refusedQueue:
		r.Refusals.Queue++
	default:
		r.Refusals.Throttle++
	}
}

func (r *Report) finish(s *sim) {
	r.Managers, r.Capacity, r.Frontends = s.cfg.Managers, s.cfg.Capacity, s.cfg.Frontends
	r.Seconds = (s.now - s.began).Seconds()
	r.Wait.P50, r.Wait.P99, r.Wait.Max = ms(s.waits.quantile(0.5)), ms(s.waits.quantile(0.99)), ms(s.waits.most)
	r.Messages = make(map[string]int, messages)
	all := 0
	for m, n := range s.messages {
		r.Messages[messageNames[m]] = n
		all += n
	}
	r.MessagesPerCall = over(float64(all), float64(r.Calls.Total))
	var ran, placesRan float64
	for _, i := range byNumber(s.ring.Managers()) {
		u := &s.managers[i].use
		ran, placesRan = ran+u.ran, placesRan+u.placesRan
		r.Environments.Seconds += u.existed
		r.PerManager = append(r.PerManager, ManagerReport{
			ID: s.managers[i].id, Calls: u.calls, Cold: u.cold, Made: u.made, MostPlaces: u.mostHeld,
			Utilisation: over(u.placesRan, r.Seconds*float64(r.Capacity)),
		})
	}
	r.Utilisation.Environments = over(ran, r.Environments.Seconds)
	r.Utilisation.Capacity = over(placesRan, r.Seconds*float64(r.Capacity*r.Managers))
	r.Reservations = []Reserved{}
	for _, res := range s.reserved {
		r.Reservations = append(r.Reservations, Reserved{res.of.name, res.limit, s.size(res), res.open})
	}
	k := s.knowing
	r.Knowing = Knowing{
		Made: k.made, Refused: k.refused, WaitP99: ms(k.waits.quantile(0.99)), Seconds: k.seconds(), Exact: !k.far,
		MadeRatio: over(float64(r.Environments.Made), float64(k.made)),
	}
	r.Knowing.SecondsRatio = over(r.Environments.Seconds, r.Knowing.Seconds)
}

// over is a quotient, 0 where there is nothing to divide by.
func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
