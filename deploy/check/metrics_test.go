package check

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/wellhead/wellhead/internal/testenv"
)

// TestDashboards holds that Grafana can make sense of the dashboards: names and places of panels, expressions, variables.
func TestDashboards(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "grafana", "dashboards", "*.json"))
	if err != nil || len(files) < 2 {
		t.Fatalf("dashboards: got %v, %v", files, err)
	}
	for _, file := range files {
		d := readDashboard(t, file)
		if d.UID == "" || d.Title == "" || d.SchemaVersion == 0 {
			t.Errorf("%s has no uid, title or schemaVersion", file)
		}
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, panel := range d.Panels {
			if ids[panel.ID] || panel.Title == "" {
				t.Errorf("%s: panel %d %q has no title, or another's id", file, panel.ID, panel.Title)
			}
			ids[panel.ID] = true
			for x := range panel.GridPos.W {
				for y := range panel.GridPos.H {
					cell := [2]int{panel.GridPos.X + x, panel.GridPos.Y + y}
					if other := taken[cell]; other != "" || cell[0] > 23 {
						t.Fatalf("%s: panel %q lies over %q or beside the page", file, panel.Title, other)
					}
					taken[cell] = panel.Title
				}
			}
			if panel.Type != "row" && (len(panel.Targets) == 0 || panel.Description == "") {
				t.Errorf("%s: panel %q asks for nothing, or does not say what it shows", file, panel.Title)
			}
		}
	}
}

// TestNamesAreFound shows the test below finding names, and one that is misspelt.
func TestNamesAreFound(t *testing.T) {
	got := namesOf(t, `histogram_quantile(0.99, sum by (le) (rate(wellhead_a_seconds_bucket{job="$job"}[5m]))) > up / on (x) {__name__="wellhead_b"}`)
	if want := []string{"up", "wellhead_a_seconds_bucket", "wellhead_b"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	named := named(t)
	for _, name := range []string{"wellhead_oldest_unstored_seconds", "wellhead_cassandra_pending_tasks", "wellhead_handoff_duration_seconds_bucket"} {
		if named[name] == "" {
			t.Errorf("no dashboard and no rule names %s, or the test does not see it", name)
		}
	}
}

// TestAlertsHaveRunbooks holds that docs/operations.md tells for each alert what to do.
func TestAlertsHaveRunbooks(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range readRules(t) {
		if rule.Alert == "" {
			continue
		}
		if want := "docs/operations.md#" + strings.ToLower(rule.Alert); rule.Annotations["runbook"] != want {
			t.Errorf("the runbook of %s is %q, want %q", rule.Alert, rule.Annotations["runbook"], want)
		}
		if !strings.Contains(string(text), "\n#### "+rule.Alert+"\n") {
			t.Errorf("docs/operations.md has no heading %q", "#### "+rule.Alert)
		}
	}
}

type dashboard struct {
	UID           string
	Title         string
	SchemaVersion int
	Panels        []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ X, Y, W, H int }
		Targets                  []struct{ Expr string }
	}
	Templating struct {
		List []struct{ Name, Query string }
	}
}

func readDashboard(t *testing.T, file string) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return d
}

type rule struct {
	Alert, Record, Expr string
	Annotations         map[string]string
}

func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "prometheus", "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules
}

// namesOf returns the metrics of a PromQL expression, sorted.
func namesOf(t *testing.T, expression string) []string {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	names := map[string]bool{}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			for _, m := range selector.LabelMatchers {
				if m.Name == labels.MetricName {
					names[m.Value] = true
				}
			}
		}
		return nil
	})
	return slices.Sorted(maps.Keys(names))
}

var inLabelValues = regexp.MustCompile(`label_values\(([a-z_]+)`)

// named returns every metric that a dashboard, a rule, or the adapter's configuration names, and where.
func named(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := filepath.Glob(filepath.Join("..", "grafana", "dashboards", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		d := readDashboard(t, file)
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				for _, name := range namesOf(t, target.Expr) {
					out[name] = filepath.Base(file) + ", " + panel.Title
				}
			}
		}
		for _, variable := range d.Templating.List {
			if found := inLabelValues.FindStringSubmatch(variable.Query); found != nil {
				out[found[1]] = filepath.Base(file) + ", variable " + variable.Name
			}
		}
	}
	for _, rule := range readRules(t) {
		for _, name := range namesOf(t, rule.Expr) {
			out[name] = "rules.yml, " + rule.Alert + rule.Record
		}
	}
	for _, file := range []string{"prometheus/adapter.yml", "kubernetes/horizontalpodautoscaler.yaml"} {
		text, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bwellhead_[a-z_]+`).FindAllString(string(text), -1) {
			out[name] = file
		}
	}
	return out
}

// wantNamed wants each named metric to be in what the members tell, all together.
func wantNamed(t *testing.T, urls ...string) {
	t.Helper()
	testenv.Eventually(t, 30*time.Second, func() error { // the disk is looked at some seconds after the start
		told := map[string]bool{"up": true} // Prometheus' own
		for _, url := range urls {
			series, err := scrape(url)
			if err != nil {
				return err
			}
			for s := range series {
				name, _, _ := strings.Cut(s, "{")
				told[name] = true
			}
		}
		var missing []error
		for name, where := range named(t) {
			if !told[name] {
				missing = append(missing, fmt.Errorf("%s is named in %s and is not in /metrics", name, where))
			}
		}
		t.Logf("%d metrics are named, %d are told", len(named(t)), len(told))
		return errors.Join(missing...)
	})
}

// scrape returns each series as it is written, with its value.
func scrape(url string) (map[string]float64, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	series := map[string]float64{}
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return series, nil
		}
		if err != nil {
			return nil, err
		}
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			if series[line[:at]], err = strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err != nil {
				return nil, err
			}
		}
	}
}

// wantSeries wants these series, and of the metrics named first no others.
func wantSeries(url, one, other string, want map[string]float64) error {
	series, err := scrape(url)
	if err != nil {
		return err
	}
	got := map[string]float64{}
	for s, v := range series {
		if name, _, _ := strings.Cut(s, "{"); name == one || name == other {
			got[s] = v
		}
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("%s tells %v, want %v", url, got, want)
	}
	return nil
}
