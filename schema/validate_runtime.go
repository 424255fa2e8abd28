package schema

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

const runtimesAllowed = "provided, nodejs, python, or Lambda's names of these (provided.al2023, nodejs22.x, python3.13)"

// RuntimeFamily is which of Hearth's runtimes a name means: "provided", "nodejs" or "python", with the least version
// of the interpreter that Lambda's name asks for ("22", "3.13"; "" for any). It reports false for every other name.
func RuntimeFamily(runtime string) (family, version string, ok bool) {
	switch runtime {
	case "provided", "provided.al2", "provided.al2023":
		return "provided", "", true
	case "nodejs", "python":
		return runtime, "", true
	}
	if v, found := strings.CutPrefix(runtime, "nodejs"); found {
		v, found = strings.CutSuffix(v, ".x")
		n, err := strconv.Atoi(v)
		return "nodejs", v, found && err == nil && n >= 12 && n <= 24 && n%2 == 0 && strconv.Itoa(n) == v
	}
	if v, found := strings.CutPrefix(runtime, "python3."); found {
		n, err := strconv.Atoi(v)
		return "python", "3." + v, err == nil && n >= 6 && n <= 14 && strconv.Itoa(n) == v
	}
	return "", "", false
}

// ValidateRuntime refuses what is no runtime of Hearth's, and says of those of Lambda and of the design why.
func ValidateRuntime(runtime string) []FieldError {
	if _, _, ok := RuntimeFamily(runtime); ok {
		return nil
	}
	allowed := runtimesAllowed
	switch {
	case runtime == "wasm":
		allowed = "wasm is not there yet; use " + runtimesAllowed
	case strings.HasPrefix(runtime, "java"), strings.HasPrefix(runtime, "dotnet"), strings.HasPrefix(runtime, "ruby"), runtime == "go1.x":
		allowed = "build a `bootstrap` and use provided"
	}
	return []FieldError{{"Runtime", clip(runtime), allowed}}
}

// ValidateHandler checks that a runtime which needs a handler has one.
func ValidateHandler(runtime, handler string) []FieldError {
	if family, _, ok := RuntimeFamily(runtime); ok && family != "provided" && handler == "" {
		return []FieldError{{Field: "Handler", Allowed: "required for " + runtime + ": FILE.FUNCTION"}}
	}
	return nil
}

// ValidateVariables names the bad environment variables of a function: names are [a-zA-Z][a-zA-Z0-9_]+ and none that
// the platform sets, values hold no NUL, and all together are at most [MaxVariables] bytes. It never repeats a value.
// Lambda A5.
func ValidateVariables(vars Variables) []FieldError {
	var bad []FieldError
	total := 0
	for name, value := range vars {
		total += len(name) + len(value)
		field := "Environment.Variables." + clip(name)
		switch {
		case len(name) < 2 || !nameBytes(name, "") || strings.Contains(name, "-") || name[0] == '_' || '0' <= name[0] && name[0] <= '9':
			bad = append(bad, FieldError{Field: field, Allowed: "a name is two or more of a-z, A-Z, 0-9 and _, first a letter"})
		case reservedVariable(name):
			bad = append(bad, FieldError{Field: field, Allowed: "is reserved: the platform sets it"})
		}
		if strings.IndexByte(value, 0) >= 0 {
			bad = append(bad, FieldError{Field: field, Allowed: "a value holds no NUL"})
		}
	}
	bad = sorted(bad)
	if total > MaxVariables {
		bad = append(bad, FieldError{"Environment.Variables", strconv.Itoa(total) + " bytes", "at most 4096 bytes of names and values"})
	}
	return bad
}

// reservedVariable reports whether the platform sets the variable itself (Lambda A5; SECURITY 4).
func reservedVariable(name string) bool {
	switch name {
	case "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
		"AWS_SESSION_TOKEN", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_INITIALIZATION_TYPE",
		"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL",
		"AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN":
		return true
	}
	return strings.HasPrefix(name, "AWS_LAMBDA_FUNCTION") || strings.HasPrefix(name, "HEARTH_TOKEN_")
}

// sorted gives errors that came from a map the same order each time.
func sorted(bad []FieldError) []FieldError {
	slices.SortFunc(bad, func(a, b FieldError) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Allowed, b.Allowed), cmp.Compare(a.Got, b.Got))
	})
	return bad
}

// fieldsOf is the fields that an error of [Invalid] names.
func fieldsOf(err error) []FieldError {
	var e *Error
	if errors.As(err, &e) {
		return e.Fields
	}
	return nil
}

func blankOrControl(r rune) bool { return r <= ' ' || r == 0x7f }

func control(r rune) bool { return r < ' ' || r == 0x7f }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
