package telemetry

import (
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Metric is one name under which numbers are told. They all stand in metrics_names.go.
type Metric struct {
	Name  string // OpenTelemetry's; Prometheus gets underscores, the unit and _total
	Unit  string // UCUM: s, By; {call} is a number of calls and goes without a suffix
	About string // what it is, one line
	kind  kind
}

type kind uint8

const (
	counter kind = iota + 1 // only grows
	gauge                   // goes up and down; those of several nodes of a process add up
	level                   // goes up and down, and all nodes see the same one: the highest is told
	histogram
)

// Kind is counter, gauge or histogram: the type that Prometheus is told.
func (m *Metric) Kind() string {
	return [...]string{counter: "counter", gauge: "gauge", level: "gauge", histogram: "histogram"}[m.kind]
}

// Scrape takes what sources tell in one look. What several of them tell under one name with the same attributes is added up: the
// managers of one process, the workers. A level is not, for they all see the same. It is not safe for concurrent use.
type Scrape struct {
	began, now time.Time
	order      []*Metric
	families   map[*Metric]*family
}

type family struct {
	at         map[attribute.Distinct]int
	numbers    []metricdata.DataPoint[float64]
	histograms []metricdata.HistogramDataPoint[float64]
}

func newScrape(began, now time.Time) *Scrape {
	return &Scrape{began: began, now: now, families: make(map[*Metric]*family)}
}

func (s *Scrape) family(m *Metric) *family {
	f := s.families[m]
	if f == nil {
		f = &family{at: make(map[attribute.Distinct]int)}
		s.families[m] = f
		s.order = append(s.order, m)
	}
	return f
}

// Count tells a number that only grows.
func (s *Scrape) Count(m *Metric, n uint64, attrs ...attribute.KeyValue) {
	s.number(m, float64(n), attrs)
}

// Gauge tells a number that is now.
func (s *Scrape) Gauge(m *Metric, n float64, attrs ...attribute.KeyValue) { s.number(m, n, attrs) }

// Float tells a number that only grows and is not whole.
func (s *Scrape) Float(m *Metric, n float64, attrs ...attribute.KeyValue) { s.number(m, n, attrs) }

func (s *Scrape) number(m *Metric, n float64, attrs []attribute.KeyValue) {
	f, set := s.family(m), attribute.NewSet(attrs...)
	if i, ok := f.at[set.Equivalent()]; ok {
		if v := &f.numbers[i].Value; m.kind == level {
			*v = max(*v, n)
		} else {
			*v += n
		}
		return
	}
	f.at[set.Equivalent()] = len(f.numbers)
	f.numbers = append(f.numbers, metricdata.DataPoint[float64]{Attributes: set, StartTime: s.began, Time: s.now, Value: n})
}

// Histogram tells what a histogram has counted.
func (s *Scrape) Histogram(m *Metric, h *Histogram, attrs ...attribute.KeyValue) {
	f, set := s.family(m), attribute.NewSet(attrs...)
	i, ok := f.at[set.Equivalent()]
	if !ok {
		i = len(f.histograms)
		f.at[set.Equivalent()] = i
		f.histograms = append(f.histograms, metricdata.HistogramDataPoint[float64]{
			Attributes: set, StartTime: s.began, Time: s.now, Bounds: h.buckets.bounds, BucketCounts: make([]uint64, len(h.counts)),
		})
	}
	p := &f.histograms[i]
	for b := range h.counts {
		n := h.counts[b].Load()
		p.BucketCounts[b] += n
		p.Count += n
	}
	p.Sum += float64(h.sum.Load()) / h.buckets.unit
}

// metrics is all that was told, as OpenTelemetry's readers take it.
func (s *Scrape) metrics() []metricdata.Metrics {
	all := make([]metricdata.Metrics, 0, len(s.order))
	for _, m := range s.order {
		one := metricdata.Metrics{Name: m.Name, Description: m.About, Unit: m.Unit}
		f := s.families[m]
		switch m.kind {
		case histogram:
			one.Data = metricdata.Histogram[float64]{DataPoints: f.histograms, Temporality: metricdata.CumulativeTemporality}
		case level:
			one.Data = metricdata.Gauge[float64]{DataPoints: f.numbers}
		default:
			one.Data = metricdata.Sum[float64]{
				DataPoints: f.numbers, Temporality: metricdata.CumulativeTemporality, IsMonotonic: m.kind == counter,
			}
		}
		all = append(all, one)
	}
	return all
}

// Buckets are the bounds of a histogram. They never change.
type Buckets struct {
	bounds []float64 // as they are told
	limits []int64   // the same as they are counted
	unit   float64   // of what is counted, in one of what is told
}

// NewBuckets are buckets up to each of these bounds, ascending, and one for what is above. What is told is what is counted divided
// by unit: 1e9 for nanoseconds that are told as seconds.
func NewBuckets(unit float64, bounds ...float64) *Buckets {
	b := &Buckets{bounds: bounds, unit: unit}
	for _, at := range bounds {
		b.limits = append(b.limits, int64(at*unit))
	}
	return b
}

// Histogram counts how long things took, or how large they were. Recording takes three atomic operations and allocates nothing. It
// is safe for concurrent use.
type Histogram struct {
	buckets *Buckets
	counts  []atomic.Uint64 // one more than bounds
	sum     atomic.Int64
}

// NewHistogram makes an empty one.
func NewHistogram(b *Buckets) *Histogram {
	return &Histogram{buckets: b, counts: make([]atomic.Uint64, len(b.limits)+1)}
}

// Record counts a value in what is counted: nanoseconds, bytes.
func (h *Histogram) Record(v int64) {
	lo, hi := 0, len(h.buckets.limits)
	for lo < hi {
		if mid := (lo + hi) / 2; h.buckets.limits[mid] < v {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	h.counts[lo].Add(1)
	h.sum.Add(v)
}

// Took counts a duration.
func (h *Histogram) Took(d time.Duration) { h.Record(int64(max(0, d))) }

// Fold adds what another one of the same buckets has counted.
func (h *Histogram) Fold(from *Histogram) {
	for i := range from.counts {
		h.counts[i].Add(from.counts[i].Load())
	}
	h.sum.Add(from.sum.Load())
}

// Count is how many values there are.
func (h *Histogram) Count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}
