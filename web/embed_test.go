package web

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// The page must be whole in the binary, and fetch nothing from elsewhere.
func TestThePageIsWhole(t *testing.T) {
	links := regexp.MustCompile(`(?:src|href)="([^"]+)"|from '\./([^']+)'`)
	for _, name := range []string{"index.html", "app.js", "audit.html"} {
		text, err := fs.ReadFile(Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		found := links.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s links to nothing: the test looks for the wrong thing", name)
		}
		for _, m := range found {
			if m[1] == "audit" {
				m[1] = "audit.html"
			}
			if _, err := fs.Stat(Files(), m[1]+m[2]); err != nil {
				t.Errorf("%s links to %s, which is not embedded", name, m[1]+m[2])
			}
		}
	}
	err := fs.WalkDir(Files(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(Files(), path)
		for _, word := range []string{"https://", "style=\"", "onclick=\"", "<script>"} {
			if strings.Contains(string(text), word) {
				t.Errorf("%s has %s, which the content security policy forbids", path, word)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
