package schema

import (
	"time"

	"github.com/hearth-run/hearth/subjects"
)

// Fabric is the numbers that all nodes share: key fabric of bucket ring, written by the first manager, changed by
// `hearth fabric set`. The JSON names are those of the command. DESIGN 5, CLI.
type Fabric struct {
	V               int           `msgpack:"v" json:"-"`
	Theta           float64       `msgpack:"theta" json:"theta"`
	T               int           `msgpack:"t" json:"t"`
	Arcs            int           `msgpack:"arcs" json:"arcs"`
	Vnodes          int           `msgpack:"vnodes" json:"vnodes"`
	Reclaim         time.Duration `msgpack:"reclaim" json:"reclaim"`
	KeepAlive       time.Duration `msgpack:"keep_alive" json:"keep-alive"`
	Quiet           time.Duration `msgpack:"quiet" json:"quiet"`
	Catch           time.Duration `msgpack:"catch" json:"catch"`
	StartBy         time.Duration `msgpack:"start_by" json:"start-by"`
	MaxEnvironments int           `msgpack:"max_environments" json:"max-environments"` // 0: no cap
	Growth          int           `msgpack:"growth" json:"growth"`                     // environments per 10 s and function
	TenantPolicy    string        `msgpack:"tenant_policy" json:"tenant-policy"`
	TenantJWKS      string        `msgpack:"tenant_jwks" json:"tenant-jwks"`
	TenantClaim     string        `msgpack:"tenant_claim" json:"tenant-claim"`
	Issuer          string        `msgpack:"issuer" json:"issuer"`
	RecordVersion   int           `msgpack:"record_version" json:"record-version"`
}

// DefaultTenantClaim is what an empty TenantClaim means.
const DefaultTenantClaim = "tenant"

// DefaultFabric is what the first manager writes where nothing else was asked for.
func DefaultFabric() Fabric {
	return Fabric{
		V: Version, Theta: 1, T: subjects.DefaultT, Arcs: subjects.DefaultArcs, Vnodes: subjects.DefaultVnodes,
		Reclaim: 10 * time.Second, KeepAlive: 10 * time.Minute, Quiet: 30 * time.Second, Catch: 2 * time.Millisecond,
		StartBy: 10 * time.Second, Growth: 1000, TenantPolicy: "any", TenantClaim: DefaultTenantClaim, RecordVersion: Version,
	}
}
