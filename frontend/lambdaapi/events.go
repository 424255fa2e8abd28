package lambdaapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-run/hearth/schema"
)

// The values of X-Amz-Invocation-Type.
const (
	typeCall   = "RequestResponse"
	typeEvent  = "Event"
	typeDryRun = "DryRun"
)

func invocationType(h http.Header) (string, error) {
	const name = "X-Amz-Invocation-Type"
	kind, err := header(h, name)
	switch {
	case err != nil:
		return "", err
	case kind == "":
		return typeCall, nil
	case kind == typeCall, kind == typeEvent, kind == typeDryRun:
		return kind, nil
	}
	return "", schema.Invalid(schema.FieldError{Field: name, Got: clip(kind), Allowed: "RequestResponse, Event or DryRun"})
}

// take serves Invoke where nobody waits for an answer: an event is handed in, a dry run is checked.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, name, kind string) {
	most := schema.MaxPayload
	if kind == typeEvent {
		most = schema.MaxEventPayload
	}
	req, release, err := h.read(w, r, name, most)
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer release()
	if kind == typeDryRun {
		if err := h.invoker.Check(r.Context(), req); err != nil {
			WriteError(w, req.RequestID, err)
			return
		}
		writeTaken(w, http.StatusNoContent, schema.Accepted{}, nil)
		return
	}
	h.accept(w, r, req, nil)
}

// invokeAsync serves POST /2014-11-13/functions/{FunctionName}/invoke-async, Lambda's first way to send an event (B4).
func (h *Handler) invokeAsync(w http.ResponseWriter, r *http.Request, params map[string]string) {
	req, release, err := h.read(w, r, params["FunctionName"], schema.MaxEventPayload)
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer release()
	h.accept(w, r, req, []byte(`{"Status":202}`))
}

func (h *Handler) accept(w http.ResponseWriter, r *http.Request, req *schema.Request, body []byte) {
	id, err := eventID(r.Header)
	var accepted schema.Accepted
	if err == nil {
		accepted, err = h.invoker.Accept(r.Context(), req, id)
	}
	if err != nil {
		WriteError(w, req.RequestID, err)
		return
	}
	writeTaken(w, http.StatusAccepted, accepted, body)
}

// eventID is the id under which an event is taken once: what the caller chose, else the one that AWS's SDKs send unchanged
// with each attempt of one request, so that an attempt whose answer got lost does not become a second event.
func eventID(h http.Header) (string, error) {
	id, err := header(h, schema.HeaderMsgID)
	if err != nil || id != "" {
		return id, err
	}
	sdk, err := uuid.Parse(h.Get("Amz-Sdk-Invocation-Id"))
	if err != nil {
		return "", nil // nobody's, or not of an SDK
	}
	return "sdk-" + sdk.String(), nil
}

// writeTaken answers that an event was accepted, or would be. The id of a duplicate is not known here: its first event has
// one, and clients want one, so it is one of this request alone, and no call or event is known by it.
func writeTaken(w http.ResponseWriter, status int, accepted schema.Accepted, body []byte) {
	h := w.Header()
	id := accepted.RequestID
	if id == "" {
		id = newRequestID()
	}
	h[requestIDHeader] = []string{id}
	if !accepted.Duplicate {
		h[schema.HeaderRequestID] = []string{id}
	}
	if accepted.Duplicate {
		h[schema.HeaderDuplicate] = []string{"true"}
	}
	h.Set("Cache-Control", "no-store")
	if body != nil {
		h.Set("Content-Type", "application/json")
	}
	if status != http.StatusNoContent { // which has no body, and no length of one
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTime))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller has gone
	_ = control.SetWriteDeadline(time.Time{})
}
