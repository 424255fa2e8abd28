package schema_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hearth-run/hearth/schema"
)

// declaredCodes are the constants of type Code in errors.go, read from the source, so that none can be forgotten.
func declaredCodes(t *testing.T) map[string]schema.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := make(map[string]schema.Code)
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			s := spec.(*ast.ValueSpec)
			if typ, ok := s.Type.(*ast.Ident); !ok || typ.Name != "Code" {
				continue
			}
			text, err := strconv.Unquote(s.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes[s.Names[0].Name] = schema.Code(text)
		}
	}
	if len(codes) < 20 {
		t.Fatalf("found only %d codes in errors.go", len(codes))
	}
	return codes
}

func TestEveryCodeHasItsRow(t *testing.T) {
	t.Parallel()
	codes := declaredCodes(t)
	rows := make(map[schema.Code]schema.Row)
	for _, row := range schema.Table() {
		if _, twice := rows[row.Code]; twice {
			t.Errorf("%s has two rows", row.Code)
		}
		rows[row.Code] = row
	}
	for name, code := range codes {
		row, ok := rows[code]
		if !ok {
			t.Errorf("%s (%s) has no row", name, code)
			continue
		}
		delete(rows, code)
		if row.Advice == "" || strings.HasSuffix(row.Advice, ".") || strings.ContainsAny(row.Advice, "\r\n") || row.Advice != strings.TrimSpace(row.Advice) {
			t.Errorf("%s: advice %q, want one line without a full stop", code, row.Advice)
		}
		if row.Status == http.StatusBadGateway || row.Status == http.StatusGatewayTimeout || row.Status != 200 && http.StatusText(row.Status) == "" {
			t.Errorf("%s: status %d", code, row.Status)
		}
		if row.Retriable != (row.Hint > 0) {
			t.Errorf("%s: retriable is %v, its hint %v", code, row.Retriable, row.Hint)
		}
		if row.Retriable && row.Status != 429 && row.Status != 503 {
			t.Errorf("%s may be sent again, its status is %d", code, row.Status)
		}
		// CLI, exit codes: 1 the function's, 2 refused input, 3 throttled or full, 4 nobody there, 5 the rest.
		want := map[int]int{200: 1, 400: 2, 403: 2, 404: 2, 405: 2, 409: 2, 412: 2, 413: 2, 415: 2, 421: 2, 429: 3, 500: 5, 503: 4}[row.Status]
		if code == schema.CodeStorageExceeded {
			want = 3
		}
		if row.Exit != want {
			t.Errorf("%s: exit code %d, want %d for status %d", code, row.Exit, want, row.Status)
		}
	}
	for code := range rows {
		t.Errorf("the row of %s belongs to no constant", code)
	}
	if row := schema.Code("Made.Up").Row(); row.Code != schema.CodeInternal {
		t.Errorf("an unknown code has the row of %s", row.Code)
	}
}

func TestTableCannotBeChanged(t *testing.T) {
	t.Parallel()
	schema.Table()[0].Status = 599
	if got := schema.Table()[0].Status; got == 599 {
		t.Error("the table was changed from outside")
	}
}

func TestLambdaTypes(t *testing.T) {
	t.Parallel()
	for code, want := range map[schema.Code]string{
		schema.CodeInvalidParameter: "InvalidParameterValueException", schema.CodeCapacityExceeded: "TooManyRequestsException",
		schema.CodeUnavailable: "ServiceException", schema.CodeNotFound: "ResourceNotFoundException",
	} {
		if got := code.Row().LambdaTypeName(); got != want {
			t.Errorf("%s is %q, want %q", code, got, want)
		}
	}
}

