package control

import (
	"cmp"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// hidden stands for the value of a variable in every answer.
const hidden = "***"

// configuration is Lambda's FunctionConfiguration of a version. The qualifier ends the ARN; state is false in lists,
// which leave State and LastUpdateStatus out (Lambda B6). A function is active as soon as it is there: code is checked
// before its record is written, and environments are made by calls.
func configuration(rec *schema.FunctionRecord, v *schema.VersionRecord, qualifier string, state bool) schema.FunctionConfiguration {
	c := schema.FunctionConfiguration{
		FunctionName: rec.Name, FunctionArn: schema.ARN(rec.Account, rec.Name, qualifier), Runtime: v.Runtime, Role: v.Role,
		Handler: v.Handler, CodeSize: v.CodeSize, Description: v.Description, Timeout: int(v.Timeout / time.Second),
		MemorySize: v.MemoryMB, LastModified: lambdaTime(v.Modified), CodeSha256: codeSHA(v.CodeSHA256), Version: v.Version,
		TracingConfig: &schema.TracingConfig{Mode: cmp.Or(v.Tracing, "PassThrough")}, RevisionId: v.RevisionID, PackageType: "Zip",
		Architectures: []string{v.Architecture}, EphemeralStorage: &schema.EphemeralStorage{Size: v.EphemeralMB},
		LoggingConfig: &schema.LoggingConfig{
			LogFormat: cmp.Or(v.LogFormat, schema.LogFormatText), LogGroup: cmp.Or(v.LogGroup, "/aws/lambda/"+rec.Name),
		},
	}
	if v.Logging().JSON() {
		c.LoggingConfig.ApplicationLogLevel = cmp.Or(v.LogLevel, schema.DefaultLogLevel)
		c.LoggingConfig.SystemLogLevel = cmp.Or(v.SystemLogLevel, schema.DefaultLogLevel)
	}
	if len(v.VariableNames) > 0 {
		c.Environment = &schema.Environment{Variables: make(schema.Variables, len(v.VariableNames))}
		for _, name := range v.VariableNames {
			c.Environment.Variables[name] = hidden
		}
	}
	if rec.PerTenant {
		c.TenancyConfig = &schema.TenancyConfig{TenantIsolationMode: schema.PerTenant}
	}
	if v.Idempotent || len(v.Egress) > 0 || len(v.Audiences) > 0 {
		c.Hearth = &schema.HearthConfig{Idempotent: v.Idempotent, Egress: v.Egress, Audiences: v.Audiences}
	}
	if state {
		c.State, c.LastUpdateStatus = "Active", "Successful"
	}
	return c
}

// lambdaTime writes a time as Lambda does.
func lambdaTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000-0700") }

// resolve finds the version that a qualifier names now: of a weighted alias its main one.
func resolve(rec *schema.FunctionRecord, qualifier string) (*schema.VersionRecord, bool) {
	if v, ok := rec.Find(qualifier); ok {
		return v, true
	}
	if alias, ok := rec.Aliases[qualifier]; ok {
		return rec.Find(alias.Version)
	}
	return nil, false
}

// numbered reports whether a qualifier is the number of a version.
func numbered(q string) bool { return q != "" && strings.Trim(q, "0123456789") == "" }

// moment is a time of a stored record as answers tell it. One that JSON has no form for, as whoever may write there could
// leave it, is told as the zero time: it does not hide the others.
func moment(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
