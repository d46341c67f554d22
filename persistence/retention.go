package persistence

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wellhead/wellhead/messages"
)

// DefaultClass is the retention class of whoever names none.
const DefaultClass = "default"

// Age says how long something is kept, counted from its event time. Zero is for ever.
type Age struct {
	Readings time.Duration
	Rollups  time.Duration // counted from the rollup's end
}

// Classes are the retention classes by name. It is not changed once it is in use; nil keeps all for ever.
type Classes map[string]Age

// Of returns the ages of a class. One that is not configured (any more) counts as the default: nothing
// is kept shorter by a slip of the configuration than what the operator said for everything.
func (c Classes) Of(class string) Age {
	if age, ok := c[class]; ok && class != "" {
		return age
	}
	return c[DefaultClass]
}

// Forever tells whether no class ever lets anything go.
func (c Classes) Forever() bool {
	for _, age := range c {
		if age != (Age{}) {
			return false
		}
	}
	return true
}

// Longest returns the greatest ages of all classes; for ever when one of them is.
func (c Classes) Longest() Age {
	longest := c[DefaultClass]
	later := func(a *time.Duration, b time.Duration) {
		if *a != 0 && (b == 0 || b > *a) {
			*a = b
		}
	}
	for _, age := range c {
		later(&longest.Readings, age.Readings)
		later(&longest.Rollups, age.Rollups)
	}
	return longest
}

// Shortest returns the smallest ages of all classes; for ever only when all of them are.
func (c Classes) Shortest() Age {
	var shortest Age
	for _, age := range c {
		shortest.Readings = shorter(shortest.Readings, age.Readings)
		shortest.Rollups = shorter(shortest.Rollups, age.Rollups)
	}
	return shortest
}

// shorter returns the smaller of two ages, of which 0 is for ever.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Check returns an error that wraps messages.ErrInvalid and lists what there is, unless the class is configured.
// Empty, for the level above's, and DefaultClass always are.
func (c Classes) Check(class string) error {
	if _, ok := c[class]; ok || class == "" || class == DefaultClass {
		return nil
	}
	names := slices.Sorted(maps.Keys(c))
	if !slices.Contains(names, DefaultClass) {
		names = slices.Insert(names, 0, DefaultClass)
	}
	return fmt.Errorf("%w: there is no retention class %q, only %s: add it to the member's configuration (retention) first, or name one of those", messages.ErrInvalid, class, strings.Join(names, ", "))
}
