package console

import (
	"net/http"
	"net/url"
)

type callsBody struct {
	Function, FormURL string
	Known             bool // there is such a function
	Most              int  // rows a second
}

// calls shows calls as they end.
func (c *Console) calls(r *http.Request) (*page, error) {
	function := r.URL.Query().Get("function")
	function = function[:min(len(function), 200)]
	live := url.Values{"page": {"calls"}}
	known := true
	if function != "" {
		live.Set("function", function)
		_, _, known = c.fabric.Function(c.account, function)
	}
	return &page{Name: "calls", Title: "Calls", Live: live,
		Body: callsBody{Function: function, FormURL: Root + "/calls", Known: known, Most: int(rowsPerTick * (1e9 / tickTime))}}, nil
}
