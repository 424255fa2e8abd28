package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// logLine is what `hearth logs --json` prints.
type logLine struct {
	RequestID   string `json:"request_id"`
	Function    string
	Version     string
	Manager     string
	Environment string
	Platform    bool
	Type        string
	Text        string
}

func readLogs(t testing.TB, f *fabric.Fabric, args ...string) (lines []logLine) {
	t.Helper()
	for text := range strings.Lines(f.MustCLI(append([]string{"logs", "--json"}, args...)...)) {
		var l logLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("logs --json: %v: %s", err, text)
		}
		lines = append(lines, l)
	}
	return lines
}

func TestLogs(t *testing.T) {
	t.Parallel()
	f := fabric.Start(t, fabric.Options{Managers: 2, Capacity: 8, Driver: fabric.Sandbox()})
	f.DeployFn("talker")
	f.DeployFn("flooder", "--timeout", "30s")
	f.DeployFn("broken", "--env", "FN_INIT=exit")
	c := f.Anonymous()

	t.Run("a call's line", func(t *testing.T) {
		a := invoke(t, c, "talker", `"say hello world"`)
		var lines []logLine
		eventually(t, "the call's lines are there", func() bool {
			lines = readLogs(t, f, "talker", "--request", a.RequestID)
			return len(lines) >= 4
		})
		for i, want := range []string{"START RequestId: " + a.RequestID + " Version: $LATEST", "hello \x1b[31mworld", "END RequestId: " + a.RequestID,
			"REPORT RequestId: " + a.RequestID + "\tDuration: "} {
			l := lines[i]
			if !strings.HasPrefix(l.Text, want) || l.Platform != (i != 1) || l.RequestID != a.RequestID || l.Function != "talker" ||
				l.Manager != a.Manager || l.Environment != a.Environment {
				t.Errorf("line %d: %+v, want %q", i, l, want)
			}
		}
		text := f.MustCLI("logs", "talker")
		shown := regexp.MustCompile(`(?m)^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  ` + a.RequestID[:8] + `  hello \?\[31mworld$`)
		if !shown.MatchString(text) || strings.Contains(text, "\x1b") {
			t.Errorf("logs shows %q", text)
		}
		if got := f.CLI("logs", "flooder"); got.Code != 0 || got.Stdout != "" || !strings.Contains(got.Stderr, "no line of flooder") {
			t.Errorf("of one that was never called: %+v", got)
		}
		if got := f.CLI("logs", "talkr"); got.Code != 2 || !strings.Contains(got.Stderr, "did you mean talker?") {
			t.Errorf("of one that is not there: %+v", got)
		}
	})

	t.Run("a failed init", func(t *testing.T) {
		invoke(t, c, "broken", `{}`)
		eventually(t, "its report is there", func() bool {
			for _, l := range readLogs(t, f, "broken") {
				if l.Platform && strings.HasPrefix(l.Text, "INIT_REPORT ") && strings.HasSuffix(l.Text, "Error Type: Runtime.ExitError") {
					return true
				}
			}
			return false
		})
	})

	// S71, the log part: a flood is cut, which is said, and neither its call nor the others notice.
	t.Run("a flood", func(t *testing.T) {
		if a := invoke(t, c, "flooder", `"flood 20000"`); a.FunctionError != nil {
			t.Errorf("the flooder: %+v", a.FunctionError)
		}
		a := invoke(t, c, "talker", `"say still here"`)
		eventually(t, "the other's line is there", func() bool {
			return len(readLogs(t, f, "talker", "--request", a.RequestID)) >= 4
		})
		said, kept := false, 0
		eventually(t, "the flood is over and the rest is told", func() bool {
			kept = 0
			ended := false
			for _, l := range readLogs(t, f, "flooder") {
				said = said || l.Platform && strings.Contains(l.Text, "bytes of output were dropped: more than ")
				ended = ended || strings.HasPrefix(l.Text, "REPORT ")
				if !l.Platform {
					kept++
				}
			}
			return ended
		})
		if !said || kept == 0 || kept > 19_000 {
			t.Errorf("%d of 20,000 lines kept, said %v", kept, said)
		}
	})

	t.Run("as JSON", func(t *testing.T) { logsAsJSON(t, f) })
	t.Run("tail by every door", func(t *testing.T) { tailByEveryDoor(t, f) })
}

