package schema

// The shapes of Lambda's service API (JSON), as the control service, its doors and the client speak them. Names and
// defaults follow the AWS API reference, version 2015-03-31.

// Environment is the Environment member of a configuration. In answers the values are "***".
type Environment struct {
	Variables Variables `json:"Variables"`
}

// FunctionCode is the Code member of CreateFunction and UpdateFunctionCode. Over NATS the code is in the object store already and
// Sha256 (hex) names it.
type FunctionCode struct {
	Sha256  string `json:"Sha256,omitempty"`
	ZipFile []byte `json:"ZipFile,omitempty"` // over HTTP: base64 of the zip
}

// HearthConfig is what a function of Hearth has beyond Lambda's.
type HearthConfig struct {
	Idempotent bool     `json:"Idempotent,omitempty"`
	Egress     []string `json:"Egress,omitempty"`
	Audiences  []string `json:"Audiences,omitempty"`
}

// TenancyConfig is the TenancyConfig member.
type TenancyConfig struct {
	TenantIsolationMode string `json:"TenantIsolationMode"` // PER_TENANT
}

// EphemeralStorage is the EphemeralStorage member.
type EphemeralStorage struct {
	Size int `json:"Size"`
}

// TracingConfig is the TracingConfig member.
type TracingConfig struct {
	Mode string `json:"Mode"`
}

// LoggingConfig is the LoggingConfig member.
type LoggingConfig struct {
	LogFormat           string `json:"LogFormat,omitempty"`
	ApplicationLogLevel string `json:"ApplicationLogLevel,omitempty"`
	SystemLogLevel      string `json:"SystemLogLevel,omitempty"`
	LogGroup            string `json:"LogGroup,omitempty"`
}

// FunctionInput is the request of CreateFunction, UpdateFunctionCode, UpdateFunctionConfiguration and PublishVersion: each takes
// its own members and refuses the others by name. A nil pointer is a member that was not sent.
type FunctionInput struct {
	FunctionName     string            `json:"FunctionName,omitempty"`
	Qualifier        string            `json:"Qualifier,omitempty"`
	Runtime          *string           `json:"Runtime,omitempty"`
	Handler          *string           `json:"Handler,omitempty"`
	Role             *string           `json:"Role,omitempty"`
	Description      *string           `json:"Description,omitempty"`
	MemorySize       *int              `json:"MemorySize,omitempty"`
	Timeout          *int              `json:"Timeout,omitempty"`
	Environment      *Environment      `json:"Environment,omitempty"`
	EphemeralStorage *EphemeralStorage `json:"EphemeralStorage,omitempty"`
	Architectures    []string          `json:"Architectures,omitempty"`
	PackageType      *string           `json:"PackageType,omitempty"`
	TenancyConfig    *TenancyConfig    `json:"TenancyConfig,omitempty"`
	TracingConfig    *TracingConfig    `json:"TracingConfig,omitempty"`
	LoggingConfig    *LoggingConfig    `json:"LoggingConfig,omitempty"`
	Tags             map[string]string `json:"Tags,omitempty"`
	Publish          bool              `json:"Publish,omitempty"`
	DryRun           bool              `json:"DryRun,omitempty"`
	RevisionId       *string           `json:"RevisionId,omitempty"`
	CodeSha256       *string           `json:"CodeSha256,omitempty"`
	Code             *FunctionCode     `json:"Code,omitempty"`
	Hearth           *HearthConfig     `json:"Hearth,omitempty"`
}

// FunctionConfiguration is Lambda's answer for one version of a function.
type FunctionConfiguration struct {
	FunctionName     string            `json:"FunctionName"`
	FunctionArn      string            `json:"FunctionArn"`
	Runtime          string            `json:"Runtime,omitempty"`
	Role             string            `json:"Role,omitempty"`
	Handler          string            `json:"Handler,omitempty"`
	CodeSize         int64             `json:"CodeSize"`
	Description      string            `json:"Description"`
	Timeout          int               `json:"Timeout"`
	MemorySize       int               `json:"MemorySize"`
	LastModified     string            `json:"LastModified"` // 2019-12-30T21:00:00.000+0000
	CodeSha256       string            `json:"CodeSha256"`   // base64 of the zip's SHA-256
	Version          string            `json:"Version"`
	Environment      *Environment      `json:"Environment,omitempty"`
	TracingConfig    *TracingConfig    `json:"TracingConfig,omitempty"`
	RevisionId       string            `json:"RevisionId"`
	State            string            `json:"State,omitempty"`
	LastUpdateStatus string            `json:"LastUpdateStatus,omitempty"`
	PackageType      string            `json:"PackageType"`
	Architectures    []string          `json:"Architectures,omitempty"`
	EphemeralStorage *EphemeralStorage `json:"EphemeralStorage,omitempty"`
	LoggingConfig    *LoggingConfig    `json:"LoggingConfig,omitempty"`
	TenancyConfig    *TenancyConfig    `json:"TenancyConfig,omitempty"`
	Hearth           *HearthConfig     `json:"Hearth,omitempty"`
}

