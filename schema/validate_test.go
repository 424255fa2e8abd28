package schema_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

const codeSum = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func fieldNames(bad []schema.FieldError) []string {
	var names []string
	for _, f := range bad {
		names = append(names, f.Field)
	}
	slices.Sort(names)
	return names
}

// create is a CreateFunction that is right, with members set by JSON over it.
func create(t *testing.T, members string) *schema.FunctionInput {
	t.Helper()
	in := &schema.FunctionInput{FunctionName: "resize", Code: &schema.FunctionCode{Sha256: codeSum}}
	runtime := "provided"
	in.Runtime = &runtime
	if err := schema.DecodeInput([]byte(members), in); err != nil {
		t.Fatal(err)
	}
	return in
}

func TestValidateCreate(t *testing.T) {
	t.Parallel()
	variables := func(name string, n int) string {
		return fmt.Sprintf(`{"Environment":{"Variables":{%q:%q}}}`, name, strings.Repeat("x", n))
	}
	tags := make(map[string]string)
	for i := range 51 {
		tags[strconv.Itoa(i)] = "v"
	}
	manyTags, _ := json.Marshal(map[string]any{"Tags": tags})
	for members, want := range map[string][]string{
		`{}`: nil,
		`{"MemorySize":128,"Timeout":900,"Description":"d","Architectures":["arm64"],"PackageType":"Zip","Publish":true}`: nil,
		`{"MemorySize":10240,"Timeout":1,"EphemeralStorage":{"Size":10240},"Role":"arn:aws:iam::1:role/x"}`:               nil,
		`{"TenancyConfig":{"TenantIsolationMode":"PER_TENANT"},"TracingConfig":{"Mode":"Active"}}`:                        nil,
		`{"Environment":{"Variables":{"MODE":"","A1":"x","LANG":"C","PATH":"/x","TZ":":UTC"}}}`:                           nil,
		`{"Hearth":{"Egress":["10.0.0.0/8","db.internal:5432","[fd00::1]:443","2001:db8::/32"],"Audiences":["db"]}}`:      nil,
		`{"Runtime":"nodejs22.x","Handler":"index.handler"}`:                                                              nil,
		`{"LoggingConfig":{"LogFormat":"JSON","LogGroup":"/aws/x"}}`:                                                      nil,
		`{"FunctionName":""}`:                                    {"FunctionName"},
		`{"FunctionName":"a.b"}`:                                 {"FunctionName"},
		`{"FunctionName":"` + strings.Repeat("a", 65) + `"}`:     {"FunctionName"},
		`{"MemorySize":127}`:                                     {"MemorySize"},
		`{"MemorySize":10241,"Timeout":901}`:                     {"MemorySize", "Timeout"},
		`{"Timeout":0,"EphemeralStorage":{"Size":511}}`:          {"EphemeralStorage.Size", "Timeout"},
		`{"Runtime":"nodejs"}`:                                   {"Handler"},
		`{"Runtime":"python3.13","Handler":""}`:                  {"Handler"},
		`{"Handler":"has blank"}`:                                {"Handler"},
		`{"Runtime":"wasm"}`:                                     {"Runtime"},
		`{"Runtime":"java21"}`:                                   {"Runtime"},
		`{"Runtime":""}`:                                         {"Runtime"},
		`{"Architectures":[]}`:                                   {"Architectures"},
		`{"Architectures":["x86_64","arm64"]}`:                   {"Architectures"},
		`{"PackageType":"Image"}`:                                {"PackageType"},
		`{"TenancyConfig":{}}`:                                   {"TenancyConfig.TenantIsolationMode"},
		`{"TracingConfig":{"Mode":"x"}}`:                         {"TracingConfig.Mode"},
		`{"LoggingConfig":{"LogFormat":"xml","LogGroup":"a b"}}`: {"LoggingConfig.LogFormat", "LoggingConfig.LogGroup"},
		`{"LoggingConfig":{"LogFormat":"JSON","ApplicationLogLevel":"TRACE","SystemLogLevel":"WARN"}}`:  nil,
		`{"LoggingConfig":{"LogFormat":"JSON","ApplicationLogLevel":"debug","SystemLogLevel":"ERROR"}}`: {"LoggingConfig.ApplicationLogLevel", "LoggingConfig.SystemLogLevel"},
		`{"LoggingConfig":{"LogFormat":"Text","ApplicationLogLevel":"DEBUG"}}`:                          {"LoggingConfig.ApplicationLogLevel"},
		`{"LoggingConfig":{"SystemLogLevel":"DEBUG"}}`:                                                  {"LoggingConfig.SystemLogLevel"},
		`{"Description":"` + strings.Repeat("é", 257) + `"}`:                                            {"Description"},
		`{"Description":"` + strings.Repeat("é", 256) + `"}`:                                            nil,
		`{"Code":{"Sha256":""}}`:                                 {"Code.Sha256"},
		`{"Code":{"Sha256":"` + strings.ToUpper(codeSum) + `"}}`: {"Code.Sha256"},
		`{"Code":{"ZipFile":"UEsFBg=="}}`:                        {"Code.ZipFile"},
		`{"Code":null}`:                                          {"Code"},
		`{"RevisionId":"x","DryRun":true}`:                       {"DryRun", "RevisionId"},
		string(manyTags):                                         {"Tags"},
		`{"Tags":{"":"v"}}`:                                      {"Tags"},
		variables("A", 1):                                        {"Environment.Variables.A"},
		variables("1A", 1):                                       {"Environment.Variables.1A"},
		variables("_HANDLER", 1):                                 {"Environment.Variables._HANDLER"},
		variables("A-B", 1):                                      {"Environment.Variables.A-B"},
		variables("A=B", 1):                                      {"Environment.Variables.A=B"},
		variables("AWS_REGION", 1):                               {"Environment.Variables.AWS_REGION"},
		variables("AWS_LAMBDA_FUNCTION_NAME", 1):                 {"Environment.Variables.AWS_LAMBDA_FUNCTION_NAME"},
		variables("HEARTH_TOKEN_AUTH", 1):                        {"Environment.Variables.HEARTH_TOKEN_AUTH"},
		variables("AB", 4094):                                    nil,
		variables("AB", 4095):                                    {"Environment.Variables"},
		`{"Environment":{"Variables":{"AB":"a\u0000b"}}}`:        {"Environment.Variables.AB"},
		`{"Hearth":{"Egress":["public","none"]}}`:                {"Hearth.Egress", "Hearth.Egress"},
		`{"Hearth":{"Egress":["*.example.org:443","host","host:0","host:70000",":80"]}}`: {"Hearth.Egress", "Hearth.Egress", "Hearth.Egress", "Hearth.Egress", "Hearth.Egress"},
		`{"Hearth":{"Audiences":[""]}}`: {"Hearth.Audiences"},
	} {
		bad := create(t, members).ValidateCreate()
		if got := fieldNames(bad); !slices.Equal(got, want) {
			t.Errorf("%.200s: %v, want %v", members, bad, want)
		}
		for _, f := range bad {
			if f.Allowed == "" || len(f.Got) > 120 || len(f.Field) > 200 {
				t.Errorf("%.200s: %+v", members, f)
			}
		}
	}
}

