package lambdaapi_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/frontend/lambdaapi"
)

// A client that sends the whole of a body which is refused before it is read comes to the end of it and reads why: the connection is not
// ended under it. Most HTTP clients send first and read then.
func TestRefusedBodiesAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(lambdaapi.New(&invoker{do: good}))
	t.Cleanup(s.Close)
	const path = "/2015-03-31/functions/f/invocations"
	for _, c := range []struct {
		name, head string
		size       int
		want       string
	}{
		{"announced", "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12582912\r\n\r\n", 12 << 20, "RequestTooLargeException"},
		{"chunked", "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nc00000\r\n", 12 << 20, "RequestTooLargeException"},
		{"bad header", "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nX-Amz-Log-Type: Head\r\nContent-Length: 4194304\r\n\r\n", 4 << 20,
			"InvalidParameterValueException"},
		{"no operation", "PUT /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4194304\r\n\r\n", 4 << 20,
			"InvalidParameterValueException"},
		{"nothing sent", "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12582912\r\n\r\n", 0, "RequestTooLargeException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nc, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			// In pieces, so that an end of the connection is met by a later one.
			body := io.MultiReader(strings.NewReader(c.head), io.LimitReader(zeros{}, int64(c.size)))
			if _, err := io.CopyBuffer(struct{ io.Writer }{nc}, body, make([]byte, 64<<10)); err != nil {
				t.Fatalf("sending a body that is refused: %v, want nil", err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				t.Fatalf("reading the refusal: %v, want a response", err)
			}
			defer resp.Body.Close()
			if got := resp.Header.Get("X-Amzn-ErrorType"); got != c.want {
				t.Errorf("X-Amzn-ErrorType = %q, want %q", got, c.want)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A path under another method says which it takes (RFC 9110, 15.5.6).
func TestAllow(t *testing.T) {
	t.Parallel()
	h := lambdaapi.New(&invoker{do: failing(errors.New("not to be called"))})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPatch, "/2015-03-31/functions/f/configuration", nil))
	if got, want := w.Header().Get("Allow"), "GET, PUT"; w.Code != http.StatusMethodNotAllowed || got != want {
		t.Errorf("PATCH: %d, Allow %q, want %d, %q", w.Code, got, http.StatusMethodNotAllowed, want)
	}
}
