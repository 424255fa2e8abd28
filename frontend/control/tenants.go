package control

import (
	"strings"

	"github.com/hearth-run/hearth/schema"
)

// keptApart refuses a function with sub-tenants while a manager that has places would run it where nothing keeps these apart
// (SECURITY 3). One that comes later, and does not, refuses the calls that it claims.
func (s *Service) keptApart(mode string) error {
	var able, unable []string
	for _, m := range s.view.Managers() {
		switch {
		case m.Capacity == 0:
		case m.Tenants:
			able = append(able, m.ID)
		default:
			unable = append(unable, m.ID)
		}
	}
	why := "no worker is there yet; `hearth ring` shows who is"
	switch {
	case unable != nil:
		why = "the driver of the workers of " + strings.Join(unable, ", ") + " does not keep sub-tenants apart; `hearth doctor` there says what native needs"
	case able != nil:
		return nil
	}
	return schema.Invalid(schema.FieldError{Field: "TenancyConfig.TenantIsolationMode", Got: mode, Allowed: "left out: " + why})
}
