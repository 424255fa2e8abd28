package schema

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits and defaults of a function's configuration (Lambda B6). EphemeralMB and Timeout in Lambda's units.
const (
	DefaultMemoryMB    = 128
	DefaultTimeout     = 3   // seconds
	DefaultEphemeralMB = 512 // of /tmp
	MaxVariables       = 4 << 10
	minMemoryMB        = 128
	maxMemoryMB        = 10240
	maxTimeout         = 900
	maxEphemeralMB     = 10240
	maxTags            = 50
)

// PerTenant is the one value of TenancyConfig.TenantIsolationMode.
const PerTenant = "PER_TENANT"

// ValidateCreate names every bad field of a CreateFunction request.
func (in *FunctionInput) ValidateCreate() []FieldError {
	bad := in.only("CreateFunction", "FunctionName", "Runtime", "Handler", "Role", "Description", "MemorySize", "Timeout",
		"Environment", "EphemeralStorage", "Architectures", "PackageType", "TenancyConfig", "TracingConfig", "LoggingConfig",
		"Tags", "Publish", "Code", "Hearth")
	bad = append(bad, in.name()...)
	bad = append(bad, in.configuration()...)
	bad = append(bad, in.code(true)...)
	if in.Runtime == nil {
		bad = append(bad, FieldError{Field: "Runtime", Allowed: "required: " + runtimesAllowed})
	} else {
		bad = append(bad, ValidateHandler(*in.Runtime, deref(in.Handler))...)
	}
	if in.PackageType != nil && *in.PackageType != "Zip" {
		bad = append(bad, FieldError{"PackageType", clip(*in.PackageType), "Zip"})
	}
	if in.TenancyConfig != nil && in.TenancyConfig.TenantIsolationMode != PerTenant {
		bad = append(bad, FieldError{"TenancyConfig.TenantIsolationMode", clip(in.TenancyConfig.TenantIsolationMode), PerTenant})
	}
	return append(bad, in.tags()...)
}

// ValidateUpdateCode names every bad field of an UpdateFunctionCode request.
func (in *FunctionInput) ValidateUpdateCode() []FieldError {
	bad := in.only("UpdateFunctionCode", "FunctionName", "Code", "Architectures", "Publish", "DryRun", "RevisionId")
	bad = append(bad, in.name()...)
	bad = append(bad, in.code(true)...)
	return append(bad, in.architectures()...)
}

// ValidateUpdateConfiguration names every bad field of an UpdateFunctionConfiguration request. What it leaves out stays
// as it is, so the handler is checked with the runtime that results: [ValidateHandler].
func (in *FunctionInput) ValidateUpdateConfiguration() []FieldError {
	bad := in.only("UpdateFunctionConfiguration", "FunctionName", "Runtime", "Handler", "Role", "Description", "MemorySize",
		"Timeout", "Environment", "EphemeralStorage", "TracingConfig", "LoggingConfig", "RevisionId", "Hearth")
	bad = append(bad, in.name()...)
	return append(bad, in.configuration()...)
}

// ValidatePublish names every bad field of a PublishVersion request.
func (in *FunctionInput) ValidatePublish() []FieldError {
	bad := in.only("PublishVersion", "FunctionName", "CodeSha256", "Description", "RevisionId")
	bad = append(bad, in.name()...)
	return append(bad, in.description()...)
}

// only names the members that were sent and that the operation does not take.
func (in *FunctionInput) only(operation string, taken ...string) []FieldError {
	var bad []FieldError
	for _, name := range in.members() {
		if !slices.Contains(taken, name) {
			bad = append(bad, FieldError{Field: name, Allowed: "is no member of " + operation})
		}
	}
	return bad
}

// members are the names of the members that were sent.
func (in *FunctionInput) members() []string {
	var sent []string
	v := reflect.ValueOf(in).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			sent = append(sent, memberName(v.Type().Field(i)))
		}
	}
	return sent
}

func (in *FunctionInput) name() []FieldError { return fieldsOf(ValidateFunctionName(in.FunctionName)) }

func (in *FunctionInput) configuration() []FieldError {
	var bad []FieldError
	if in.Runtime != nil {
		bad = append(bad, ValidateRuntime(*in.Runtime)...)
	}
	if in.Handler != nil && (len(*in.Handler) > 128 || strings.ContainsFunc(*in.Handler, blankOrControl)) {
		bad = append(bad, FieldError{"Handler", clip(*in.Handler), "at most 128 bytes, no blanks"})
	}
	if in.Role != nil && (len(*in.Role) > 256 || strings.ContainsFunc(*in.Role, blankOrControl)) {
		bad = append(bad, FieldError{"Role", clip(*in.Role), "at most 256 bytes, no blanks; it has no meaning here"})
	}
	bad = append(bad, in.description()...)
	bad = append(bad, within("MemorySize", in.MemorySize, minMemoryMB, maxMemoryMB, "MB")...)
	bad = append(bad, within("Timeout", in.Timeout, 1, maxTimeout, "seconds")...)
	if in.EphemeralStorage != nil {
		bad = append(bad, within("EphemeralStorage.Size", &in.EphemeralStorage.Size, DefaultEphemeralMB, maxEphemeralMB, "MB")...)
	}
	if in.TracingConfig != nil && in.TracingConfig.Mode != "Active" && in.TracingConfig.Mode != "PassThrough" {
		bad = append(bad, FieldError{"TracingConfig.Mode", clip(in.TracingConfig.Mode), "Active or PassThrough"})
	}
	if in.Environment != nil {
		bad = append(bad, ValidateVariables(in.Environment.Variables)...)
	}
	bad = append(bad, in.architectures()...)
	bad = append(bad, in.logging()...)
	return append(bad, in.hearth()...)
}

