package console

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
)

type searchBody struct {
	FormURL string
	Missing string // why there is no story
}

// search asks for a request id.
func (c *Console) search(*http.Request) (*page, error) {
	return &page{Name: "search", Title: "Trace", Body: searchBody{FormURL: Root + "/trace"}}, nil
}

// stepRow is one step of a story.
type stepRow struct {
	When, Node, What, Text string
	At                     time.Time
	Facts                  [][2]string
}

type traceBody struct {
	searchBody
	ID      string
	Story   *schema.Story
	Took    time.Duration // 0: not ended, or not known
	Steps   []stepRow
	Silent  string
	Others  []otherRow
	Command string
}

// otherRow is another call under the same id.
type otherRow struct{ Name, Href string }

// Look is how the status is coloured beside its word.
func (b traceBody) Look() string {
	switch b.Story.Status {
	case schema.StoryOK:
		return "good"
	case schema.StoryRunning, schema.StoryIsUnknown:
		return "wait"
	}
	return "bad"
}

// trace shows the story of one call.
func (c *Console) trace(r *http.Request, id string) (*page, error) {
	story := new(schema.Story)
	in := schema.StoryInput{RequestID: id, FunctionName: r.URL.Query().Get("function"), TenantID: r.URL.Query().Get("tenant")}
	err := c.do(r.Context(), c.account, "GetTrace", in, story)
	if e := new(schema.Error); errors.As(err, &e) && e.Code == schema.CodeNotFound {
		return &page{Name: "search", Title: "Trace", Status: http.StatusNotFound, Body: searchBody{Root + "/trace", cut(e.Message, 300)}}, nil
	}
	if err != nil {
		return nil, err
	}
	b := traceBody{
		searchBody: searchBody{FormURL: Root + "/trace"}, ID: id, Story: story, Silent: strings.Join(story.Silent, ", "),
		Command: c.hearth(traceWords(&in), id),
	}
	for _, o := range story.Others {
		q := url.Values{"function": {o.Function}}
		if o.Tenant != "" {
			q.Set("tenant", o.Tenant)
		}
		b.Others = append(b.Others, otherRow{o.String(), storyHref(id) + "?" + q.Encode()})
	}
	if !story.Ended.IsZero() {
		b.Took = story.Ended.Sub(story.Began)
	}
	for _, s := range story.Steps {
		step := stepRow{Node: s.Node.Kind + " " + s.Node.ID, What: s.What, Text: s.Text, At: s.At}
		// Clocks of two hosts are never compared.
		if s.Node.Clock == story.Node.Clock {
			step.When = since(s.At.Sub(story.Began))
		}
		for _, name := range slices.Sorted(maps.Keys(s.Facts)) {
			step.Facts = append(step.Facts, [2]string{name, s.Facts[name]})
		}
		b.Steps = append(b.Steps, step)
	}
	return &page{Name: "trace", Title: "Trace of " + cut(id, 40), Body: b}, nil
}

// traceWords are the words of the command before the id.
func traceWords(in *schema.StoryInput) []string {
	words := []string{"trace"}
	if in.FunctionName != "" {
		words = append(words, "--function="+in.FunctionName)
	}
	if in.TenantID != "" {
		words = append(words, "--tenant="+in.TenantID)
	}
	return words
}

// since is a time after the first step.
func since(d time.Duration) string {
	if d <= 0 {
		return "0"
	}
	return "+" + took(d)
}
