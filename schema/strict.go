package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// DecodeInput reads the JSON object of an operation's request into v, a pointer to one of this package's inputs. It is
// stricter than encoding/json: a member that v does not have (in exactly its case) and one that comes twice are refused
// by name, all of them at once, as is one of the wrong type; a member of Lambda that Hearth does not have is refused
// with what to do instead, unless its value says nothing ("", {}, []). An empty body is an empty object. Errors are
// [CodeInvalidRequest] for what is no JSON object, else [CodeInvalidParameter].
func DecodeInput(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	if !json.Valid(body) {
		return Errorf(CodeInvalidRequest, "the request is not valid JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	w := walker{dec: dec}
	t := reflect.TypeOf(v).Elem()
	if err := w.value(t, ""); err != nil {
		return err
	}
	if !w.object {
		return Errorf(CodeInvalidRequest, "the request is not a JSON object")
	}
	if err := Invalid(w.bad...); err != nil {
		return err
	}
	var wrong *json.UnmarshalTypeError
	switch err := json.Unmarshal(body, v); {
	case errors.As(err, &wrong):
		return Invalid(FieldError{Field: wrong.Field, Allowed: "must be " + kindName(wrong.Type)})
	case err != nil: // bad base64
		return Errorf(CodeInvalidRequest, "could not read the request: %w", err)
	}
	return nil
}

// walker compares the members of a JSON text with those of a Go type, in one pass and by recursion over the type alone.
type walker struct {
	dec    *json.Decoder
	object bool // the outermost value is one
	bad    []FieldError
}

func (w *walker) value(t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	tok, err := w.dec.Token()
	if err != nil {
		return Errorf(CodeInvalidRequest, "could not read the request: %w", err)
	}
	switch {
	case tok == json.Delim('{') && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map):
		w.object = true
		return w.members(t, path)
	case tok == json.Delim('{'), tok == json.Delim('['):
		return w.skip()
	}
	return nil
}

// members reads the inside of an object up to its end.
func (w *walker) members(t reflect.Type, path string) error {
	seen := make(map[string]bool)
	for w.dec.More() {
		tok, err := w.dec.Token()
		if err != nil {
			return Errorf(CodeInvalidRequest, "could not read the request: %w", err)
		}
		name, _ := tok.(string)
		field := clip(strings.TrimPrefix(path+"."+name, "."))
		if seen[name] {
			w.bad = append(w.bad, FieldError{Field: field, Allowed: "is there twice"})
		}
		seen[name] = true
		of, known := memberType(t, name)
		if known {
			if err := w.value(of, field); err != nil {
				return err
			}
			continue
		}
		var raw any
		if err := w.dec.Decode(&raw); err != nil {
			return Errorf(CodeInvalidRequest, "could not read the request: %w", err)
		}
		if why := refusedMember(name); why == "" {
			w.bad = append(w.bad, FieldError{Field: field, Allowed: "no such member"})
		} else if !saysNothing(raw) {
			w.bad = append(w.bad, FieldError{Field: field, Allowed: why})
		}
	}
	_, err := w.dec.Token()
	return err
}

// skip reads up to the end of the object or array that has begun.
func (w *walker) skip() error {
	for depth := 1; depth > 0; {
		tok, err := w.dec.Token()
		if err != nil {
			return fmt.Errorf("skip a value: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		switch tok {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}

// memberType is the type of the member of that name: of a map every name has one.
func memberType(t reflect.Type, name string) (reflect.Type, bool) {
	if t.Kind() == reflect.Map {
		return t.Elem(), true
	}
	for i := range t.NumField() {
		if memberName(t.Field(i)) == name {
			return t.Field(i).Type, true
		}
	}
	return nil, false
}

func memberName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// saysNothing reports whether a value is what SDKs and Terraform send for "not used".
func saysNothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == "" || v == "None"
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, inner := range v {
			if !saysNothing(inner) {
				return false
			}
		}
		return true
	}
	return false
}

// refusedMember says what to do instead of a member of Lambda's requests that Hearth does not have; "" for a name that
// Lambda does not have either. Lambda B6.
func refusedMember(name string) string {
	switch name {
	case "VpcConfig":
		return "not supported: what a function may reach is its Hearth.Egress"
	case "ImageConfig", "ImageUri":
		return "not supported: packages are zip files; put a `bootstrap` into one"
	case "S3Bucket", "S3Key", "S3ObjectVersion", "SourceKMSKeyArn", "ZipFile":
		return "not supported here: put the zip into the code store and name it by Code.Sha256"
	case "Layers":
		return "not supported: put what the layers hold into the package"
	case "FileSystemConfigs":
		return "not supported: an environment has /tmp alone"
	case "KMSKeyArn":
		return "not supported: variables are sealed to the managers' own key"
	case "CodeSigningConfigArn":
		return "not supported: packages are named and checked by their SHA-256"
	case "DeadLetterConfig":
		return "not supported: what happens to failed events is the function's event invoke config"
	case "SnapStart":
		return "not supported: reserve environments to have them initialised ahead of calls"
	case "CapacityProviderConfig", "DurableConfig", "PublishTo":
		return "not supported: Hearth has no managed instances and no durable executions"
	}
	return ""
}

// kindName is a type in the words of JSON.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a string of base64"
		}
		return "an array"
	}
	return "an object"
}
