package telemetry

import (
	"sync/atomic"

	"github.com/hearth-run/hearth/schema"
)

// codeAt are the places of all codes that there are.
var codeAt = func() map[schema.Code]int {
	at := make(map[schema.Code]int)
	for i, row := range schema.Table() {
		at[row.Code] = i
	}
	return at
}()

// functionName names a function of an account; the zero value is one that is none.
type functionName struct{ account, function string }

// Refused counts, by function and code, calls that were answered with an error and ran in no environment. It is safe for concurrent
// use, and not for the path of a call that runs.
type Refused struct {
	functions *Table[functionName, []atomic.Uint64]
}

// NewRefused makes one without any.
func NewRefused() *Refused {
	fresh := func() *[]atomic.Uint64 {
		row := make([]atomic.Uint64, len(codeAt))
		return &row
	}
	return &Refused{NewTable[functionName](MaxFunctions, fresh, func(into, from *[]atomic.Uint64) {
		for i := range *from {
			(*into)[i].Add((*from)[i].Load())
		}
	})}
}

// Count counts a call of a function that is known; of any other name, which a stranger chose, both are "".
func (r *Refused) Count(account, function string, code schema.Code) {
	i, ok := codeAt[code]
	if !ok {
		i = codeAt[schema.CodeInternal]
	}
	r.functions.Count(functionName{account, function}, func(row *[]atomic.Uint64) { (*row)[i].Add(1) })
}

// Scrape tells them as [Calls] without version, reason and start.
func (r *Refused) Scrape(s *Scrape) {
	r.functions.Each(func(f functionName, other bool, row *[]atomic.Uint64) (told bool) {
		name := f.function
		if other {
			name = Other
		}
		for code, i := range codeAt {
			if n := (*row)[i].Load(); n > 0 {
				s.Count(Calls, n, Function.String(name), Version.String(""), Reason.String(""), Start.String(""), Code.String(string(code)))
				told = true
			}
		}
		return told
	})
}
