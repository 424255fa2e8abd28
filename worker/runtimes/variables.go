package runtimes

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// standardPath is where functions find programs, after the folder of their interpreter.
const standardPath = "/usr/local/bin:/usr/bin:/bin"

// absent are names that must not be there whatever a function's configuration says: their presence changes what clients
// of the Runtime API do, or is false here.
var absent = []string{"AWS_LAMBDA_MAX_CONCURRENCY", "AWS_EXECUTION_ENV", "_X_AMZN_TRACE_ID", "_LAMBDA_TELEMETRY_LOG_FD",
	"AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL"}

// variables is the whole environment of a function (Lambda's guide, defined runtime environment variables): what may be overridden, what the account set,
// and over both what is reserved. l is nil for provided.
func (r *Runtimes) variables(b *schema.Binding, p Place, l *language, found Interpreter) []string {
	code := cmp.Or(p.Task, p.Code)
	env := map[string]string{
		"PATH": standardPath,
		"LANG": "en_US.UTF-8",
		"TZ":   ":UTC",
		// Lambda lists its own image's folders too. On a host whose libraries are its own, only the package's may come
		// before them.
		"LD_LIBRARY_PATH": code + ":" + filepath.Join(code, "lib"),
	}
	runtimeDir := cmp.Or(p.Runtime, r.cfg.Dir)
	if l != nil {
		runtimeDir = cmp.Or(p.Runtime, r.folders[l.name])
		env[l.module] = filepath.Join(runtimeDir, l.modules)
		if bin := filepath.Dir(found.Path); !slices.Contains(strings.Split(standardPath, ":"), bin) {
			env["PATH"] = bin + ":" + standardPath
		}
	}
	for name, value := range b.Variables {
		// What a process cannot be started with was refused when it was set; here it must not break the start.
		if name != "" && !strings.ContainsAny(name, "=\x00") && !strings.Contains(value, "\x00") && !slices.Contains(absent, name) {
			env[name] = value
		}
	}
	maps.Copy(env, map[string]string{
		"_HANDLER":                        b.Handler,
		"AWS_LAMBDA_RUNTIME_API":          p.API,
		"AWS_REGION":                      r.cfg.Region,
		"AWS_DEFAULT_REGION":              r.cfg.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        b.Function,
		"AWS_LAMBDA_FUNCTION_VERSION":     b.Version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(b.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  schema.InitializationType(b.Reserved),
		"AWS_LAMBDA_LOG_GROUP_NAME":       cmp.Or(b.Logging.Group, "/aws/lambda/"+b.Function),
		"AWS_LAMBDA_LOG_STREAM_NAME":      logStream(b.Version),
		"LAMBDA_TASK_ROOT":                code,
		"LAMBDA_RUNTIME_DIR":              runtimeDir,
	})
	if p.TokenAuth != "" {
		env["HEARTH_TOKEN_URL"] = "http://" + p.API + schema.TokenPath
		env["HEARTH_TOKEN_AUTH"] = p.TokenAuth
	}
	if b.Logging.Format != "" {
		env["AWS_LAMBDA_LOG_FORMAT"] = b.Logging.Format
	}
	if b.Logging.JSON() {
		env["AWS_LAMBDA_LOG_LEVEL"] = cmp.Or(b.Logging.Level, schema.DefaultLogLevel)
	}
	if l != nil {
		v, _ := parseVersion(found.Version)
		name := b.Runtime
		if name == l.name || !strings.Contains(name, ".") {
			name = l.exec(v)
		}
		env["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + name
	}
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// logStream is a name that no two environments share, in Lambda's form.
func logStream(version string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // cannot fail
	return fmt.Sprintf("%s/[%s]%s", time.Now().UTC().Format("2006/01/02"), version, hex.EncodeToString(b[:]))
}
