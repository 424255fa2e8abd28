package reservation

import (
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Shards counts the arcs that each shard holds, those that close too.
type Shards [subjects.MaxShards]int

// Add counts the arcs of a record.
func (s *Shards) Add(rec *schema.ReservationRecord) {
	if rec.Epoch != 0 {
		s.AddOne(rec.Shard)
	}
	for _, c := range rec.Closing {
		s.AddOne(c.Shard)
	}
}

// AddOne counts one more arc in a shard.
func (s *Shards) AddOne(shard int) {
	if shard >= 0 && shard < len(s) {
		s[shard]++
	}
}

// Free is the lowest shard with fewer arcs than most, leaving out those that are barred.
func (s *Shards) Free(most int, barred func(shard int) bool) (shard int, ok bool) {
	for shard, n := range s {
		if n < most && !barred(shard) {
			return shard, true
		}
	}
	return 0, false
}
