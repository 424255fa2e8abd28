package lambdaapi

import (
	"io"
	"net/http"
	"time"

	"github.com/hearth-run/hearth/schema"
)

const (
	// smallBody is what net/http itself reads of a body that a handler left alone, before it answers.
	smallBody = 256 << 10

	// maxDropped is how much of a refused request's body is read for the sake of its sender.
	maxDropped = 4 * schema.MaxPayload
)

// refuse answers a request of which the body may not have been read. net/http ends a connection on which more than a little of it is
// left, and a client that is still sending then meets a reset, often without having seen why it was refused: so what is left is read
// and forgotten, at most [maxDropped] bytes for at most [readTime]. The refusal goes out before that, for clients that look for it
// while they send; one that waits to be asked for its body is not asked.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	// Writers that cannot do this, as in tests, go without.
	control := http.NewResponseController(w)
	if 0 <= r.ContentLength && r.ContentLength < smallBody || r.Header.Get("Expect") != "" || control.EnableFullDuplex() != nil {
		WriteError(w, "", err)
		return
	}
	w.Header().Set("Connection", "close")
	_ = control.SetReadDeadline(time.Now().Add(readTime))
	WriteError(w, "", err)
	if control.Flush() == nil {
		_, _ = io.CopyN(io.Discard, r.Body, maxDropped) // what does not come is not missed
	}
}
