// Package web is the browser's side: two plain pages without a build step. It fetches nothing from
// elsewhere and speaks only the HTTP API that everybody may use.
package web

import (
	"embed"
	"io/fs"
)

//go:embed index.html app.js chart.js cluster.js audit.html audit.js style.css icon.svg
var files embed.FS

// Files returns the pages, index.html at their top; audit.html is shown as /audit.
func Files() fs.FS { return files }
