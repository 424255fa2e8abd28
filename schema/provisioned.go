package schema

// ProvisionedInput is the request of the operations on provisioned concurrency: reservations, as Lambda calls them.
type ProvisionedInput struct {
	FunctionName                    string `json:"FunctionName,omitempty"`
	Qualifier                       string `json:"Qualifier,omitempty"`
	ProvisionedConcurrentExecutions *int   `json:"ProvisionedConcurrentExecutions,omitempty"`
	Marker                          string `json:"Marker,omitempty"`
	MaxItems                        int    `json:"MaxItems,omitempty"`
}

// ProvisionedOutput is their answer.
type ProvisionedOutput struct {
	FunctionArn  string            `json:"FunctionArn,omitempty"` // in lists alone
	Requested    int               `json:"RequestedProvisionedConcurrentExecutions"`
	Allocated    int               `json:"AllocatedProvisionedConcurrentExecutions"` // environments made
	Available    int               `json:"AvailableProvisionedConcurrentExecutions"` // of these, ready
	Status       ReservationStatus `json:"Status"`
	StatusReason string            `json:"StatusReason,omitempty"`
	LastModified string            `json:"LastModified"`
}

// ListProvisionedOutput is the answer of ListProvisionedConcurrencyConfigs.
type ListProvisionedOutput struct {
	ProvisionedConcurrencyConfigs []ProvisionedOutput `json:"ProvisionedConcurrencyConfigs"`
	NextMarker                    string              `json:"NextMarker,omitempty"`
}

// ListReservationsInput is the request of ListReservations: all of the account, or those of one function.
type ListReservationsInput struct {
	FunctionName string `json:"FunctionName,omitempty"`
}

// ListReservationsOutput is its answer, by function and version.
type ListReservationsOutput struct {
	Reservations []ReservationOutput `json:"Reservations"`
}

// ReservationOutput is one reservation with its members: what `hearth reservations --json` prints a line of.
type ReservationOutput struct {
	Function string              `json:"function"`
	Version  string              `json:"version"`
	Limit    int                 `json:"limit"`   // L
	Size     int                 `json:"size"`    // S: members that exist and are ready
	Busy     int                 `json:"busy"`    // B
	Surplus  int                 `json:"surplus"` // members above L
	State    ReservationState    `json:"state"`
	Status   ReservationStatus   `json:"status"`
	Reason   string              `json:"reason,omitempty"` // of FAILED
	Epoch    uint64              `json:"epoch"`
	Arc      []ReservationMember `json:"arc"` // by rank, then managers outside the arc that still hold members
}

// ReservationMember is one manager's part of a reservation. Rank is -1 of a manager outside the arc.
type ReservationMember struct {
	Manager string `json:"manager"`
	Rank    int    `json:"rank"`
	Share   int    `json:"share"`
	Members int    `json:"members"`
	Busy    int    `json:"busy"`
}
