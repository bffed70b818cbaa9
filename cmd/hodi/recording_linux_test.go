package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A recording is what processes asked of the kernel, as strace saw it: every byte for a disk, when the disk said that it
// has it, and every byte for a socket.
type recording []step

// A step is one system call. It may have taken effect at any time from begun to ended.
type step struct {
	call         string
	begun, ended time.Duration
	path         string // of the file or folder, or a socket's "socket:[N]"
	to           string // what a file was renamed to
	data         []byte // written, or read
	offset       int64  // where; of ftruncate, the new size
	trace, order int    // its place in the trace
}

// traced is the system calls that a recording is made of.
const traced = "read,write,pwrite64,pwritev,pwritev2,writev,ftruncate,fallocate,open,openat,creat,fsync,fdatasync,sync_file_range,unlink,unlinkat,rename,renameat,renameat2"

// straced is the words that record a command into a file.
func straced(file string, command ...string) []string {
	return append([]string{"strace", "-f", "-y", "-T", "-ttt", "-s", "16777216", "-e", "signal=none", "-e", "trace=" + traced, "-o", file, "--"}, command...)
}

// recorded reads recordings, of processes that may have run at the same time, as one.
func recorded(t *testing.T, files ...string) recording {
	t.Helper()
	var all recording
	for i, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReaderSize(f, 1<<20)
		begun := make(map[string]string) // by thread: a line that another thread's interrupted
		for order := 0; ; order++ {
			line, err := lines.ReadString('\n')
			if err != nil {
				break
			}
			thread, rest, _ := strings.Cut(line, " ")
			rest = strings.TrimSpace(rest)
			stamp, text, _ := strings.Cut(rest, " ")
			if head, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
				begun[thread] = stamp + " " + head
				continue
			}
			ended := time.Duration(0)
			if strings.HasPrefix(text, "<... ") {
				head, ok := begun[thread]
				_, tail, found := strings.Cut(text, " resumed>")
				if !ok || !found {
					t.Fatalf("%s: a call goes on that never began: %.100s", file, line)
				}
				delete(begun, thread)
				ended = seconds(t, stamp)
				stamp, head, _ = strings.Cut(head, " ")
				text = head + tail
			}
			s, ok := parseStep(t, text)
			if !ok {
				continue
			}
			s.begun, s.trace, s.order = seconds(t, stamp), i, order
			if at := strings.LastIndexByte(text, '<'); ended == 0 && at > 0 {
				ended = s.begun + seconds(t, strings.TrimSuffix(text[at+1:], ">"))
			}
			s.ended = ended
			all = append(all, s)
		}
		f.Close()
	}
	slices.SortStableFunc(all, func(a, b step) int {
		if a.trace == b.trace {
			return cmp.Compare(a.order, b.order)
		}
		return cmp.Compare(a.begun, b.begun)
	})
	return all
}

func seconds(t *testing.T, text string) time.Duration {
	t.Helper()
	whole, micro, _ := strings.Cut(text, ".")
	s, err1 := strconv.ParseInt(whole, 10, 64)
	us, err2 := strconv.ParseInt(micro, 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatalf("strace says %q for a time", text)
	}
	return time.Duration(s)*time.Second + time.Duration(us)*time.Microsecond
}

// parseStep reads a line without its thread and time. What failed did nothing, nor does what a thread's end cut off count, and what is not of
// a file is passed over.
func parseStep(t *testing.T, text string) (s step, ok bool) {
	call, rest, found := strings.Cut(text, "(")
	equals := strings.LastIndex(text, ") = ")
	if !found || equals < 0 || strings.HasPrefix(text[equals+4:], "-1 ") || strings.HasPrefix(text[equals+4:], "?") {
		return s, false
	}
	args := text[len(call)+1 : equals]
	s.call = call
	switch call {
	case "open", "openat", "creat": // the name and the flags are in data; the path is what it turned out to be
		s.data, _ = unquote(args)
		if !strings.Contains(args, "O_CREAT") && !strings.Contains(args, "O_TRUNC") && call != "creat" {
			return s, false
		}
		if strings.Contains(args, "O_TRUNC") || call == "creat" {
			s.offset = -1
		}
		s.path = between(text[equals:], "<", ">")
		return s, true
	case "unlink", "unlinkat":
		name, _ := unquote(args)
		s.path = string(name)
		return s, !strings.Contains(args, "AT_REMOVEDIR")
	case "rename", "renameat", "renameat2":
		name, after := unquote(args)
		to, _ := unquote(after)
		s.path, s.to = string(name), string(to)
		return s, true
	}
	fd, rest, found := strings.Cut(rest, "<")
	if _, err := strconv.Atoi(fd); err != nil || !found {
		return s, false
	}
	s.path, rest, _ = strings.Cut(rest, ">")
	if strings.HasSuffix(s.path, "(deleted)") || strings.HasPrefix(rest, "(deleted)") {
		return s, false
	}
	rest = rest[:strings.LastIndex(rest, ") = ")]
	switch call {
	case "fsync", "fdatasync":
		return s, true
	case "ftruncate":
		s.offset, _ = strconv.ParseInt(strings.TrimPrefix(rest, ", "), 10, 64)
		return s, true
	case "read", "write", "pwrite64":
		s.data, rest = unquote(rest)
		if strings.HasPrefix(rest, "...") {
			t.Fatalf("strace has cut a %s of %s short", call, s.path)
		}
		if call == "pwrite64" {
			s.offset, _ = strconv.ParseInt(rest[strings.LastIndex(rest, ", ")+2:], 10, 64)
		}
		return s, true
	}
	if strings.HasPrefix(s.path, "/") && !strings.HasPrefix(s.path, "/dev/") && !strings.HasPrefix(s.path, "/proc/") {
		t.Fatalf("what %s does to %s is not understood here: teach it to this test", call, s.path)
	}
	return s, false
}

