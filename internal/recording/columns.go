package recording

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/wellhead/wellhead/messages"
)

// columns says where in a row of one file things are; -1 = nowhere.
type columns struct {
	width    int // fields in a row
	time     int
	device   int
	note     int
	skipped  []int
	channels []int // by channel
}

// find returns the index of a column given by name or by number, in a file of so many columns.
func find(column string, header []string, width int) (int, error) {
	if i := slices.Index(header, column); i >= 0 {
		return i, nil
	}
	if number, ok := strings.CutPrefix(column, "#"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > width {
			return 0, fmt.Errorf("there is no column %s, only #1 to #%d", column, width)
		}
		return n - 1, nil
	}
	hint := ""
	if width == 1 {
		hint = ": is another --separator needed?"
	}
	return 0, fmt.Errorf("there is no column %q; the header line has %s%s", column, quoted(header), hint)
}

func quoted(names []string) string {
	if len(names) == 0 {
		return "no names (there is none: give columns as #1, #2, …)"
	}
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = strconv.Quote(name)
	}
	return strings.Join(list, ", ")
}

// locate finds all columns of a file but its channels, unless these are given. A column to skip and a
// channel may be missing; the others may not.
func (o *Options) locate(header []string, width int) (columns, error) {
	c := columns{width: width, device: -1, note: -1}
	for _, wanted := range []struct {
		at     *int
		column string
		what   string
	}{{&c.time, o.TimeColumn, "time"}, {&c.device, o.DeviceColumn, "device"}, {&c.note, o.NoteColumn, "note"}} {
		if wanted.column == "" {
			continue
		}
		var err error
		if *wanted.at, err = find(wanted.column, header, width); err != nil {
			return c, fmt.Errorf("%s column: %w", wanted.what, err)
		}
	}
	for _, name := range o.SkipColumns {
		if i, err := find(name, header, width); err == nil {
			c.skipped = append(c.skipped, i)
		}
	}
	for _, name := range o.Channels {
		i, err := find(name, header, width)
		if err != nil {
			i = -1
		}
		c.channels = append(c.channels, i)
	}
	return c, nil
}

// absent returns the channels that a file does not have.
func (o *Options) absent(c *columns) []string {
	var list []string
	for i, at := range c.channels {
		if at < 0 {
			list = append(list, o.Channels[i])
		}
	}
	return list
}

// legend holds the names of a device's channels over all its files, so that a column keeps its channel
// when a later file has more columns, fewer, or others before it.
type legend []string

// number finds the channels of a file's columns, and takes in new ones, which it returns.
func (l *legend) number(c *columns, header []string) (added []string, err error) {
	c.channels = c.channels[:0]
	for at := range c.width {
		if at == c.time || at == c.device || at == c.note || slices.Contains(c.skipped, at) {
			continue
		}
		name := columnName(header, at)
		channel := slices.Index(*l, name)
		if channel < 0 {
			channel = len(*l)
			*l = append(*l, name)
			added = append(added, name)
		}
		for len(c.channels) <= channel {
			c.channels = append(c.channels, -1)
		}
		c.channels[channel] = at
	}
	if len(*l) > messages.MaxChannels {
		return nil, fmt.Errorf("%d columns would be channels, at most %d are possible: choose some with channels", len(*l), messages.MaxChannels)
	}
	return added, nil
}

// columnName is a column's name in the header line, or its number where that has none, or several of it.
func columnName(header []string, at int) string {
	if at < len(header) && header[at] != "" && slices.Index(header, header[at]) == at && !slices.Contains(header[at+1:], header[at]) {
		return header[at]
	}
	return "#" + strconv.Itoa(at+1)
}

// inspect reads the first line of each file: whatever is wrong with it is better told before the first
// row is sent. A column that no file has is a mistake, where another file has it not.
func (o *Options) inspect(files []string) error {
	missing := map[string]error{}
	for _, name := range slices.Concat(o.SkipColumns, o.Channels) {
		missing[name] = nil
	}
	unsure := false
	for _, name := range files {
		found, err := o.peek(name)
		if err != nil {
			if o.SkipBad && isDamage(err) {
				continue // told when its turn comes
			}
			return err
		}
		if found == nil {
			unsure = true // it cannot be read twice
			continue
		}
		for column := range missing {
			_, err := find(column, found.header, found.columns.width)
			if err == nil {
				delete(missing, column)
			} else {
				missing[column] = fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for _, name := range slices.Concat(o.SkipColumns, o.Channels) {
		if err := missing[name]; err != nil && !unsure {
			return fmt.Errorf("no file has the column %q: the last, %w", name, err)
		}
	}
	return nil
}
