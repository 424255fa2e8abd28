package schema

import (
	"fmt"
	"strings"
)

// Invalid is the [CodeInvalidParameter] that names every bad field, or nil if there is none.
func Invalid(fields ...FieldError) error {
	if len(fields) == 0 {
		return nil
	}
	text := make([]string, len(fields))
	for i, f := range fields {
		text[i] = f.String()
	}
	return &Error{Code: CodeInvalidParameter, Message: strings.Join(text, "; "), Fields: fields}
}

// ValidateFunctionName checks a bare name: 1 to 64 of [a-zA-Z0-9-_] (Lambda B).
func ValidateFunctionName(name string) error {
	if len(name) > MaxFunctionName || !nameBytes(name, "") {
		return Invalid(FieldError{"FunctionName", clip(name), "1 to 64 of a-z, A-Z, 0-9, - and _"})
	}
	return nil
}

// ValidateTenant checks the id of a sub-tenant: 1 to 256 of [a-zA-Z0-9._:/=+\-@ ] (Lambda B4), without blanks at its ends. No header
// keeps those: by its name, a function would take " a" for "a".
func ValidateTenant(id string) error {
	if len(id) > MaxTenant || !nameBytes(id, ".:/=+@ ") || strings.Trim(id, " ") != id {
		return Invalid(FieldError{"TenantId", clip(id), "1 to 256 of a-z, A-Z, 0-9, blank and ._:/=+-@, no blank at its ends"})
	}
	return nil
}

// ValidateAlias checks the name of an alias: 1 to 128 of [a-zA-Z0-9-_], not digits alone, which are versions.
func ValidateAlias(name string) error {
	if len(name) > 128 || !nameBytes(name, "") || !strings.ContainsFunc(name, func(r rune) bool { return r < '0' || r > '9' }) {
		return Invalid(FieldError{"Name", clip(name), "1 to 128 of a-z, A-Z, 0-9, - and _, not digits alone"})
	}
	return nil
}

// ValidateQualifier checks what may follow a function's name: [Latest], the number of a version, or an alias.
func ValidateQualifier(q string) error {
	if q != Latest && (len(q) > 128 || !nameBytes(q, "")) {
		return Invalid(FieldError{"Qualifier", clip(q), "$LATEST, a version's number or an alias"})
	}
	return nil
}

// nameBytes reports whether s is not empty and holds nothing but [a-zA-Z0-9-_] and the bytes of more.
func nameBytes(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') &&
			strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return s != ""
}

// clip shortens what a caller sent to what an error may repeat of it.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(s[:most], "?"), len(s))
}
