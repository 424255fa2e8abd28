package console

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/hearth-run/hearth/internal/telemetry"
	"github.com/hearth-run/hearth/schema"
)

// lettersPage is how many dead letters a page lists.
const lettersPage = 50

type letterRow struct {
	schema.DeadLetterItem
	Bytes64 int64
	Redrive string // command
}

type eventsBody struct {
	Function, FormURL string
	Letters           []letterRow
	Next              string // address
	Later             bool   // not the first page
	First             string // address of the first page
	All               string // the command that redrives all that are shown here and more
	Events            *schema.EventsOutput
	Failed            []string
}

// events lists dead letters, the oldest first, and of one function what waits too.
func (c *Console) events(r *http.Request) (*page, error) {
	query := r.URL.Query()
	function, marker := query.Get("function"), query.Get("after")
	b := eventsBody{Function: function[:min(len(function), 200)], FormURL: Root + "/events", Later: marker != ""}
	in := schema.EventsInput{FunctionName: function, Marker: marker, MaxItems: lettersPage}
	var letters schema.DeadLettersOutput
	b.Failed = together(
		func() error { return c.do(r.Context(), c.account, "ListDeadLetters", in, &letters) },
		func() error {
			if function == "" {
				return nil
			}
			b.Events = new(schema.EventsOutput)
			err := c.do(r.Context(), c.account, "ListEvents", schema.EventsInput{FunctionName: function, MaxItems: lettersPage}, b.Events)
			if err != nil {
				b.Events = nil
			}
			return err
		},
	)
	if len(b.Failed) == 2 && b.Failed[0] == b.Failed[1] {
		b.Failed = b.Failed[:1]
	}
	for _, l := range letters.DeadLetters {
		l.Payload = nil // not for whoever looks over a shoulder; the command shows it
		b.Letters = append(b.Letters, letterRow{l, int64(l.Bytes), c.hearth([]string{"deadletters", "redrive"}, l.ID)})
	}
	if function != "" {
		b.All = c.hearth([]string{"deadletters", "redrive", "--function=" + function})
	} else {
		b.All = c.hearth([]string{"deadletters", "redrive", "--all"})
	}
	at := url.Values{}
	if function != "" {
		at.Set("function", function)
	}
	b.First = strings.TrimSuffix(Root+"/events?"+at.Encode(), "?")
	if letters.NextMarker != "" {
		at.Set("after", letters.NextMarker)
		b.Next = Root + "/events?" + at.Encode()
	}
	return &page{Name: "events", Title: "Events", Body: b}, nil
}

// said is the kind of an error: a code of the platform where nothing ran, else that it failed and what that is called, as far as
// it is a name: the function chooses it, and may choose a code of the platform's. Its text is the function's own, which the command shows
// to who has the credential.
func said(e *schema.EventError) string {
	if e == nil {
		return ""
	}
	if row := schema.Code(e.Code).Row(); string(row.Code) == e.Code && row.Status == e.Status && row.Status != http.StatusOK {
		return e.Code
	}
	return "failed: " + telemetry.ErrorName(e.Code)
}