func TestEachOperationTakesItsOwnMembers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		validate func(*schema.FunctionInput) []schema.FieldError
		body     string
		want     []string
	}{
		{"code", (*schema.FunctionInput).ValidateUpdateCode, `{"FunctionName":"f","Code":{"Sha256":"` + codeSum + `"},"Publish":true,"DryRun":true,"RevisionId":"r"}`, nil},
		{"code", (*schema.FunctionInput).ValidateUpdateCode, `{"FunctionName":"f","Timeout":3}`, []string{"Code", "Timeout"}},
		{"configuration", (*schema.FunctionInput).ValidateUpdateConfiguration, `{"FunctionName":"f","Timeout":3,"Handler":"a.b","RevisionId":"r"}`, nil},
		{"configuration", (*schema.FunctionInput).ValidateUpdateConfiguration, `{"FunctionName":"f","Timeout":0,"Publish":true,"Tags":{"a":"b"},"TenancyConfig":{"TenantIsolationMode":"PER_TENANT"}}`,
			[]string{"Publish", "Tags", "TenancyConfig", "Timeout"}},
		{"publish", (*schema.FunctionInput).ValidatePublish, `{"FunctionName":"f","CodeSha256":"x","Description":"d"}`, nil},
		{"publish", (*schema.FunctionInput).ValidatePublish, `{"Environment":{"Variables":{"PIN":"4711"}}}`, []string{"Environment", "FunctionName"}},
	} {
		var in schema.FunctionInput
		if err := schema.DecodeInput([]byte(c.body), &in); err != nil {
			t.Fatal(err)
		}
		if bad := c.validate(&in); !slices.Equal(fieldNames(bad), c.want) {
			t.Errorf("%s %s: %v, want %v", c.name, c.body, bad, c.want)
		}
	}
}