// GetFunctionOutput is the answer of GetFunction.
type GetFunctionOutput struct {
	Configuration FunctionConfiguration `json:"Configuration"`
	Code          struct {
		RepositoryType string `json:"RepositoryType,omitempty"`
		Location       string `json:"Location,omitempty"`
	} `json:"Code"`
	Tags        map[string]string  `json:"Tags,omitempty"`
	Concurrency *ConcurrencyOutput `json:"Concurrency,omitempty"` // where the function has a limit
}

// ListFunctionsOutput is the answer of ListFunctions.
type ListFunctionsOutput struct {
	Functions  []FunctionConfiguration `json:"Functions"`
	NextMarker string                  `json:"NextMarker,omitempty"`
}

// ListVersionsOutput is the answer of ListVersionsByFunction.
type ListVersionsOutput struct {
	Versions   []FunctionConfiguration `json:"Versions"`
	NextMarker string                  `json:"NextMarker,omitempty"`
}

// RoutingConfig is the RoutingConfig member of aliases.
type RoutingConfig struct {
	AdditionalVersionWeights map[string]float64 `json:"AdditionalVersionWeights"`
}

// AliasInput is the request of the alias operations.
type AliasInput struct {
	FunctionName    string         `json:"FunctionName"`
	Name            string         `json:"Name"`
	FunctionVersion *string        `json:"FunctionVersion,omitempty"`
	Description     *string        `json:"Description,omitempty"`
	RoutingConfig   *RoutingConfig `json:"RoutingConfig,omitempty"`
	RevisionId      *string        `json:"RevisionId,omitempty"`
}

// AliasConfiguration is the answer of the alias operations.
type AliasConfiguration struct {
	AliasArn        string         `json:"AliasArn"`
	Name            string         `json:"Name"`
	FunctionVersion string         `json:"FunctionVersion"`
	Description     string         `json:"Description"`
	RoutingConfig   *RoutingConfig `json:"RoutingConfig,omitempty"`
	RevisionId      string         `json:"RevisionId"`
}

// ListAliasesOutput is the answer of ListAliases.
type ListAliasesOutput struct {
	Aliases    []AliasConfiguration `json:"Aliases"`
	NextMarker string               `json:"NextMarker,omitempty"`
}

// ListInput is the request of the list and get operations.
type ListInput struct {
	FunctionName    string `json:"FunctionName,omitempty"`
	Qualifier       string `json:"Qualifier,omitempty"`
	FunctionVersion string `json:"FunctionVersion,omitempty"`
	Marker          string `json:"Marker,omitempty"`
	MaxItems        int    `json:"MaxItems,omitempty"`
}

// RingInput is the request of GetRing; a function's name picks its arc alone.
type RingInput struct {
	Account      string `json:"Account,omitempty"`
	FunctionName string `json:"FunctionName,omitempty"`
}

// RingOutput is the answer of GetRing: what `hearth ring --json` prints.
type RingOutput struct {
	Epoch    uint64        `json:"epoch"`
	Managers []RingManager `json:"managers"`
	Arcs     []RingArc     `json:"arcs"`
}

// RingManager is one manager of the ring.
type RingManager struct {
	ID           string           `json:"id"`
	State        MemberState      `json:"state"`
	Capacity     int              `json:"capacity"`
	Environments RingEnvironments `json:"environments"`
	Stock        *Stock           `json:"stock,omitempty"` // of a worker in its process that keeps sandboxes
}

// RingEnvironments counts a manager's environments by state.
type RingEnvironments struct {
	Idle     int `json:"idle"`
	Busy     int `json:"busy"`
	Starting int `json:"starting"`
	Reserved int `json:"reserved"`
	Surplus  int `json:"surplus"`
}

// RingArc is one arc and its managers by rank.
type RingArc struct {
	Subject string   `json:"subject"`
	Kind    string   `json:"kind"` // unreserved, reserved
	Length  int      `json:"length"`
	Ranks   []string `json:"ranks"`
	Pending int      `json:"pending"` // messages in the stream that nobody has claimed
	Claimed int      `json:"claimed"` // claimed, not acknowledged
}

// FabricOutput is the answer of GetFabric and PutFabric: the values of [Fabric] under the names of the command.
type FabricOutput struct {
	Values   map[string]string `json:"values"`
	Revision uint64            `json:"revision"`
}

// FabricInput is the request of PutFabric: the values to change, by name.
type FabricInput struct {
	Values map[string]string `json:"values"`
}

// DrainInput is the request of DrainManager: take a manager off the ring in order, with Cancel let it back onto it, with Look
// change nothing.
type DrainInput struct {
	Manager string `json:"Manager"`
	Cancel  bool   `json:"Cancel,omitempty"`
	Look    bool   `json:"Look,omitempty"`
}

// DrainOutput is the answer of DrainManager: where the manager stands now. It is drained when State is draining,
// Busy and Waiting are 0, and the ring does not hold it; ask with Look until then.
type DrainOutput struct {
	Manager string      `json:"manager"`
	State   MemberState `json:"state"`
	Busy    int         `json:"busy"`    // calls that still run there
	Waiting int         `json:"waiting"` // claims that have not started
	OnRing  bool        `json:"on_ring"` // the ring still holds it
}