func between(text, from, to string) string {
	_, text, _ = strings.Cut(text, from)
	text, _, _ = strings.Cut(text, to)
	return text
}

// unquote reads the first string in quotes, as C writes it, and returns what stands behind it.
func unquote(text string) (b []byte, rest string) {
	at := strings.IndexByte(text, '"')
	if at < 0 {
		return nil, text
	}
	for text = text[at+1:]; len(text) > 0; {
		c := text[0]
		text = text[1:]
		switch {
		case c == '"':
			return b, text
		case c != '\\':
			b = append(b, c)
		default:
			n := 0
			for n < 3 && n < len(text) && text[n] >= '0' && text[n] <= '7' {
				n++
			}
			if n > 0 {
				v, _ := strconv.ParseUint(text[:n], 8, 8)
				b, text = append(b, byte(v)), text[n:]
				continue
			}
			if i := strings.IndexByte("abtnvfr", text[0]); i >= 0 {
				b = append(b, byte('\a'+i)) // the seven of them stand in ASCII in this order
			} else {
				b = append(b, text[0])
			}
			text = text[1:]
		}
	}
	return b, ""
}

// A disk is one folder as a recording leaves it: what is there while there is power, and what is certain to be there when
// it is cut. A write is certain when a sync of its file has returned that was begun when the write had ended; a name, when
// a sync of the folder has.
type disk struct {
	dir     string
	now     map[string]*content // by name: what processes see
	certain map[string]*content
}

// A content is what has become of its bytes.
type content struct {
	now, certain []byte
	pending      []step // not certain, in order
}

func newDisk(dir string) *disk {
	return &disk{dir: dir, now: make(map[string]*content), certain: make(map[string]*content)}
}

// concerns reports whether a step is about a file of the folder that power cuts are to be survived by. The wal-index
// (-shm) is not: SQLite makes it anew.
func (d *disk) concerns(s step) bool {
	name := filepath.Base(s.path)
	return filepath.Dir(s.path) == d.dir && !strings.HasSuffix(name, "-shm") && name != "lock" && !strings.HasSuffix(name, ".sock")
}

// do takes a step. It reports whether anything may be different after a power cut.
func (d *disk) do(s step) bool {
	if s.path == d.dir && (s.call == "fsync" || s.call == "fdatasync") {
		d.certain = make(map[string]*content, len(d.now))
		for name, f := range d.now {
			d.certain[name] = f
		}
		return true
	}
	if !d.concerns(s) {
		return false
	}
	name := filepath.Base(s.path)
	f := d.now[name]
	switch s.call {
	case "open", "openat", "creat", "write", "pwrite64", "ftruncate":
		made := f == nil
		if made {
			f = new(content)
			d.now[name] = f
		}
		if s.call == "write" { // of files that are written once, from the beginning
			s.offset = int64(len(f.now))
		}
		if s.call[0] == 'o' || s.call[0] == 'c' {
			if s.offset == 0 { // nothing was cut off
				return made
			}
			s.call, s.offset = "ftruncate", 0
		}
		f.now = s.write(f.now, 1)
		f.pending = append(f.pending, s)
	case "fsync", "fdatasync":
		if f == nil {
			return false
		}
		n := 0
		for _, p := range f.pending {
			if p.ended <= s.begun {
				f.certain = p.write(f.certain, 1)
			} else {
				f.pending[n] = p
				n++
			}
		}
		f.pending = f.pending[:n]
	case "unlink", "unlinkat":
		delete(d.now, name)
	case "rename", "renameat", "renameat2":
		d.now[filepath.Base(s.to)] = f
		delete(d.now, name)
	default:
		return false
	}
	return true
}

// write does to bytes what a step does to its file; of part 2, only the first half of it, in sectors of 512 bytes.
func (s *step) write(b []byte, part int) []byte {
	if s.call == "ftruncate" {
		if n := int(s.offset); n <= len(b) {
			return b[:n:n]
		}
		return append(b[:len(b):len(b)], make([]byte, int(s.offset)-len(b))...)
	}
	data := s.data
	if part > 1 {
		half := len(data) / part
		if len(data) > 512 {
			half = half / 512 * 512
		}
		data = data[:half]
	}
	if n := int(s.offset) + len(data); n > len(b) {
		b = append(b, make([]byte, n-len(b))...)
	}
	copy(b[s.offset:], data)
	return b
}

// after is the folder after a power cut. keep says which of the writes that are not certain have reached the disk, and
// which only in part; names, whether the folder is as processes saw it.
func (d *disk) after(names bool, keep func(s step, last bool) (part int)) map[string][]byte {
	from := d.certain
	if names {
		from = d.now
	}
	image := make(map[string][]byte, len(from))
	for name, f := range from {
		b := slices.Clone(f.certain)
		for i, p := range f.pending {
			if part := keep(p, i == len(f.pending)-1); part > 0 {
				b = p.write(b, part)
			}
		}
		image[name] = b
	}
	return image
}

// put writes an image to a folder, empty before.
func put(t *testing.T, dir string, image map[string][]byte) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range image {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(fmt.Errorf("put the image: %w", err))
		}
	}
}