func TestRuntimeFamilies(t *testing.T) {
	t.Parallel()
	for runtime, want := range map[string]string{
		"provided": "provided  true", "provided.al2023": "provided  true", "nodejs": "nodejs  true", "nodejs22.x": "nodejs 22 true",
		"python": "python  true", "python3.9": "python 3.9 true", "python3.14": "python 3.14 true",
	} {
		family, version, ok := schema.RuntimeFamily(runtime)
		if got := fmt.Sprint(family, " ", version, " ", ok); got != want {
			t.Errorf("%s: %s, want %s", runtime, got, want)
		}
	}
	for _, runtime := range []string{"", "nodejs22", "nodejs21.x", "nodejs26.x", "nodejs022.x", "nodejs+22.x", "python3.15", "python3.09", "python2.7", "provided.al3", "wasm", "go1.x", "Provided"} {
		if _, _, ok := schema.RuntimeFamily(runtime); ok || len(schema.ValidateRuntime(runtime)) != 1 {
			t.Errorf("%q is taken", runtime)
		}
	}
}

func TestValidateNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		check func(string) error
		good  []string
		bad   []string
	}{
		{schema.ValidateFunctionName, []string{"a", "resize-2_B", strings.Repeat("a", 64)}, []string{"", "a.b", "a b", "*", ">", "ü", "a:b", "$LATEST", strings.Repeat("a", 65)}},
		{schema.ValidateTenant, []string{"a", "ACME Inc.", "a/b:c=d+e-f@g_h", strings.Repeat("t", 256)}, []string{"", "*", "a\n", "ü", "a,b", " ", " a", "a ", strings.Repeat("t", 257)}},
		{schema.ValidateAlias, []string{"live", "v1", "1a", "-"}, []string{"", "1", "007", "$LATEST", "a.b", strings.Repeat("a", 129)}},
		{schema.ValidateQualifier, []string{"$LATEST", "1", "live"}, []string{"", "$latest", "a.b", "a*"}},
	} {
		for _, s := range c.good {
			if err := c.check(s); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
		for _, s := range c.bad {
			if err := c.check(s); schema.CodeOf(err) != schema.CodeInvalidParameter {
				t.Errorf("%q: %v", s, err)
			}
		}
	}
}

