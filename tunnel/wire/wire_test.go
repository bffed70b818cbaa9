package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// said is one line of a conversation in testdata: who says what, and its bytes.
type said struct {
	mark  string // > sidecar, < edge, ! refused
	name  string // of the frame; of what is wrong
	facts string // JSON
	bytes []byte
}

// conversations are the files that hold them: those of today, and those of every released version, which are never changed. Programs
// in shops say what is in them.
func conversations(t testing.TB) []string {
	t.Helper()
	today, err := filepath.Glob("testdata/*.hex")
	if err != nil {
		t.Fatal(err)
	}
	released, err := filepath.Glob("testdata/released/*/*.hex")
	if err != nil {
		t.Fatal(err)
	}
	if len(today) < 8 || len(released) < 7 {
		t.Fatalf("there are %q, and released %q", today, released)
	}
	refused := func(file string) bool { return filepath.Base(file) == "refused.hex" }
	return slices.DeleteFunc(append(today, released...), refused)
}

func conversation(t testing.TB, file string) []said {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []said
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "" || line[0] == '#':
		case strings.ContainsRune("<>!", rune(line[0])):
			name, facts, _ := strings.Cut(strings.TrimSpace(line[1:]), " ")
			all = append(all, said{mark: line[:1], name: name, facts: facts})
		case strings.HasPrefix(line, "    \""): // the facts go on
			all[len(all)-1].facts += line
		default:
			digits, _, _ := strings.Cut(line, "#")
			b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
			if err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
			all[len(all)-1].bytes = append(all[len(all)-1].bytes, b...)
		}
	}
	return all
}

// frame makes the frame that the facts describe, without a look at the bytes.
func (s said) frame(t testing.TB) Frame {
	t.Helper()
	var f struct {
		Version                  uint16
		Instance, Sum            string
		Secret, Request          string // hex
		Certificate              string // hex
		Epoch                    Epoch
		Seq, Oldest, Head, Nonce uint64
		Count                    uint64
		Idle, Wait, Every        int64 // milliseconds
		Time, Received           time.Time
		Callback, Ref, Remote    string
		Kind                     Kind
		Source                   Source
		Header, Body             string
	}
	d := json.NewDecoder(strings.NewReader(s.facts))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatalf("%s: %v", s.facts, err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	switch s.name {
	case "hello":
		h := &Hello{Version: f.Version, Cursor: Cursor{Epoch: f.Epoch, Seq: f.Seq}, Idle: time.Duration(f.Idle) * time.Millisecond}
		copy(h.Instance[:], unhex(f.Instance))
		copy(h.Cursor.Sum[:], unhex(f.Sum))
		return h
	case "welcome":
		return &Welcome{f.Epoch, f.Oldest, f.Head, f.Time, f.Callback}
	case "entry":
		return &Entry{f.Seq, f.Received, f.Kind, f.Source, f.Ref, f.Remote, []byte(f.Header), []byte(f.Body)}
	case "ack":
		return &Ack{f.Seq}
	case "ping":
		return &Ping{f.Nonce, time.Duration(f.Wait) * time.Millisecond}
	case "pong":
		return &Pong{f.Nonce}
	case "canary":
		return &Canary{time.Duration(f.Every) * time.Millisecond}
	case "doubts":
		return &Doubts{f.Count}
	case "join":
		return &Join{f.Version, unhex(f.Secret), unhex(f.Request)}
	case "renew":
		return &Renew{f.Version, unhex(f.Request)}
	case "issued":
		return &Issued{f.Time, f.Callback, unhex(f.Certificate)}
	}
	t.Fatalf("testdata speaks of %q", s.name)
	return nil
}

func TestConversationsAreWrittenAndReadAsTheyStandInTestdata(t *testing.T) {
	for _, file := range conversations(t) {
		for _, mark := range []string{">", "<"} {
			var stream []byte
			var want []Frame
			for _, s := range conversation(t, file) {
				if s.mark != mark {
					continue
				}
				stream = append(stream, s.bytes...)
				if s.name == "unknown" {
					continue
				}
				f := s.frame(t)
				want = append(want, f)
				if got := Append(nil, f); !bytes.Equal(got, s.bytes) {
					t.Errorf("%s: %s is written as\n%x\nand should be\n%x", file, s.name, got, s.bytes)
				}
			}
			for name, r := range map[string]io.Reader{
				"at once": bytes.NewReader(stream), "byte by byte": iotest.OneByteReader(bytes.NewReader(stream)),
			} {
				var got []Frame
				in := NewReader(r)
				for {
					f, err := in.Read()
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatalf("%s, read %s: %v", file, name, err)
					}
					got = append(got, f)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s, read %s, gives\n%+v\nand should give\n%+v", file, name, got, want)
				}
			}
		}
	}
}

func TestResumeShowsTheEntryThatWasReadFirst(t *testing.T) {
	var entry *Entry
	for _, s := range conversation(t, "testdata/first.hex") {
		if s.name == "entry" {
			entry = s.frame(t).(*Entry)
		}
	}
	hello := conversation(t, "testdata/resume.hex")[0].frame(t).(*Hello)
	if want := (Cursor{hello.Cursor.Epoch, entry.Seq, entry.Sum()}); hello.Cursor != want {
		t.Errorf("the cursor in resume.hex is %v, the entry of first.hex has %v", hello.Cursor, want)
	}
}

