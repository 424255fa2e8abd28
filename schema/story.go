package schema

import "time"

// Frontends and managers keep the stories of their last calls in memory. The frontend that handles GetTrace asks all of them on
// hearth.trace.<request-id> ([StoryAsk]), each answers with what it saw ([StoryPart]), and package story makes one [Story] of it.
// DESIGN 9.

// StoriesKept is how many calls a node tells of: its last ones.
const StoriesKept = 10_000

// StoryInput is the request of GetTrace. A caller may use one id for several calls: without a name, the last of them is told.
type StoryInput struct {
	RequestID    string `json:"RequestId"`
	FunctionName string `json:"FunctionName,omitempty"` // of this function's call alone; "" any
	TenantID     string `json:"TenantId,omitempty"`     // of this sub-tenant's call alone; "" any
}

// Story is the answer of GetTrace: one call with every decision on its way, as the nodes that had it in hands remember it. No
// payload, no secret and no text of a function is in it.
//
// Clocks of two hosts are never compared (DESIGN 3): steps stand in the order in which they caused one another, and times are to be
// set against times of the same Clock alone.
type Story struct {
	RequestID string      `json:"request_id"`
	Account   string      `json:"account"`
	Function  string      `json:"function"`
	Version   string      `json:"version,omitempty"` // that ran, or was to: of several tries the last one's
	Tenant    string      `json:"tenant,omitempty"`
	Status    StoryStatus `json:"status"`
	Began     time.Time   `json:"began"`           // first step, by the clock of Node
	Ended     time.Time   `json:"ended,omitzero"`  // last step that ended it, by the same clock; zero while it runs
	Node      StoryNode   `json:"node"`            // whose clock that is: the frontend that took the call, where it is known
	Tries     int         `json:"tries"`           // publications: above 1 for retries of an event, and for lost calls that ran again
	Steps     []StoryStep `json:"steps"`           // in causal order
	Left      int         `json:"left,omitempty"`  // steps that were left out: nodes keep a few dozen of one call
	Other     []string    `json:"other,omitempty"` // functions of whose calls the same request id tells too: its caller used it again

	Others []StoryOther `json:"others,omitempty"` // those calls, for StoryInput to name
	Silent []string     `json:"silent,omitempty"` // nodes that are known and did not answer in time, as "manager m2"
}

// StoryOther is another call under the request id of a [Story].
type StoryOther struct {
	Function string `json:"function"`
	Tenant   string `json:"tenant,omitempty"`
}

// String names it for people.
func (o StoryOther) String() string {
	if o.Tenant == "" {
		return o.Function
	}
	return o.Function + " for sub-tenant " + o.Tenant
}

// StoryStatus is how a call stands, or ended, as far as its nodes tell.
type StoryStatus string

// The statuses: those of `hearth invoke --json`, and that it goes on or that nobody tells of its end.
const (
	StoryRunning   StoryStatus = "running"        // published, and not ended yet
	StoryOK        StoryStatus = "ok"             // the function answered
	StoryError     StoryStatus = "function-error" // the function, or its runtime
	StoryTimeout   StoryStatus = "timeout"        // the function's time-out was over
	StoryRefused   StoryStatus = "refused"        // it certainly did not start
	StoryLost      StoryStatus = "lost"           // it may have run
	StoryIsUnknown StoryStatus = "unknown"        // who would know its end did not answer, or has forgotten it
)

// StoryNode is who tells a step. Nodes with the same Clock live on one host, by whose clock they tell time.
type StoryNode struct {
	Kind  string `msgpack:"k" json:"kind"` // StoryFrontend or StoryManager
	ID    string `msgpack:"i" json:"id"`
	Clock string `msgpack:"c" json:"clock"`
}

// The kinds of a [StoryNode].
const (
	StoryFrontend = "frontend"
	StoryManager  = "manager"
)

// StoryStep is one thing that happened to a call at one node.
type StoryStep struct {
	At    time.Time         `msgpack:"t" json:"at"` // by the clock of Node
	Node  StoryNode         `msgpack:"-" json:"node"`
	What  string            `msgpack:"w" json:"what"` // a word that does not change: admitted, decided, published, claimed, …
	Text  string            `msgpack:"x" json:"text"` // the same for people, one line
	Facts map[string]string `msgpack:"f,omitempty" json:"facts,omitempty"`

	// Publication joins the steps of two nodes about one publication of the call; Stage orders them within it.
	Publication uint64 `msgpack:"p,omitempty" json:"-"`
	Stage       uint64 `msgpack:"g,omitempty" json:"-"`
}

// StoryAsk asks a node on hearth.trace.<request-id> for what it knows of a call of this account. Every node answers, also the one
// that knows nothing, so that who asks need not wait.
type StoryAsk struct {
	V         int    `msgpack:"v"`
	RequestID string `msgpack:"r"`
	Account   string `msgpack:"a"`
}

// StoryPart answers it.
type StoryPart struct {
	V     int         `msgpack:"v"`
	Node  StoryNode   `msgpack:"n"`
	Calls []StoryTold `msgpack:"c,omitempty"` // more than one where a caller used the id again for another function
}

// StoryTold is what one node knows of one call, its steps in the order in which they happened there.
type StoryTold struct {
	Function string      `msgpack:"f"`
	Version  string      `msgpack:"v"`
	Tenant   string      `msgpack:"t,omitempty"`
	Steps    []StoryStep `msgpack:"s"`
	Left     int         `msgpack:"l,omitempty"`
}