func TestDecodeInput(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``:                     "",
		`{"FunctionName":"f"}`: "",
		`{"VpcConfig":{"SubnetIds":[],"SecurityGroupIds":[]},"Layers":[],"SnapStart":{"ApplyOn":"None"},"KMSKeyArn":"","DeadLetterConfig":{}}`: "",
		`{"VpcConfig":{"SubnetIds":["subnet-1"]}}`:                  "VpcConfig: not supported",
		`{"ImageConfig":{"Command":["x"]}}`:                         "ImageConfig: not supported",
		`{"Code":{"S3Bucket":"b"}}`:                                 "Code.S3Bucket: not supported",
		`{"Layers":["arn"]}`:                                        "Layers: not supported",
		`{"functionname":"f"}`:                                      "functionname: no such member",
		`{"Bogus":1,"More":{"a":[{}]},"Timeout":3}`:                 "Bogus: no such member; More: no such member",
		`{"Timeout":3,"Timeout":4}`:                                 "Timeout: is there twice",
		`{"Environment":{"Variables":{"PIN":"4711","PIN":"4712"}}}`: "Environment.Variables.PIN: is there twice",
		`{"Timeout":"3"}`:                                           "Timeout: must be a whole number",
		`{"Timeout":3.5}`:                                           "Timeout: must be a whole number",
		`{"Environment":{"Variables":{"PIN":4711}}}`:                "must be a string",
		`{"Environment":[1]}`:                                       "Environment: must be an object",
		`{"Publish":"yes"}`:                                         "Publish: must be true or false",
		`{"Code":{"ZipFile":"not base64!"}}`:                        "could not read the request",
		`[]`:                                                        "not a JSON object",
		`null`:                                                      "not a JSON object",
		`{"a":1`:                                                    "not valid JSON",
		`{} {}`:                                                     "not valid JSON",
		strings.Repeat("[", 100_000):                                "not valid JSON",
		`{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`: "x: no such member",
	} {
		var in schema.FunctionInput
		err := schema.DecodeInput([]byte(body), &in)
		if want == "" {
			if err != nil {
				t.Errorf("%.100s: %v", body, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "471") {
			t.Errorf("%.100s: %v, want %q", body, err, want)
		}
		if code := schema.CodeOf(err); code != schema.CodeInvalidParameter && code != schema.CodeInvalidRequest {
			t.Errorf("%.100s: code %s", body, code)
		}
	}
}

func FuzzDecodeInput(f *testing.F) {
	f.Add([]byte(`{"FunctionName":"f","Environment":{"Variables":{"A":"b"}},"VpcConfig":{}}`))
	f.Add([]byte(`{"Code":{"ZipFile":"UEsFBg=="},"Tags":{"a":"b"},"Tags":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var in schema.FunctionInput
		if err := schema.DecodeInput(body, &in); err != nil {
			if code := schema.CodeOf(err); code != schema.CodeInvalidParameter && code != schema.CodeInvalidRequest {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		in.ValidateCreate()
		again, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.DecodeInput(again, new(schema.FunctionInput)); err != nil {
			t.Fatalf("%q, written as %q: %v", body, again, err)
		}
	})
}

func TestVariablesAreSeenByRequestsAlone(t *testing.T) {
	t.Parallel()
	in := create(t, `{"Environment":{"Variables":{"PIN":"4711","NAME":"x4711"}}}`)
	body, err := json.Marshal(in)
	if err != nil || !strings.Contains(string(body), `"PIN":"4711"`) {
		t.Fatalf("a request carries %s, %v", body, err)
	}
	binding := &schema.Binding{Function: "f", Variables: in.Environment.Variables}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		fmt.Fprintf(&out, verb+verb+verb+verb, in.Environment.Variables, *in.Environment, binding, *binding)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("deploy", "variables", in.Environment.Variables, "environment", in.Environment, "binding", binding, "input", *in, "pointer", in)
	}
	if strings.Contains(out.String(), "4711") || strings.Contains(out.String(), "34373131") {
		t.Errorf("a value is printed: %s", out.String())
	}
	if !strings.Contains(out.String(), "PIN") {
		t.Errorf("no name is printed: %s", out.String())
	}
}
