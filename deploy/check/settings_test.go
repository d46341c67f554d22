package check

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// TestVariablesAreSettings holds every WELLHEAD_… in deploy/ against the list of settings in docs/operations.md.
func TestVariablesAreSettings(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"WELLHEAD_MEMBER_PASSWORD": true} // of the NATS servers' configuration
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z.-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		known["WELLHEAD_"+strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(row[1]))] = true
	}
	found := 0
	err = filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && entry.Name() == "check" {
			return errorsOr(err, fs.SkipDir)
		}
		if entry.IsDir() {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, variable := range regexp.MustCompile(`\bWELLHEAD_[A-Z0-9_]*[A-Z0-9]`).FindAllString(string(text), -1) {
			found++
			if !known[variable] && !strings.HasPrefix(variable, "WELLHEAD_SITE_") {
				t.Errorf("%s sets %s, which is no setting", name, variable)
			}
		}
		return nil
	})
	if err != nil || found < 10 {
		t.Errorf("looked at %d variables: %v", found, err)
	}
}

func errorsOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// handOver is how long a member takes to end at most: 20 s to hand over, 10 s to close its doors.
const handOver = 30 * time.Second

// TestStatefulSet holds what makes a member end well: enough time, a liveness that does not ask for the archive, and no
// number of replicas beside the autoscaler's.
func TestStatefulSet(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "kubernetes", "statefulset.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Spec struct {
			Replicas *int
			Template struct {
				Spec struct {
					TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
					Containers                    []struct {
						LivenessProbe struct {
							HTTPGet struct{ Path string } `yaml:"httpGet"`
						} `yaml:"livenessProbe"`
						ReadinessProbe struct {
							HTTPGet struct{ Path string } `yaml:"httpGet"`
						} `yaml:"readinessProbe"`
						Lifecycle struct {
							PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
						}
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	grace := time.Duration(pod.TerminationGracePeriodSeconds-c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if c.Lifecycle.PreStop.Sleep.Seconds == 0 || grace < 2*handOver {
		t.Errorf("after preStop a member has %v to end, want at least %v", grace, 2*handOver)
	}
	if c.LivenessProbe.HTTPGet.Path != "/livez" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Errorf("probes ask for %q and %q", c.LivenessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Path)
	}
	if set.Spec.Replicas != nil {
		t.Error("the StatefulSet sets replicas, which the autoscaler does")
	}
}
