package schema_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/schema"
)

// open are fields of bytes that anybody may read: public keys, what is sealed, how calls ended.
var open = []string{"Public", "Sealed", "Record", "Marks"}

const secret = "hunter2"

// plant fills a value so that whatever may be secret is: bytes, variables, and fields that are named for it.
func plant(v reflect.Value, field string, depth int) {
	switch v.Kind() {
	case reflect.String:
		switch field {
		case "Token", "Text", "Password", "ZipFile", "Message":
			v.SetString(secret)
		default:
			v.SetString("x")
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if !slices.Contains(open, field) {
				v.SetBytes([]byte(secret))
			}
			return
		}
		one := reflect.New(v.Type().Elem()).Elem()
		plant(one, field, depth+1)
		v.Set(reflect.Append(v, one))
	case reflect.Pointer:
		if depth > 6 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		plant(v.Elem(), field, depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			// The text of a story's step is made of facts by package story, and holds none of a function's.
			if f := v.Type().Field(i); f.IsExported() && !(f.Name == "Text" && v.Type() == reflect.TypeFor[schema.StoryStep]()) {
				plant(v.Field(i), f.Name, depth+1)
			}
		}
	case reflect.Map:
		if v.Type() == reflect.TypeFor[schema.Variables]() {
			v.Set(reflect.ValueOf(schema.Variables{"PASSWORD": secret}))
		}
	}
}

// Whatever of this package is logged, by whichever handler, as a value, a pointer or within a group, tells no secret: no variable, no
// token, and no byte of a payload.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	all := []any{
		&schema.Request{}, &schema.Call{}, &schema.Binding{}, &schema.Token{}, &schema.WorkerToken{}, &schema.WorkerMake{}, &schema.WorkerStart{},
		&schema.FunctionInput{}, &schema.Environment{}, &schema.Variables{}, &schema.LogLines{}, &schema.LogLine{}, &schema.EventError{},
		&schema.HandedClaim{}, &schema.WorkerEvent{}, &schema.StoryInput{}, &schema.LevelOrder{}, &schema.NodeLevel{},
	}
	for _, record := range samples() {
		all = append(all, reflect.New(reflect.TypeOf(record).Elem()).Interface())
	}
	list := fmt.Sprint([]byte(secret)) // how fmt prints bytes
	for _, v := range all {
		plant(reflect.ValueOf(v).Elem(), "", 0)
		var out bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			log := slog.New(h)
			log.Info("m", "pointer", v, "value", reflect.ValueOf(v).Elem().Interface(), slog.Group("g", slog.Any("v", v)))
			log.With("with", v).Info("m")
		}
		for _, form := range []string{secret, list[1 : len(list)-1], base64.StdEncoding.EncodeToString([]byte(secret))} {
			if strings.Contains(out.String(), form) {
				t.Errorf("%T tells a secret as %q:\n%s", v, form, out.String())
			}
		}
	}
}

func TestRedacted(t *testing.T) {
	t.Parallel()
	for urls, want := range map[string]string{
		"": "", "nats://127.0.0.1:4222": "nats://127.0.0.1:4222", "nats://u:hunter2@a,tls://hunter2@b:1,c": "nats://%2A%2A%2A@a,tls://%2A%2A%2A@b:1,c",
		"u:hunter2@a": "***", "nats://u:hunter2@[a": "***",
	} {
		if got := schema.Redacted(urls); got != want {
			t.Errorf("%q is logged as %q, want %q", urls, got, want)
		}
	}
}
