package config

import (
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// parse takes a YAML text apart into keys with their lines. Everything that is not a known key is a problem.
func parse(file string, text []byte) (layer, []Problem) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, []Problem{syntaxProblem(file, err)}
	}
	p := &parser{file: file, layer: layer{}}
	if len(doc.Content) > 0 { // else the file is empty, which is fine
		p.mapping("", doc.Content[0])
	}
	return p.layer, p.problems
}

// syntaxProblem takes the line out of the parser's "yaml: line 3: …".
func syntaxProblem(file string, err error) Problem {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if number, after, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, message = n, after
			}
		}
	}
	return Problem{File: file, Line: line, Message: "not YAML: " + message}
}

type parser struct {
	file     string
	layer    layer
	problems []Problem
}

func (p *parser) complain(n *yaml.Node, key, format string, args ...any) {
	p.problems = append(p.problems, Problem{p.file, n.Line, key, fmt.Sprintf(format, args...)})
}

// mapping reads a mapping whose keys continue prefix.
func (p *parser) mapping(prefix string, n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // a heading with nothing below it
	}
	if n.Kind != yaml.MappingNode {
		p.complain(n, strings.TrimSuffix(prefix, "."), "settings are written as `key: value` here")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, v := n.Content[i], n.Content[i+1]
		key := prefix + name.Value
		switch {
		case keyOf(key) != nil:
			p.setting(key, name, v)
		case isGroup(key):
			p.mapping(key+".", v)
		default:
			p.complain(name, key, "there is no such setting%s", didYouMean(key))
		}
	}
}

// setting reads one key's value: a scalar, a list of them, or a mapping of name to number.
func (p *parser) setting(key string, name, v *yaml.Node) {
	if _, twice := p.layer[key]; twice {
		p.complain(name, key, "it is given twice")
		return
	}
	if v.Kind == yaml.AliasNode {
		v = v.Alias
	}
	var text string
	switch v.Kind {
	case yaml.ScalarNode:
		if v.Tag != "!!null" {
			text = v.Value
		}
	case yaml.SequenceNode, yaml.MappingNode:
		kind := keyOf(key).kind
		wanted := map[string]yaml.Kind{"list": yaml.SequenceNode, "numbers": yaml.MappingNode, "durations": yaml.MappingNode}[kind]
		if v.Kind != wanted {
			p.complain(v, key, "one value is wanted here")
			return
		}
		var parts []string
		for i, item := range v.Content {
			if item.Kind != yaml.ScalarNode || strings.ContainsRune(item.Value, ',') {
				p.complain(item, key, "plain values without commas are wanted here")
				return
			}
			if v.Kind == yaml.MappingNode && i%2 == 1 {
				parts[len(parts)-1] += "=" + item.Value
				continue
			}
			parts = append(parts, item.Value)
		}
		text = strings.Join(parts, ",")
	}
	p.layer[key] = value{text: text, from: Problem{File: p.file, Line: name.Line, Key: key}}
}

// isGroup tells whether keys begin with key and a dot.
func isGroup(key string) bool {
	for i := range Keys {
		if strings.HasPrefix(Keys[i].Name, key+".") {
			return true
		}
	}
	return false
}

// didYouMean proposes the nearest key, if one is near.
func didYouMean(key string) string {
	best, distance := "", 4
	for i := range Keys {
		if d := edits(key, Keys[i].Name); d < distance {
			best, distance = Keys[i].Name, d
		}
		// The right name in the wrong group.
		if rest, ok := strings.CutSuffix(Keys[i].Name, "."+key); ok && best == "" {
			best = rest + "." + key
		}
	}
	if best == "" {
		return "; docs/operations.md lists them all"
	}
	return "; did you mean " + best + "?"
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
