package frontend

import "math/rand/v2"

// resolve finds the version that a qualifier names: "" or $LATEST the unpublished code, a number that version, an
// alias one of its versions, drawn by weight for each call. It reports false for a name that the record does not have.
// DESIGN 3.
func (fn *function) resolve(qualifier string) (*version, bool) {
	if v, ok := fn.versions[qualifier]; ok {
		return v, true
	}
	alias, ok := fn.record.Aliases[qualifier]
	if !ok {
		return nil, false
	}
	number := alias.Version
	if alias.SecondVersion != "" && rand.Float64() < alias.SecondWeight {
		number = alias.SecondVersion
	}
	v, ok := fn.versions[number]
	return v, ok
}
