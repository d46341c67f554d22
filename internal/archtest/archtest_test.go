// Package archtest holds the structure of the repository as a test: which folder may import which,
// where a foreign module may be used, and some habits that a linter does not know. The rules, each with
// its reason, are in rules_test.go.
//
// Sources are read as text, all build tags at once, so it takes well under a second.
package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the repository, seen from here.
const root = "../.."

// longFile is the number of lines above which a file is named: a place to look for two rooms in one.
const longFile = 600

func TestImports(t *testing.T) {
	for _, problem := range checkImports(t, os.DirFS(root)) {
		t.Error(problem)
	}
}

func TestNoSleepInTests(t *testing.T) {
	for _, problem := range checkSleeps(t, os.DirFS(root)) {
		t.Error(problem)
	}
}

func TestNoStrangers(t *testing.T) {
	for _, problem := range checkStrangers(t, os.DirFS(root)) {
		t.Error(problem)
	}
}

// TestLongFiles only tells.
func TestLongFiles(t *testing.T) {
	walk(t, os.DirFS(root), func(name string, data []byte) {
		lines := bytes.Count(data, []byte("\n"))
		if path.Ext(name) == ".go" && !generated(data) && lines > longFile {
			t.Logf("%s has %d lines, more than %d", name, lines, longFile)
		}
	})
}

// TestEveryFolderHasARule keeps a new folder from being free of all rules.
func TestEveryFolderHasARule(t *testing.T) {
	walk(t, os.DirFS(root), func(name string, _ []byte) {
		if path.Ext(name) == ".go" && ruleFor(path.Dir(name)) == nil {
			t.Errorf("%s: no rule for its folder; add one to rules_test.go", name)
		}
	})
	seen := map[string]bool{}
	for _, f := range folders {
		if seen[f.path] || f.because == "" {
			t.Errorf("folder %s stands twice, or has no reason", f.path)
		}
		seen[f.path] = true
	}
}

// TestSleepsAreThere keeps the list of exceptions from outliving what it excepts.
func TestSleepsAreThere(t *testing.T) {
	for name := range sleeps {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !bytes.Contains(data, []byte("time.Sleep(")) {
			t.Errorf("%s does not sleep any more: take it off the list", name)
		}
	}
}

// checkImports returns each import that the rules forbid, with the reason.
func checkImports(t *testing.T, repository fs.FS) []string {
	var problems []string
	walk(t, repository, func(name string, data []byte) {
		dir := path.Dir(name)
		test := strings.HasSuffix(name, "_test.go")
		if path.Ext(name) != ".go" || test && dir != "tests" {
			return
		}
		for _, imported := range imports(t, name, data) {
			if why := forbidden(dir, imported); why != "" {
				problems = append(problems, fmt.Sprintf("%s imports %s: %s", name, imported, why))
			}
		}
	})
	return problems
}

// forbidden returns why a file in dir must not import the package, "" when it may.
func forbidden(dir, imported string) string {
	ours, isOurs := strings.CutPrefix(imported, module+"/")
	if !isOurs {
		for _, m := range modules {
			if !under(imported, m.path) {
				continue
			}
			if !slices.ContainsFunc(m.in, func(in string) bool { return under(dir, in) }) {
				return m.why + " (" + strings.Join(m.in, ", ") + ")"
			}
		}
		return ""
	}
	rule := ruleFor(dir)
	if rule == nil || under(ours, rule.path) && ruleFor(ours) == rule {
		return ""
	}
	for _, may := range rule.may {
		below, all := strings.CutSuffix(may, "/...")
		if all && under(ours, below) {
			return ""
		}
		// A folder below an allowed one is part of it unless it has a rule of its own.
		if r := ruleFor(ours); !all && r != nil && r.path == may {
			return ""
		}
	}
	for p, why := range rule.forbidden {
		if under(ours, p) {
			return why
		}
	}
	return rule.because
}

