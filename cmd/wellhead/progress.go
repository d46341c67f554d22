package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// progress shows how long work goes on: on a terminal one line that changes, elsewhere a line now and then.
type progress struct {
	w        io.Writer
	terminal bool
	verb     string // "sent", "checked"
	total    int64  // 0 = not known
	done     atomic.Int64
	begun    time.Time
	quit     chan struct{}
	ended    sync.WaitGroup
}

// Times between two lines.
const (
	progressOnTerminal = 500 * time.Millisecond
	progressElsewhere  = 10 * time.Second
)

func newProgress(w io.Writer, verb string, total int64) *progress {
	p := &progress{w: w, verb: verb, total: total, begun: time.Now(), quit: make(chan struct{})}
	if file, ok := w.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	p.ended.Go(p.show)
	return p
}

func (p *progress) add(n int)   { p.done.Add(int64(n)) }
func (p *progress) set(n int64) { p.done.Store(n) }

func (p *progress) show() {
	every := progressElsewhere
	if p.terminal {
		every = progressOnTerminal
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var before int64
	for {
		select {
		case <-p.quit:
			return
		case <-ticker.C:
		}
		now := p.done.Load()
		line := fmt.Sprintf("%s %s readings", p.verb, grouped(now))
		if p.total > 0 {
			line = fmt.Sprintf("%s %s of %s readings (%d %%)", p.verb, grouped(now), grouped(p.total), now*100/p.total)
		}
		line += fmt.Sprintf(", %s/s", grouped(int64(float64(now-before)/every.Seconds())))
		before = now
		if p.terminal {
			fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		} else {
			fmt.Fprintln(p.w, line)
		}
	}
}

// end stops showing and leaves the line empty.
func (p *progress) end() {
	close(p.quit)
	p.ended.Wait()
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// grouped writes a number with spaces between groups of three digits.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
