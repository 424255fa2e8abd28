package frontend

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/hearth-run/hearth/frontend/lambdaapi"
	"github.com/hearth-run/hearth/internal/token"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// jwksPath is where anybody gets the keys by which tokens of sub-tenants are checked. SECURITY 4, DESIGN 10.
const jwksPath = "/.well-known/jwks.json"

// TokenKeys are the issuer of the fabric's tokens and the keys of all its managers that are served now, from a watch. Safe for
// concurrent use.
func (f *Frontend) TokenKeys() schema.TokenKeysOutput {
	var records []schema.TokenKeysRecord
	if keys := f.watches.keys; keys != nil {
		keys.Range(func(name string, r schema.TokenKeysRecord, _ uint64) bool {
			// Each manager may write under its own name alone, which is what the record has to say too.
			if name == schema.TokenKeysName(subjects.Escape(r.Manager)) {
				records = append(records, r)
			}
			return true
		})
	}
	fabric := f.Fabric()
	return schema.TokenKeysOutput{Issuer: fabric.TokenIssuer(f.names.Prefix()), Keys: token.Union(records, time.Now()).Keys}
}

// jwks answers with the keys alone, as RFC 7517 has them.
func (f *Frontend) jwks(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		lambdaapi.WriteError(w, "", schema.Errorf(schema.CodeMethodNotAllowed, "%s %s", r.Method, jwksPath))
		return
	}
	if !f.serving.Load() {
		lambdaapi.WriteError(w, "", &schema.Error{Code: schema.CodeUnavailable, Message: "the keys of tokens are not loaded yet"})
		return
	}
	body, err := json.Marshal(token.Set{Keys: f.TokenKeys().Keys})
	if err != nil {
		lambdaapi.WriteError(w, "", err)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(append(body, '\n')) // a client that has gone
}
