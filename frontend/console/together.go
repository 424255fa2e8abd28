package console

import (
	"errors"

	"github.com/sourcegraph/conc/iter"

	"github.com/hearth-run/hearth/schema"
)

// together runs the parts of a page at once and says of each that failed why: a page shows what there is.
func together(parts ...func() error) (failed []string) {
	for _, err := range iter.Map(parts, func(part *func() error) error { return (*part)() }) {
		if err == nil {
			continue
		}
		e := new(schema.Error)
		if errors.As(err, &e) {
			failed = append(failed, visible(e.Error()))
		} else {
			failed = append(failed, visible(err.Error()))
		}
	}
	return failed
}