// What a journal makes anew of a run has to have the checksums that cursors have.
func TestACanaryIsToldByTheLastOfItsRun(t *testing.T) {
	var run *Entry
	for _, s := range conversation(t, "testdata/canary.hex") {
		if s.name != "entry" {
			continue
		}
		e := s.frame(t).(*Entry)
		if e.Kind != KindCanary {
			if e.Run() != e.Seq {
				t.Errorf("a callback, %d, is of the run that begins with %d", e.Seq, e.Run())
			}
			continue
		}
		if again := CanaryOf(e.Seq, e.Run(), e.Received); again.Sum() != e.Sum() {
			t.Errorf("made anew, canary %d is %+v, and was %+v", e.Seq, again, e)
		}
		if run != nil && run.Run() == e.Run() {
			if before := CanaryOf(run.Seq, e.Run(), e.Received); before.Sum() != run.Sum() {
				t.Errorf("canary %d does not tell %d", e.Seq, run.Seq)
			}
		}
		run = e
	}
}

func TestBrokenFramesAreRefused(t *testing.T) {
	words := map[string]string{"limit": "over the limit", "short": "cut short", "many": "too many", "zeros": "padded"}
	for _, s := range conversation(t, "testdata/refused.hex") {
		f, err := NewReader(bytes.NewReader(s.bytes)).Read()
		if s.name == "eof" {
			if err != io.ErrUnexpectedEOF {
				t.Errorf("%s gives %v, %v; want unexpected EOF", s.facts, f, err)
			}
			continue
		}
		if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), words[s.name]) {
			t.Errorf("%s gives %v, %v; want a protocol error with the words %q", s.facts, f, err, words[s.name])
		}
	}
}

func TestAPromisedLengthCostsNoMemory(t *testing.T) {
	stream := []byte{byte(TypeEntry), MaxFrame >> 16, MaxFrame >> 8 & 0xff, MaxFrame & 0xff, 1, 2, 3}
	const times = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		if _, err := NewReader(bytes.NewReader(stream)).Read(); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / times; each > 3*readAhead {
		t.Errorf("seven bytes that promise %d cost %d bytes of memory", MaxFrame, each)
	}
}

// What edges wrote before they judged is on disks, and its checksums are in cursors.
func TestAnEntryThatWasNotJudgedHasTheBytesItAlwaysHad(t *testing.T) {
	e := Entry{Seq: 7, Received: time.UnixMilli(5).UTC(), Kind: KindNotice, Remote: "r", Body: []byte("b")}
	if b := e.AppendBody(nil); b[16] != byte(KindNotice) {
		t.Errorf("the byte of its kind is %#02x", b[16])
	}
	old := e.Sum()
	for _, e.Source = range []Source{SourceKnown, SourceUnknown, SourceEnforced, nibble} {
		again, err := ParseEntry(e.AppendBody(nil))
		if err != nil || again.Kind != KindNotice || again.Source != e.Source {
			t.Errorf("%v, kind %d came back as %v, kind %d: %v", e.Source, e.Kind, again.Source, again.Kind, err)
		}
		if e.Sum() == old {
			t.Errorf("the checksum does not tell %v from one that was not judged", e.Source)
		}
	}
	if e.Source++; e.Check() == nil {
		t.Error("a source that does not fit into its half of a byte passes Check")
	}
}

func TestTheLongestEntryTravels(t *testing.T) {
	want := &Entry{Seq: 1, Received: time.UnixMilli(1).UTC(), Kind: KindNotice, Header: bytes.Repeat([]byte("h"), 64<<10)}
	want.Body = bytes.Repeat([]byte("b"), MaxFrame-want.size())
	got, err := NewReader(iotest.HalfReader(bytes.NewReader(Append(nil, want)))).Read()
	if err != nil || !reflect.DeepEqual(got, Frame(want)) {
		t.Fatalf("an entry of %d bytes came back otherwise: %v", want.Size(), err)
	}
	want.Body = append(want.Body, 'b')
	if want.Check() == nil {
		t.Error("an entry one byte longer passes Check")
	}
}

func TestAHelloOfAnotherVersionSaysOnlyThat(t *testing.T) {
	b := Append(nil, &Hello{Version: Version})
	b[HeaderSize+1] = 3
	f, err := NewReader(bytes.NewReader(b)).Read()
	if err != nil || !reflect.DeepEqual(f, Frame(&Hello{Version: 3})) {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestAPingIsLongEnoughForAStatelessReset(t *testing.T) {
	if n := len(Append(nil, &Ping{})); n != 32 {
		t.Errorf("a ping has %d bytes", n)
	}
}

// FuzzReader reads whatever comes: it must not panic, and what it takes must be written again as the same bytes.
func FuzzReader(f *testing.F) {
	for _, file := range append(conversations(f), "testdata/refused.hex") {
		streams := map[string][]byte{}
		for _, s := range conversation(f, file) {
			f.Add(s.bytes)
			streams[s.mark] = append(streams[s.mark], s.bytes...)
		}
		f.Add(streams[">"])
		f.Add(streams["<"])
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		left := bytes.NewReader(in)
		r := NewReader(left)
		for {
			start := len(in) - left.Len() - r.Buffered()
			frame, err := r.Read()
			if err != nil {
				return
			}
			end := len(in) - left.Len() - r.Buffered()
			if ofAnotherVersion(frame) {
				continue
			}
			out := Append(nil, frame)
			if !bytes.HasSuffix(in[start:end], out) { // unknown frames may stand before it
				t.Fatalf("%T was read from\n%x\nand is written as\n%x", frame, in[start:end], out)
			}
			if e, ok := frame.(*Entry); ok {
				again, err := ParseEntry(e.AppendBody(nil))
				if err != nil || again.Sum() != e.Sum() {
					t.Fatalf("the entry's body does not parse again: %v", err)
				}
			}
		}
	})
}

func ofAnotherVersion(f Frame) bool {
	switch f := f.(type) {
	case *Hello:
		return f.Version != Version
	case *Join:
		return f.Version != Version
	case *Renew:
		return f.Version != Version
	}
	return false
}
