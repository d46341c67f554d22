// Package web is the browser's side: one plain page without a build step. It fetches nothing from
// elsewhere and speaks only the HTTP API that everybody may use.
package web

import (
	"embed"
	"io/fs"
)

//go:embed index.html app.js chart.js style.css icon.svg
var files embed.FS

// Files returns the page, index.html at its top.
func Files() fs.FS { return files }
