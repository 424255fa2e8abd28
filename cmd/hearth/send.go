package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hearth-run/hearth/client"
)

// statusAccepted is the status of an event that the fabric has.
const statusAccepted = "accepted"

// sent is what `invoke --async --json` prints.
type sent struct {
	RequestID string `json:"request_id"` // "" of a duplicate
	Function  string `json:"function"`
	Status    string `json:"status"`
	Sequence  uint64 `json:"sequence"` // of the event in its stream; of a duplicate that of the first
	Duplicate bool   `json:"duplicate"`
	Tenant    string `json:"tenant,omitempty"`
}

// runSend hands an event in and does not wait until it ran.
func (a *app) runSend(cmd *cobra.Command, call client.Call, id string) error {
	c, err := a.connect(cmd)
	if err != nil {
		return a.noAnswer(cmd, call, err)
	}
	defer c.Close()
	stop := a.progress("waiting until the event is stored")
	accepted, err := c.Send(cmd.Context(), client.Event{
		Function: call.Function, Qualifier: call.Qualifier, Tenant: call.Tenant, Payload: call.Payload, ID: id, RequestID: call.RequestID,
	})
	stop()
	if err != nil {
		return a.noAnswer(cmd, call, err)
	}
	if asJSON(cmd) {
		return a.printJSON(sent{
			RequestID: accepted.RequestID, Function: call.Function, Status: statusAccepted, Sequence: accepted.Sequence,
			Duplicate: accepted.Duplicate, Tenant: call.Tenant,
		})
	}
	if accepted.Duplicate {
		fmt.Fprintf(a.stderr, "hearth: an event of %s with id %s was accepted before; nothing new was sent\n", call.Function, oneLine(id))
		return nil
	}
	a.println(accepted.RequestID)
	return nil
}
