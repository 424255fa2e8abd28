package frontend_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/frontend"
	"github.com/hearth-run/hearth/internal/natstest"
	"github.com/hearth-run/hearth/internal/telemetry"
)

var lookAge = regexp.MustCompile(`(?m)^hearth_stream_look_age_seconds (\S+)$`)

// A frontend that may not ask for streams tells how long it has not known their depths, from its first try on: alert HearthStreamsUnread
// lives by it, and would never see one that tells nothing.
func TestDepthsThatAreNeverReadHaveAnAge(t *testing.T) {
	t.Parallel()
	fabric := natstest.Start(t, natstest.Server(func(o *natstest.ServerOptions) {
		o.Users = []*server.User{{Username: "all"}, {Username: "short", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.INFO.>"}},
		}}}
		o.NoAuthUser = "all"
	}))
	told := func(user string) *telemetry.Metrics {
		metrics := telemetry.NewMetrics("1")
		if _, err := frontend.New(fabric.Connect(t, nats.UserInfo(user, "")), frontend.Config{Names: fabric.Names, Metrics: metrics}); err != nil {
			t.Fatal(err)
		}
		return metrics
	}
	look := func(metrics *telemetry.Metrics) (age float64, text string) {
		w := httptest.NewRecorder()
		metrics.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		text = w.Body.String()
		found := lookAge.FindStringSubmatch(text)
		if found == nil {
			t.Fatal("no age is told")
		}
		age, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return age, text
	}
	all := told("all")
	natstest.Eventually(t, time.Minute, func() bool { // a busy server may not answer the first try in its second
		_, text := look(all)
		return strings.Contains(text, `hearth_stream_messages{hearth_stream="HEARTH_DEADLETTERS"} 0`)
	}, "depths that may be read are told")
	if age, text := look(told("short")); age <= 0 || strings.Contains(text, "hearth_stream_messages{") {
		t.Errorf("an age of %v s of depths that nobody read", age)
	}
}