// ruleFor returns the rule of the nearest folder above dir, or of dir itself.
func ruleFor(dir string) *folder {
	var best *folder
	for i := range folders {
		if f := &folders[i]; under(dir, f.path) && (best == nil || len(f.path) > len(best.path)) {
			best = f
		}
	}
	return best
}

// checkSleeps returns each call of time.Sleep in a test that is not on the list.
func checkSleeps(t *testing.T, repository fs.FS) []string {
	var problems []string
	walk(t, repository, func(name string, data []byte) {
		if !strings.HasSuffix(name, "_test.go") || sleeps[name] != "" {
			return
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, name, data, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("parse %s: %v", name, err)
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" {
				if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "time" && !excused(file, call, data, files) {
					problems = append(problems, fmt.Sprintf("%v: a test that sleeps; use testing/synctest, or poll with a deadline", files.Position(call.Pos())))
				}
			}
			return true
		})
	})
	return problems
}

// excused tells whether the sleep stands inside a call of synctest.Test, where it takes no time, or in a
// loop that polls until a deadline or the end of a context.
func excused(file *ast.File, sleep ast.Node, data []byte, files *token.FileSet) bool {
	text := func(from, to token.Pos) string {
		return string(data[files.Position(from).Offset:files.Position(to).Offset])
	}
	found := false
	ast.Inspect(file, func(n ast.Node) bool {
		if n == nil || n.Pos() > sleep.Pos() || n.End() < sleep.End() {
			return false
		}
		switch outer := n.(type) {
		case *ast.CallExpr:
			found = found || text(outer.Fun.Pos(), outer.Fun.End()) == "synctest.Test"
		case *ast.ForStmt:
			loop := strings.ToLower(text(outer.Pos(), outer.End()))
			found = found || strings.Contains(loop, "deadline") || strings.Contains(loop, "context().") || strings.Contains(loop, "ctx.")
		}
		return !found
	})
	return found
}

// checkStrangers returns each line that names the place where somebody happened to work.
func checkStrangers(t *testing.T, repository fs.FS) []string {
	var problems []string
	walk(t, repository, func(name string, data []byte) {
		base := path.Base(name)
		if strings.HasPrefix(name, "internal/archtest/") || base == "go.sum" || name == "LICENSE" || bytes.IndexByte(data, 0) >= 0 {
			return
		}
		for number, line := range strings.Split(string(data), "\n") {
			for _, s := range strangers {
				if found := s.pattern.FindString(line); found != "" {
					problems = append(problems, fmt.Sprintf("%s:%d names %s: %q", name, number+1, s.what, found))
				}
			}
		}
	})
	return problems
}

// walk calls fn for each file that is, or could be, committed, except those of nested modules.
func walk(t *testing.T, repository fs.FS, fn func(name string, data []byte)) {
	t.Helper()
	files := 0
	err := fs.WalkDir(repository, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch name {
			case ".git", ".cache", "bin", "data", "bench/out", "tools":
				return fs.SkipDir
			}
			if entry.Name() == "node_modules" || entry.Name() == "__pycache__" {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || name == ".git" { // a linked work tree has a file there
			return nil
		}
		data, err := fs.ReadFile(repository, name)
		if err != nil {
			return err
		}
		files++
		fn(name, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Fatal("no files seen: the test looks in the wrong place")
	}
}

func imports(t *testing.T, name string, data []byte) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, data, parser.ImportsOnly)
	if err != nil {
		t.Errorf("parse %s: %v", name, err)
		return nil
	}
	var paths []string
	for _, i := range file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Errorf("parse %s: %v", name, err)
		}
		paths = append(paths, p)
	}
	return paths
}

// under tells whether p is dir or below it.
func under(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}

func generated(data []byte) bool {
	head, _, _ := bytes.Cut(data, []byte("\npackage "))
	return bytes.Contains(head, []byte("DO NOT EDIT"))
}
