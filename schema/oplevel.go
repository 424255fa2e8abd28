package schema

import "time"

// LevelInput is the request of SetLogLevel: from which level on the nodes log. Without a Level it changes nothing and tells how it
// stands.
type LevelInput struct {
	Node       string `json:"Node"`                 // id of a manager or frontend, or [AllNodes]
	Level      string `json:"Level,omitempty"`      // debug, info, warn, error
	ForSeconds int    `json:"ForSeconds,omitempty"` // after which it goes back; 0: it stays until the node ends
}

// AllNodes names every frontend and manager in a [LevelInput].
const AllNodes = "all"

// MaxLevelFor is the longest that a level is changed for a while.
const MaxLevelFor = 24 * time.Hour

// LevelOutput is the answer of SetLogLevel: how it stands at each node that answered.
type LevelOutput struct {
	Nodes  []NodeLevel `json:"nodes"`
	Silent []string    `json:"silent,omitempty"` // nodes that are known and did not answer in time
}

// NodeLevel is from which level on a node logs. Nodes of one process log together: a change at one is one at all of them.
type NodeLevel struct {
	V     int       `msgpack:"v" json:"-"`
	Kind  string    `msgpack:"k" json:"kind"` // frontend or manager
	ID    string    `msgpack:"i" json:"node"`
	Level string    `msgpack:"l" json:"level"`                    // "" where it cannot be changed
	Until time.Time `msgpack:"u,omitempty" json:"until,omitzero"` // when it goes back; zero: it stays
}

// LevelOrder changes it at one node, or looks where Level is empty. It goes to a manager's `ctl` within a [Control], and to a
// frontend's inbox.
type LevelOrder struct {
	V     int           `msgpack:"v"`
	Level string        `msgpack:"l,omitempty"`
	For   time.Duration `msgpack:"f,omitempty"`
}
