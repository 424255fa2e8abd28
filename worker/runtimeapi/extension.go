package runtimeapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// maxExtensions is Lambda's limit for an environment.
const maxExtensions = 10

// extensions are the internal ones of an environment: libraries in the runtime's process that register to be told by
// SIGTERM before the end. They are sent no events: event/next blocks for ever. External ones and the telemetry API are not
// there, and say so. Lambda Extensions API, 2020-01-01.
type extensions struct {
	mu    sync.Mutex
	names map[string]string // identifier to name
}

// Extensions is how many extensions have registered. An environment with any is ended by SIGTERM first.
func (s *Server) Extensions() int {
	s.extensions.mu.Lock()
	defer s.extensions.mu.Unlock()
	return len(s.extensions.names)
}

// extension answers the routes of the Extensions, Logs and Telemetry APIs.
func (c *connection) extension() bool {
	switch c.req.route {
	case routeRegister:
		return c.register()
	case routeExtensionNext:
		return c.extensionNext()
	case routeExtensionError:
		if _, refusal := c.server.extensions.find(c.req.extension); refusal != nil {
			return c.dropped(403, refusal.kind, refusal.text)
		}
		last, kept := c.req.close, c.discard()
		c.out.accepted(last || !kept)
		return kept && !last
	}
	refusal := `{"errorMessage":"the Telemetry API is not supported","errorType":"Telemetry.NotSupported"}`
	if c.req.route == routeLogs { // what came before telemetry, with a name of its own for the same refusal
		refusal = `{"errorMessage":"the Logs API is not supported","errorType":"Logs.NotSupported"}`
	}
	last, kept := c.req.close, c.discard()
	c.out.reply(202, "", "application/json", []byte(refusal+"\n"), last || !kept)
	return kept && !last
}

func (c *connection) register() bool {
	name, features, last := c.req.extension, c.req.features, c.req.close
	var b body
	defer c.release(&b)
	if err := c.readBody(&b, smallBody); err != nil {
		c.out.fail(403, "InvalidRequestFormat", "the body cannot be read", true)
		return false
	}
	id, refusal := c.server.extensions.register(name, b.bytes)
	if refusal != nil {
		c.out.fail(403, refusal.kind, refusal.text, last)
		return !last
	}
	answer := struct {
		Function string `json:"functionName"`
		Version  string `json:"functionVersion"`
		Handler  string `json:"handler"`
		Account  string `json:"accountId,omitempty"`
	}{Function: c.server.cfg.Function, Version: c.server.cfg.Version, Handler: c.server.cfg.Handler}
	for feature := range strings.SplitSeq(features, ",") {
		if strings.TrimSpace(feature) == "accountId" {
			answer.Account = c.server.cfg.Account
		}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(fmt.Sprintf("runtime api: strings do not encode: %v", err))
	}
	c.out.reply(200, "Lambda-Extension-Identifier: "+id+"\r\n", "application/json", body, last)
	return !last
}

// extensionNext blocks until the environment ends: no event is ever sent.
func (c *connection) extensionNext() bool {
	if _, refusal := c.server.extensions.find(c.req.extension); refusal != nil {
		return c.dropped(403, refusal.kind, refusal.text)
	}
	for {
		// Whatever the client sends behind a request that stays unanswered has no turn.
		c.in.r, c.in.w = 0, 0
		if c.in.fill() != nil {
			return false
		}
	}
}

// refused is why an extension is refused, in the words of AWS's emulator.
type refused struct{ kind, text string }

func (e *extensions) register(name string, body []byte) (id string, refusal *refused) {
	if name == "" {
		return "", &refused{"Extension.InvalidExtensionName", "Empty extension name"}
	}
	var request struct {
		Events []string `json:"events"` // null too: aws-lambda-go sends it
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return "", &refused{"InvalidRequestFormat", err.Error()}
	}
	if len(request.Events) > 0 {
		return "", &refused{"Extension.InvalidEventType",
			request.Events[0] + ": events are not supported here; register for none and handle SIGTERM"}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.names) >= maxExtensions {
		return "", &refused{"Extension.TooManyExtensions", fmt.Sprintf("Extension limit (%d) reached", maxExtensions)}
	}
	for _, other := range e.names {
		if other == name {
			return "", &refused{"Extension.InvalidExtensionState", "Extension with this name already registered"}
		}
	}
	if e.names == nil {
		e.names = map[string]string{}
	}
	id = uuid.NewString()
	e.names[id] = name
	return id, nil
}

func (e *extensions) find(id string) (name string, refusal *refused) {
	if id == "" {
		return "", &refused{"Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"}
	}
	if _, err := uuid.Parse(id); err != nil {
		return "", &refused{"Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	name, ok := e.names[id]
	if !ok {
		return "", &refused{"Extension.UnknownExtensionIdentifier", "Unknown extension " + id}
	}
	return name, nil
}
