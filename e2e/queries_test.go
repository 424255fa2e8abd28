//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// parse reads Prometheus' text format.
func parse(t testing.TB, text string) series {
	t.Helper()
	reader := expfmt.NewTextParser(model.LegacyValidation)
	families, err := reader.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var all series
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			add := func(suffix string, v float64, more ...string) {
				all = append(all, measured{name + suffix, labels, v, family.GetType(), more})
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				add("", m.GetCounter().GetValue())
			case dto.MetricType_GAUGE:
				add("", m.GetGauge().GetValue())
			case dto.MetricType_HISTOGRAM:
				add("_sum", m.GetHistogram().GetSampleSum())
				add("_count", float64(m.GetHistogram().GetSampleCount()))
				add("_bucket", 0, "le")
			}
		}
	}
	return all
}

// queries are those of the dashboard and of the alerts, by where they stand.
func queries(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	var board struct {
		UID    string `json:"uid"`
		Panels []struct {
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ RefID, Expr string }
		} `json:"panels"`
	}
	text, err := os.ReadFile("../deploy/grafana/hearth.json")
	if err == nil {
		err = json.Unmarshal(text, &board)
	}
	if err != nil {
		t.Fatalf("the dashboard: %v", err)
	}
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 || p.GridPos.W < 1 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q shows nothing, or stands outside", p.Title)
		}
		for _, q := range p.Targets {
			all["panel "+p.Title+" "+q.RefID] = q.Expr
		}
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if text, err = os.ReadFile("../deploy/prometheus/hearth.rules.yaml"); err == nil {
		err = yaml.Unmarshal(text, &rules)
	}
	if err != nil {
		t.Fatalf("the alerts: %v", err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || all["alert "+r.Alert] != "" {
				t.Errorf("alert %q of %s says too little, or is there twice", r.Alert, g.Name)
			}
			all["alert "+r.Alert] = r.Expr
		}
	}
	if len(all) < 60 {
		t.Errorf("%d queries: some were not found", len(all))
	}
	return all
}

// What Prometheus and Grafana bring themselves.
var (
	functionsOfPromQL = []string{"sum", "max", "min", "rate", "increase", "histogram_quantile", "topk"}
	words             = []string{"by", "or", "and"}
	fromScraping      = []string{"instance", "job"}
	onlyGrowing       = []string{"rate", "increase"}
)

var (
	token    = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*|"[^"]*"|\d+(\.\d+)?[smhd]?|\$\w+|=~|!~|!=|[(){}\[\],=<>+*/-]`)
	variable = strings.NewReplacer("$__rate_interval", "5m", "$function", ".*", "$job", ".*")
)

// check holds a query against what a fabric shows: every metric is there, of the type that its function takes, and has every label
// that the query names. It reads the part of PromQL that the files use, and refuses the rest.
func (s series) check(query string) error {
	query = variable.Replace(query)
	tokens := token.FindAllString(query, -1)
	if rest := strings.TrimSpace(token.ReplaceAllString(query, "")); rest != "" {
		return fmt.Errorf("%q is not read", rest)
	}
	if strings.Count(query, "(") != strings.Count(query, ")") || strings.Count(query, "{") != strings.Count(query, "}") {
		return fmt.Errorf("a bracket is missing")
	}
	at := func(i int) string {
		if i < 0 || i >= len(tokens) {
			return ""
		}
		return tokens[i]
	}
	var has []string // labels of the last metric, or of all of an expression that "by" comes before
	var grouped []string
	for i := 0; i < len(tokens); i++ {
		word := tokens[i]
		switch {
		case !regexp.MustCompile(`^[a-zA-Z_]`).MatchString(word):
		case slices.Contains(words, word):
			if word != "by" {
				continue
			}
			for i += 2; at(i) != ")"; i++ {
				if at(i) == "" {
					return fmt.Errorf("by what?")
				}
				if at(i) != "," {
					grouped = append(grouped, at(i))
				}
			}
		case at(i+1) == "(" || at(i+1) == "by":
			if !slices.Contains(functionsOfPromQL, word) {
				return fmt.Errorf("function %s is not known here", word)
			}
		default:
			var of []measured
			for _, one := range s {
				if one.metric == word {
					of = append(of, one)
				}
			}
			if len(of) == 0 {
				return fmt.Errorf("nothing tells %s", word)
			}
			labels := slices.Clone(fromScraping)
			for _, one := range of {
				labels = append(labels, one.more...)
				for l := range one.labels {
					labels = append(labels, l)
				}
			}
			grows := of[0].kind != dto.MetricType_GAUGE
			if counted := slices.Contains(onlyGrowing, at(i-2)); grows != counted {
				return fmt.Errorf("%s is a %s, in %s", word, of[0].kind, at(i-2))
			}
			has = append(has, labels...)
			if at(i+1) != "{" {
				continue
			}
			for i += 2; at(i) != "}"; i++ {
				if l := at(i); at(i-1) == "{" || at(i-1) == "," {
					if !slices.Contains(labels, l) {
						return fmt.Errorf("%s has no label %s", word, l)
					}
				} else if strings.HasPrefix(l, `"`) && strings.HasSuffix(at(i-1), "~") {
					if _, err := regexp.Compile(strings.Trim(l, `"`)); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, l := range grouped {
		if !slices.Contains(has, l) {
			return fmt.Errorf("nothing in it has label %s", l)
		}
	}
	return nil
}

// asksForWhatIsThere holds every query of the dashboard and of the alerts against a fabric on which much has happened.
func asksForWhatIsThere(t *testing.T, all series) {
	for where, query := range queries(t) {
		err := all.check(query)
		if err != nil && strings.Contains(err.Error(), "hearth_environments_cpu_seconds_total") {
			t.Logf("%s: this host does not account for processor time where shares are", where)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", where, err, query)
		}
	}
	for query, wrong := range map[string]string{ // that the check finds what it is there for
		`sum(rate(hearth_call_total[5m]))`:                               "nothing tells",
		`sum(rate(hearth_environments[5m]))`:                             "is a GAUGE",
		`sum(hearth_calls_total)`:                                        "is a COUNTER",
		`sum by (color) (rate(hearth_calls_total[5m]))`:                  "label color",
		`sum(rate(hearth_calls_total{faas_nam="x"}[5m]))`:                "no label faas_nam",
		`sum(rate(hearth_calls_total[5m])`:                               "bracket",
		`avg(hearth_room)`:                                               "function avg",
		`sum by (le) (rate(faas_invoke_duration_seconds_sum[5m]))`:       "label le",
		`sum(rate(hearth_calls_total{faas_name=~"("}[5m]))`:              "bracket",
		`sum(rate(hearth_calls_total{faas_name=~"["}[5m])) ? 1`:          "is not read",
		`histogram_quantile(0.5, rate(faas_invoke_duration_bucket[5m]))`: "nothing tells",
	} {
		if err := all.check(query); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, want %q", query, err, wrong)
		}
	}
}
