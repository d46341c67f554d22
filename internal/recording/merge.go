package recording

import (
	"container/heap"
	"io"
)

// Merged hands on the rows of several sources as they would have come in: by event time, but never
// changing the order within a source. What is late or repeated in a recording stays so.
type Merged struct {
	queue []*head
	last  *head // whose row is out; nil = none
	all   []*Source
	begun int // how many of all are begun
}

// head is a source with its next row.
type head struct {
	source *Source
	row    *Row
	pace   int64 // newest event time of the source so far: a row that goes back is due at once
	order  int
}

// Merge begins to read the sources: it opens the first file of each. With most > 0 only so many are open
// at once: the others follow as these end, and event times go back then. Close it afterwards, also after
// an error.
func Merge(sources []*Source, most int) (*Merged, error) {
	m := &Merged{all: sources}
	for len(m.queue) < most || most <= 0 {
		if ok, err := m.begin(); !ok || err != nil {
			return m, err
		}
	}
	return m, nil
}

// begin begins to read the next source that has rows; false when there is none.
func (m *Merged) begin() (bool, error) {
	for m.begun < len(m.all) {
		s := m.all[m.begun]
		m.begun++
		row, err := s.Next()
		if err == io.EOF {
			continue
		}
		if err != nil {
			return false, err
		}
		heap.Push((*queue)(m), &head{source: s, row: row, pace: row.Reading.Time, order: m.begun})
		return true, nil
	}
	return false, nil
}

// Next returns the next row, valid until the one after it, and when it is due, in event time: that never
// goes back, unless Merge begins sources later. io.EOF after the last.
func (m *Merged) Next() (row *Row, due int64, err error) {
	if m.last != nil {
		h := m.last
		m.last = nil
		next, err := h.source.Next()
		switch {
		case err == io.EOF:
			heap.Remove((*queue)(m), 0)
			if _, err := m.begin(); err != nil {
				return nil, 0, err
			}
		case err != nil:
			return nil, 0, err
		default:
			h.row = next
			h.pace = max(h.pace, next.Reading.Time)
			heap.Fix((*queue)(m), 0)
		}
	}
	if len(m.queue) == 0 {
		return nil, 0, io.EOF
	}
	m.last = m.queue[0]
	return m.last.row, m.last.pace, nil
}

// Stats adds up what the sources have read.
func (m *Merged) Stats() Stats {
	var total Stats
	for _, s := range m.all {
		total.Add(s.Stats)
	}
	return total
}

// Close closes all sources.
func (m *Merged) Close() error {
	var first error
	for _, s := range m.all {
		if err := s.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// queue is the heap of a Merged: the head with the oldest pace is first.
type queue Merged

func (q *queue) Len() int { return len(q.queue) }
func (q *queue) Less(i, j int) bool {
	a, b := q.queue[i], q.queue[j]
	return a.pace < b.pace || a.pace == b.pace && a.order < b.order
}
func (q *queue) Swap(i, j int) { q.queue[i], q.queue[j] = q.queue[j], q.queue[i] }
func (q *queue) Push(x any)    { q.queue = append(q.queue, x.(*head)) }
func (q *queue) Pop() any {
	last := q.queue[len(q.queue)-1]
	q.queue = q.queue[:len(q.queue)-1]
	return last
}