func TestErrorChains(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk full")
	err := fmt.Errorf("store the zip: %w", schema.Errorf(schema.CodeStorageExceeded, "the code store is full: %w", cause))
	if !errors.Is(err, cause) || !errors.Is(err, &schema.Error{Code: schema.CodeStorageExceeded}) || errors.Is(err, &schema.Error{Code: schema.CodeNotFound}) {
		t.Errorf("%v is not what it is made of", err)
	}
	for _, c := range []struct {
		err  error
		want schema.Code
	}{{err, schema.CodeStorageExceeded}, {nil, ""}, {cause, schema.CodeInternal}} {
		if got := schema.CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}

func TestErrorHeaders(t *testing.T) {
	t.Parallel()
	status, text := schema.ErrorHeaders(fmt.Errorf("admit: %w", schema.Errorf(schema.CodeNotFound, "Function not found: %s", "resize")))
	if want := "ResourceNotFoundException: Function not found: resize. Check the name and the qualifier; `hearth ls` lists what there is."; status != "404" || text != want {
		t.Errorf("%s %q, want 404 %q", status, text, want)
	}
	status, text = schema.ErrorHeaders(errors.New("dial 10.0.0.7: refused"))
	if status != "500" || strings.Contains(text, "10.0.0.7") {
		t.Errorf("an error without a code tells %s %q", status, text)
	}
	// What has no reason of its own says the one that its HTTP body has, and when to come again (DESIGN 12: everything full).
	full := &schema.Error{Code: schema.CodeCapacityExceeded, Message: "no room."}
	if _, text = schema.ErrorHeaders(full); !strings.HasPrefix(text, "CapacityExceeded: no room (ConcurrentInvocationLimitExceeded, retry after 1s). ") {
		t.Errorf("a full fabric says %q", text)
	}
	if e := schema.ParseErrorHeaders(schema.ErrorHeaders(full)); e.Reason != schema.APIErrorOf(full).Reason || e.Retry != time.Second || e.Throttle() != full.Throttle() {
		t.Errorf("a full fabric came back as %+v", e)
	}
	_, text = schema.ErrorHeaders(schema.Errorf(schema.CodeInvalidParameter, "%s", "a\r\nNats-Service-Error-Code: 200\x00\xff"+strings.Repeat("x", 10_000)))
	if strings.ContainsAny(text, "\r\n\x00") || !utf8.ValidString(text) || len(text) > 4096 {
		t.Errorf("%d bytes: %q", len(text), text)
	}
}

func TestErrorHeadersComeBack(t *testing.T) {
	t.Parallel()
	for _, row := range schema.Table() {
		for _, message := range []string{"Function not found: resize", "ends. With: a stop", "x"} {
			got := schema.ParseErrorHeaders(schema.ErrorHeaders(&schema.Error{Code: row.Code, Message: message}))
			if got.Code != row.Code || got.Message != message {
				t.Errorf("%s %q came back as %s %q", row.Code, message, got.Code, got.Message)
			}
		}
	}
	for _, c := range []struct {
		status, text string
		want         schema.Code
	}{
		{"400", "bad request", schema.CodeInvalidParameter}, {"429", "slow down", schema.CodeThrottled}, {"404", "Nothing: here", schema.CodeNotFound},
		{"503", "", schema.CodeUnavailable}, {"418", "teapot", schema.CodeInternal}, {"", "", schema.CodeInternal}, {"200", "x", schema.CodeInternal}, {"-1", "x", schema.CodeInternal},
	} {
		if got := schema.ParseErrorHeaders(c.status, c.text); got.Code != c.want || got.Message != c.text {
			t.Errorf("%q %q: %s %q, want %s", c.status, c.text, got.Code, got.Message, c.want)
		}
	}
}

func TestAPIErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err          error
		kind, reason string
	}{
		{schema.Invalid(schema.FieldError{Field: "Timeout", Got: "0", Allowed: "1 to 900 seconds"}), "User", ""},
		{&schema.Error{Code: schema.CodeThrottled, Message: "m"}, "User", schema.ThrottleConcurrency},
		{&schema.Error{Code: schema.CodeThrottled, Message: "m", Reason: schema.ThrottleRate}, "User", schema.ThrottleRate},
		{&schema.Error{Code: schema.CodeUnavailable, Message: "m"}, "Service", ""},
		{errors.New("secret detail"), "Service", ""},
	} {
		body, err := json.Marshal(schema.APIErrorOf(c.err))
		if err != nil {
			t.Fatal(err)
		}
		var got schema.APIError
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if got.Type != c.kind || got.Reason != c.reason || got.Message == "" || got.Lower != got.Message || got.Advice == "" || strings.Contains(string(body), "secret") {
			t.Errorf("%v: %s", c.err, body)
		}
		if code := schema.CodeOf(c.err); !errors.Is(got.Err(), &schema.Error{Code: code}) {
			t.Errorf("%v came back as %v", c.err, got.Err())
		}
	}
	if err := (schema.APIError{Message: "from elsewhere"}).Err(); err != nil {
		t.Errorf("a body without a code of ours is %v", err)
	}
}

func TestFieldErrors(t *testing.T) {
	t.Parallel()
	if err := schema.Invalid(); err != nil {
		t.Errorf("no bad field: %v", err)
	}
	err := schema.Invalid(schema.FieldError{Field: "a", Got: "x", Allowed: "y"}, schema.FieldError{Field: "b", Allowed: "required"})
	if want := `InvalidParameterValueException: a: is "x"; y; b: required`; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	var e *schema.Error
	if !errors.As(err, &e) || len(e.Fields) != 2 {
		t.Errorf("fields of %#v", err)
	}
	if e.Retry != 0 || schema.CodeThrottled.Row().Hint != time.Second {
		t.Error("the hint is not the table's")
	}
}
