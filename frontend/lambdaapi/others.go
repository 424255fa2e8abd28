package lambdaapi

import (
	"net/http"

	"github.com/hearth-run/hearth/schema"
)

// refuseOthers refuses the headers by which NATS callers say what Lambda's API has other places for. Left aside in
// silence, a caller would believe that they counted, and have another version run than the one that he named.
func refuseOthers(_ *schema.Request, h http.Header) error {
	for _, other := range [...]struct{ name, use string }{
		{schema.HeaderQualifier, "the query's Qualifier"},
		{schema.HeaderTenant, "X-Amz-Tenant-Id"},
		{schema.HeaderLog, "X-Amz-Log-Type"},
		{schema.HeaderClientContext, "X-Amz-Client-Context"},
	} {
		if len(h.Values(other.name)) > 0 {
			return schema.Invalid(schema.FieldError{Field: other.name, Allowed: "is for callers over NATS; over HTTP use " + other.use})
		}
	}
	return nil
}