// logsAsJSON: with LogFormat JSON the platform's lines are Lambda's records, in the log and in the tail; a function that
// prints one has printed a line of its own.
func logsAsJSON(t *testing.T, f *fabric.Fabric) {
	f.DeployFn("records", "--log-format", "json", "--log-level", "info", "--system-log-level", "debug")
	svc := lambda.New(lambda.Options{Region: "us-east-1", BaseEndpoint: aws.String(f.HTTP),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	configured := func(want schema.LoggingConfig) {
		t.Helper()
		made, err := f.Admin().GetFunctionConfiguration(withDeadline(t), "records", "")
		if err != nil {
			t.Fatal(err)
		}
		if want.LogGroup = "/aws/lambda/records"; *made.LoggingConfig != want {
			t.Errorf("%+v", made.LoggingConfig)
		}
	}
	configured(schema.LoggingConfig{LogFormat: "JSON", ApplicationLogLevel: "INFO", SystemLogLevel: "DEBUG"})
	const forged = "REPORT RequestId: x"
	out, err := svc.Invoke(withDeadline(t), &lambda.InvokeInput{FunctionName: aws.String("records"), LogType: types.LogTypeTail,
		Payload: []byte(`"say ` + forged + ` end"`)})
	if err != nil {
		t.Fatal(err)
	}
	tail, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`{"time":"20`, forged, `{"time":"20`, `{"time":"20`}
	kinds := []string{"platform.start", "", "platform.runtimeDone", "platform.report"}
	for i, line := range strings.Split(strings.TrimSuffix(string(tail), "\n"), "\n") {
		if i >= len(want) || !strings.HasPrefix(line, want[i]) || kinds[i] != "" && !strings.Contains(line, `"type":"`+kinds[i]+`","record":{"requestId":"`) {
			t.Errorf("line %d of the tail: %q", i, line)
		}
	}
	var lines []logLine
	eventually(t, "the call's lines are there", func() bool {
		lines = readLogs(t, f, "records")
		return len(lines) >= 6
	})
	kinds = append([]string{"platform.initStart", "platform.initReport"}, kinds...)
	for i, l := range lines {
		if i >= len(kinds) || l.Type != kinds[i] || l.Platform != (l.Type != "") {
			t.Errorf("line %d: %+v", i, l)
		}
	}
	// Back to text, where there are no levels.
	f.DeployFn("records", "--log-format", "text")
	configured(schema.LoggingConfig{LogFormat: "Text"})
	if r := f.CLI("deploy", "records", ".", "--log-level", "loud"); r.Code != 2 || !strings.Contains(r.Stderr, "--log-level") {
		t.Errorf("%+v", r)
	}
}

// tailByEveryDoor: who calls may ask for the end of the call's log, by an AWS SDK, by NATS, by the CLI.
func tailByEveryDoor(t *testing.T, f *fabric.Fabric) {
	check := func(door, log, id string) {
		t.Helper()
		want := regexp.MustCompile(fmt.Sprintf(`^START RequestId: %[1]s Version: \$LATEST\nhello \x1b\[31mtail\nEND RequestId: %[1]s\n`+
			`REPORT RequestId: %[1]s\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t(Init Duration: .*\t)?\n$`, id))
		if !want.MatchString(log) {
			t.Errorf("%s: %q", door, log)
		}
	}
	svc := lambda.New(lambda.Options{Region: "us-east-1", BaseEndpoint: aws.String(f.HTTP),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	out, err := svc.Invoke(withDeadline(t), &lambda.InvokeInput{FunctionName: aws.String("talker"), LogType: types.LogTypeTail,
		Payload: []byte(`"say hello tail"`)})
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(string(text))
	check("sdk", string(text), id)

	m := nats.NewMsg("hearth.invoke.default.talker")
	m.Data = []byte(`"say hello tail"`)
	m.Header.Set("Hearth-Log", "tail")
	a, err := anonymous(t, f).RequestMsgWithContext(withDeadline(t), m)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = base64.StdEncoding.DecodeString(a.Header.Get("Hearth-Log-Result")); err != nil {
		t.Fatal(err)
	}
	check("nats", string(text), a.Header.Get("Hearth-Request-Id"))

	r := f.CLI("invoke", "talker", "--payload", `"say hello tail"`, "--log")
	if r.Code != 0 || !strings.Contains(r.Stderr, "hello ?[31mtail") || !strings.Contains(r.Stderr, "REPORT RequestId: ") {
		t.Errorf("cli: %+v", r)
	}
}
