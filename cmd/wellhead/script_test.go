package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"wellhead": main, "wellhead-held": serveHeld, "wellhead-shifted": serveShifted, "wellhead-unfenced": serveUnfenced,
	})
}

// TestScripts runs the scripts in testdata/script: what a user types and what comes of it. The command
// `code N wellhead …` demands an exit code.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"code": wantCode, "member": startMember},
	})
}
