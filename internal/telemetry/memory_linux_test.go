package telemetry

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMachineMemory(t *testing.T) {
	defer func(before []string) { cgroupLimits = before }(cgroupLimits)
	limit := filepath.Join(t.TempDir(), "memory.max")
	cgroupLimits = []string{limit}
	machine := machineMemory()
	if machine < 64<<20 {
		t.Errorf("the machine has %d bytes", machine)
	}
	for text, want := range map[string]uint64{"max\n": machine, "1048576\n": 1 << 20, "9223372036854771712\n": machine} {
		if err := os.WriteFile(limit, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := machineMemory(); got != want {
			t.Errorf("a container with %q: %d bytes, want %d", text, got, want)
		}
	}
}
