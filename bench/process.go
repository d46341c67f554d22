package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// used is what a process has used so far.
type used struct {
	cpu  float64 // seconds
	peak float64 // MiB, VmHWM
	now  float64 // MiB, VmRSS
}

// usageOf reads what the process has used.
func usageOf(pid int) (u used, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return u, err
	}
	// after the name, which may hold anything: state is field 3, user and system time 14 and 15
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, ticks := range fields[11:13] {
		n, err := strconv.ParseFloat(ticks, 64)
		if err != nil {
			return u, fmt.Errorf("read %s/stat: %w", proc, err)
		}
		u.cpu += n / 100 // ticks a second on Linux
	}
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		switch {
		case strings.HasPrefix(line, "VmHWM:"):
			_, err = fmt.Sscanf(line, "VmHWM: %f kB", &kib)
			u.peak = kib / 1024
		case strings.HasPrefix(line, "VmRSS:"):
			_, err = fmt.Sscanf(line, "VmRSS: %f kB", &kib)
			u.now = kib / 1024
		}
		if err != nil {
			return u, fmt.Errorf("read %s/status: %w", proc, err)
		}
	}
	return u, nil
}