func (in *FunctionInput) description() []FieldError {
	if in.Description != nil && utf8.RuneCountInString(*in.Description) > 256 {
		return []FieldError{{"Description", clip(*in.Description), "at most 256 characters"}}
	}
	return nil
}

func (in *FunctionInput) code(required bool) []FieldError {
	switch c := in.Code; {
	case c == nil && required:
		return []FieldError{{Field: "Code", Allowed: "required: Code.Sha256 names the zip in the code store"}}
	case c == nil:
		return nil
	case len(c.ZipFile) > 0:
		return []FieldError{{Field: "Code.ZipFile", Allowed: refusedMember("ZipFile")}}
	case len(c.Sha256) != 64 || strings.Trim(c.Sha256, "0123456789abcdef") != "":
		return []FieldError{{"Code.Sha256", clip(c.Sha256), "64 lower-case hex digits"}}
	}
	return nil
}

func (in *FunctionInput) architectures() []FieldError {
	if in.Architectures == nil {
		return nil
	}
	if a := in.Architectures; len(a) != 1 || a[0] != "x86_64" && a[0] != "arm64" {
		return []FieldError{{"Architectures", clip(strings.Join(a, ",")), "one of x86_64 and arm64"}}
	}
	return nil
}

func (in *FunctionInput) logging() []FieldError {
	var bad []FieldError
	l := in.LoggingConfig
	if l == nil {
		return nil
	}
	if l.LogFormat != "" && l.LogFormat != LogFormatText && l.LogFormat != LogFormatJSON {
		bad = append(bad, FieldError{"LoggingConfig.LogFormat", clip(l.LogFormat), "Text or JSON"})
	}
	level := func(member, value string, allowed ...string) {
		field := FieldError{Field: "LoggingConfig." + member, Got: clip(value)}
		switch {
		case value == "":
			return
		case !slices.Contains(allowed, value):
			field.Allowed = "one of " + strings.Join(allowed, ", ")
		case l.LogFormat != LogFormatJSON:
			field.Allowed = "only with LogFormat JSON: lines of text have no level"
		default:
			return
		}
		bad = append(bad, field)
	}
	level("ApplicationLogLevel", l.ApplicationLogLevel, "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
	level("SystemLogLevel", l.SystemLogLevel, "DEBUG", "INFO", "WARN")
	if l.LogGroup != "" && (len(l.LogGroup) > 512 || !nameBytes(l.LogGroup, "./#")) {
		bad = append(bad, FieldError{"LoggingConfig.LogGroup", clip(l.LogGroup), "1 to 512 of a-z, A-Z, 0-9 and .-_/#"})
	}
	return bad
}

func (in *FunctionInput) tags() []FieldError {
	var bad []FieldError
	if len(in.Tags) > maxTags {
		bad = append(bad, FieldError{"Tags", strconv.Itoa(len(in.Tags)) + " tags", "at most 50"})
	}
	for key, value := range in.Tags {
		if n := utf8.RuneCountInString(key); n < 1 || n > 128 || strings.ContainsFunc(key, control) {
			bad = append(bad, FieldError{"Tags", clip(key), "keys of 1 to 128 characters"})
		}
		if utf8.RuneCountInString(value) > 256 || strings.ContainsFunc(value, control) {
			bad = append(bad, FieldError{"Tags." + clip(key), clip(value), "at most 256 characters"})
		}
	}
	return sorted(bad)
}

func (in *FunctionInput) hearth() []FieldError {
	var bad []FieldError
	if in.Hearth == nil {
		return nil
	}
	_, bad = ParseEgress(in.Hearth.Egress)
	for _, aud := range in.Hearth.Audiences {
		if aud == "" || len(aud) > 256 || strings.ContainsFunc(aud, blankOrControl) {
			bad = append(bad, FieldError{"Hearth.Audiences", clip(aud), "1 to 256 bytes without blanks"})
		}
	}
	if len(in.Hearth.Egress) > MaxEgressRules || len(in.Hearth.Audiences) > 16 {
		bad = append(bad, FieldError{Field: "Hearth", Allowed: "at most 64 egress rules and 16 audiences"})
	}
	return bad
}

func within(field string, v *int, least, most int, unit string) []FieldError {
	if v == nil || least <= *v && *v <= most {
		return nil
	}
	return []FieldError{{field, strconv.Itoa(*v), strconv.Itoa(least) + " to " + strconv.Itoa(most) + " " + unit}}
}
