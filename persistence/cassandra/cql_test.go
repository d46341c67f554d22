package cassandra

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// allowed are the shapes of statements that both Cassandra 4.0 and later and ScyllaDB take. What is
// not here (secondary indexes, materialized views, SASI and SAI, user types, functions, counters, ALLOW
// FILTERING, logged batches, PER PARTITION LIMIT, IN, GROUP BY, JSON, masks, vectors) is not to be used.
var allowed = []*regexp.Regexp{
	shape(`CREATE KEYSPACE IF NOT EXISTS %s WITH replication = %s`),
	shape(`CREATE TABLE IF NOT EXISTS {name} \( ({name} {type}, )+PRIMARY KEY \(({name}|\({names}\))(, {name})*\) ?\)( {order}( AND {windows})?)?`),
	shape(`INSERT INTO {name} \({names}\) VALUES \({values}\)( IF NOT EXISTS| USING TIMESTAMP \?| USING TTL \?| USING TIMESTAMP \? AND TTL \?)?`),
	shape(`SELECT {column}(, {column})* FROM (%s\.)?{name}(\.{name})? WHERE {name} (=|>=|<=) {value}( AND {name} (=|>=|<=) {value})*( ORDER BY {directions})?( LIMIT 1)?`),
	shape(`SELECT {column}(, {column})* FROM system_views\.{name}`), // read without a WHERE: they are small, and one server's
	shape(`UPDATE layout SET version = \? WHERE name = 'archive' IF version = \?`),
	shape(`BEGIN UNLOGGED BATCH ?`),
	shape(`APPLY BATCH`),
	shape(`DELETE FROM {name} USING TIMESTAMP \? WHERE {name} = \?( AND {name} = \?)*`),
}

func shape(s string) *regexp.Regexp {
	for _, part := range [][2]string{ // the later ones occur in the earlier ones
		{`{order}`, `WITH CLUSTERING ORDER BY \({directions}\)`},
		{`{windows}`, `compaction = \{'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'HOURS', 'compaction_window_size': '%d'\}`},
		{`{directions}`, `{name} (ASC|DESC)(, {name} (ASC|DESC))*`},
		{`{names}`, `{name}(, {name})*`},
		{`{values}`, `{value}(, {value})*`},
		{`{value}`, `(\?|'[a-z_]+')`},
		{`{column}`, `({name}|WRITETIME\({name}\))`},
		{`{type}`, `(text|int|smallint|tinyint|bigint|blob|timestamp|frozen<list<(double|bigint)>>)`},
		{`{name}`, `[a-z][a-z0-9_]*`},
	} {
		s = strings.ReplaceAll(s, part[0], part[1])
	}
	return regexp.MustCompile(`^` + s + `$`)
}

// constants returns the string constants of a file.
func constants(t *testing.T, file string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
				text, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				found[spec.Names[0].Name] = strings.Join(strings.Fields(text), " ")
			}
		}
		return true
	})
	return found
}

func TestStatementsAreOfAllowedShapes(t *testing.T) {
	statements := constants(t, "cql.go")
	if len(statements) < 20 {
		t.Fatalf("found only %d statements", len(statements))
	}
	for name, text := range statements {
		ok := false
		for _, shape := range allowed {
			ok = ok || shape.MatchString(text)
		}
		if !ok {
			t.Errorf("%s is of no allowed shape: %s", name, text)
		}
	}
}

func TestOtherShapesAreNot(t *testing.T) {
	for _, text := range []string{
		"CREATE INDEX ON readings (note)",
		"SELECT time FROM readings WHERE note = ? ALLOW FILTERING",
		"SELECT JSON time FROM readings WHERE shard = ?",
		"SELECT time FROM readings WHERE shard IN ?",
		"INSERT INTO readings (shard) VALUES (?) USING TTL 5; DROP TABLE readings",
		"CREATE TABLE IF NOT EXISTS x ( a counter, PRIMARY KEY (a))",
		"CREATE TABLE IF NOT EXISTS x ( a list<double>, PRIMARY KEY (a))",
		"UPDATE readings SET note = ? WHERE shard = ?",
	} {
		for _, shape := range allowed {
			if shape.MatchString(text) {
				t.Errorf("%q passes as %v", text, shape)
			}
		}
	}
}

// All statements stand in cql.go.
func TestNoStatementElsewhere(t *testing.T) {
	verb := regexp.MustCompile(`^"?\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|TRUNCATE|BEGIN)\s`)
	for _, file := range []string{"accounts.go", "append.go", "archive.go", "bind.go", "chunks.go", "chunks_scan.go", "doubles.go", "health.go", "migrate.go", "options.go", "records.go", "scan.go", "schema.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING && verb.MatchString(strings.Trim(literal.Value, "`\"")) {
				t.Errorf("%s has a statement: %s", file, literal.Value)
			}
			return true
		})
	}
}
