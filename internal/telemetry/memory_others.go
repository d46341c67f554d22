//go:build !linux

package telemetry

// machineMemory returns 0: it is not known here.
func machineMemory() uint64 { return 0 }
