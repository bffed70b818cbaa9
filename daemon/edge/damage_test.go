package edge_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel/wire"
)

// filled is an edge that holds callbacks, and was killed (the log is there) or not. Nobody has it open.
type filled struct {
	*testing.T
	dir, key string
	bodies   []string
	epoch    wire.Epoch
}

func fill(t *testing.T, killed bool) *filled {
	t.Helper()
	w := start(t, edge.Config{})
	f := &filled{T: t, dir: w.dir, key: path(w.callback)}
	for i := range 60 {
		size := 600
		if i%10 == 9 {
			size = 20_000 // over several pages
		}
		body := fmt.Sprintf("callback %d %s", i+1, strings.Repeat(string(rune('a'+i%26)), size))
		w.wantPost(w.callback, body, 200)
		f.bodies = append(f.bodies, body)
	}
	if killed {
		f = f.copy(t)
	}
	w.stop()
	f.epoch = f.state(w.dir).Epoch
	return f
}

// copy is another of the same.
func (f *filled) copy(t *testing.T) *filled {
	t.Helper()
	g := &filled{T: t, dir: t.TempDir(), key: f.key, bodies: f.bodies, epoch: f.epoch}
	g.write("lock", nil)
	for _, name := range []string{"edge.db", "edge.db-wal", "endpoints.json", "ca.crt", "ca.key", "reset.key"} {
		b, err := os.ReadFile(filepath.Join(f.dir, name))
		if err == nil {
			g.write(name, b)
		} else if name != "edge.db-wal" {
			t.Fatal(err)
		}
	}
	return g
}

// state is that of the endpoint in a folder that nobody has open.
func (f *filled) state(dir string) (s wire.State) {
	f.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "edge.db"))
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT epoch, acked FROM journal_endpoint WHERE name = 'duka'").Scan(&s.Epoch, &s.Acked); err != nil {
		f.Fatal(err)
	}
	return s
}

func (f *filled) read(name string) []byte {
	f.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func (f *filled) write(name string, b []byte) {
	f.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), b, 0o600); err != nil {
		f.Fatal(err)
	}
}

// wantSalvaged starts the edge and looks at what it has: its address works; under every number is the callback that was
// there or one that says that it is lost; and at least so many are not. It returns what the log says.
func (f *filled) wantSalvaged(atLeast int, newEpoch bool) string {
	f.Helper()
	w := start(f.T, edge.Config{Dir: f.dir})
	if path(w.callback) != f.key {
		f.Errorf("the address is %s, and was %s", path(w.callback), f.key)
	}
	w.wantPost("http://"+w.http+f.key, "one more", 200)
	entries := w.stored("duka")
	kept := 0
	for i, e := range entries {
		switch {
		case i == len(entries)-1:
			if string(e.Body) != "one more" {
				f.Errorf("what was posted afterwards is %.40q", e.Body)
			}
		case e.Kind == wire.KindLost:
		case int(e.Seq) > len(f.bodies) || string(e.Body) != f.bodies[e.Seq-1]:
			f.Errorf("entry %d is %.40q", e.Seq, e.Body)
		default:
			kept++
		}
	}
	if kept < atLeast {
		f.Errorf("%d callbacks of %d are left, want %d at least\n%s", kept, len(f.bodies), atLeast, w.log)
	}
	if s := f.state(f.dir); (s.Epoch > f.epoch) != newEpoch {
		f.Errorf("the epoch is %d, and was %d; a new one is wanted: %v", s.Epoch, f.epoch, newEpoch)
	}
	return w.log.String()
}

func (f *filled) wantAside(b []byte) {
	f.Helper()
	aside, _ := filepath.Glob(filepath.Join(f.dir, "edge.db.damaged-*Z"))
	if len(aside) != 1 {
		f.Fatalf("%d damaged databases are moved aside, want 1", len(aside))
	}
	kept, err := os.ReadFile(aside[0])
	if err != nil || !bytes.Equal(kept, b) {
		f.Errorf("the database that was moved aside is not the damaged one, %v", err)
	}
}

func TestADatabaseThatSQLiteDoesNotOpenIsSalvagedAndKept(t *testing.T) {
	for _, killed := range []bool{false, true} {
		whole := fill(t, killed)
		for name, harm := range map[string]struct {
			do      func(b []byte) []byte
			atLeast int
		}{
			"its header is gone":     {func(b []byte) []byte { clear(b[:100]); return b }, 60},
			"its first page is gone": {func(b []byte) []byte { clear(b[:4096]); return b }, 60},
			"it is something else":   {func(b []byte) []byte { return []byte(strings.Repeat("not a database\n", 1000)) }, 0},
		} {
			t.Run(fmt.Sprintf("%s, killed %v", name, killed), func(t *testing.T) {
				f := whole.copy(t)
				harmed := harm.do(f.read("edge.db"))
				f.write("edge.db", harmed)
				if killed { // all is in the log, whatever becomes of the file
					harm.atLeast = 60
				}
				log := f.wantSalvaged(harm.atLeast, true)
				f.wantAside(harmed)
				if !strings.Contains(log, "is damaged") || !strings.Contains(log, "moved aside") {
					t.Errorf("the log says\n%s", log)
				}
			})
		}
	}
}

// TestAnyDamageCostsOnlyWhatItHit overwrites parts of the file, anywhere: what can be read is what was stored.
func TestAnyDamageCostsOnlyWhatItHit(t *testing.T) {
	whole := fill(t, false)
	b := whole.read("edge.db")
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 8))
			harmed := slices.Clone(b)
			what := ""
			switch seed % 4 {
			case 0: // whole pages
				for range 3 {
					page := r.IntN(len(b) / 4096)
					what += fmt.Sprint(" page ", page+1)
					for i := range 4096 {
						harmed[page*4096+i] = byte(r.Uint32())
					}
				}
			case 1: // bits
				for range 10 {
					harmed[r.IntN(len(b))] ^= 1 << r.IntN(8)
				}
			case 2: // the end
				n := 1 + r.IntN(len(b)/2)
				what = fmt.Sprint(" cut off ", n)
				harmed = harmed[:len(b)-n]
			case 3: // a sector
				at := r.IntN(len(b)/512) * 512
				clear(harmed[at : at+512])
			}
			f := whole.copy(t)
			f.write("edge.db", harmed)
			entries := f.entries()
			good := 0
			for _, e := range entries {
				if e.Kind != wire.KindLost {
					good++
					if int(e.Seq) > len(f.bodies) || string(e.Body) != f.bodies[e.Seq-1] {
						t.Errorf("entry %d is %.40q", e.Seq, e.Body)
					}
				}
			}
			t.Logf("%s: %d of 60 are left, %d are said to be lost", what, good, len(entries)-good)
			if good < 20 {
				t.Errorf("%d callbacks are left", good)
			}
		})
	}
}

// entries starts the edge as often as it ends because of damage, and reads all that a sidecar would be sent.
func (f *filled) entries() (all []wire.Entry) {
	f.Helper()
	for range 3 {
		w := start(f.T, edge.Config{Dir: f.dir})
		list, err := w.Held(f.Context(), "duka")
		w.end() // because of the damage, if there is any
		if err == nil {
			return list
		}
	}
	f.Fatal("the database is still damaged after it was salvaged twice")
	return nil
}

func TestALogThatIsDamagedBeforeItsEndIsSalvaged(t *testing.T) {
	f := fill(t, true)
	log := f.read("edge.db-wal")
	frames := (len(log) - 32) / (24 + 4096)
	at := 32 + frames/2*(24+4096) + 24 + 2000
	log[at] ^= 0xff
	f.write("edge.db-wal", log)
	said := f.wantSalvaged(59, true)
	if !strings.Contains(said, "of a later transaction") {
		t.Errorf("the log says\n%s", said)
	}
}

func TestALogThatWasTornByAPowerCutIsNoDamage(t *testing.T) {
	f := fill(t, true)
	log := f.read("edge.db-wal")
	copy(log[len(log)-3000:], make([]byte, 3000)) // in the last frame
	f.write("edge.db-wal", log)
	f.bodies = f.bodies[:59] // the last was not synced, so it was not answered
	if said := f.wantSalvaged(59, false); strings.Contains(said, "ERROR") {
		t.Errorf("the log says\n%s", said)
	}
}

func TestADatabaseThatIsGoneCostsNoAddress(t *testing.T) {
	f := fill(t, false)
	if err := os.Remove(filepath.Join(f.dir, "edge.db")); err != nil {
		t.Fatal(err)
	}
	if said := f.wantSalvaged(0, true); !strings.Contains(said, "put back from their copy") {
		t.Errorf("the log says\n%s", said)
	}

	f = fill(t, true)
	if err := os.Remove(filepath.Join(f.dir, "edge.db")); err != nil { // and its log is still there
		t.Fatal(err)
	}
	f.wantSalvaged(60, true)
}

// open opens an edge that will not run.
func (f *filled) open() error {
	f.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	defer l.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	defer udp.Close()
	e, err := edge.Open(f.Context(), edge.Config{Dir: f.dir, HTTP: l, UDP: udp})
	if err == nil {
		e.Close()
	}
	return err
}

func TestAnEdgeWithoutItsAddressesDoesNotStart(t *testing.T) {
	whole := fill(t, false)
	for name, harm := range map[string]func(f *filled){
		"gone":    func(f *filled) { os.Remove(filepath.Join(f.dir, "edge.db")) },
		"damaged": func(f *filled) { f.write("edge.db", make([]byte, 40960)) },
	} {
		for copyName, harmCopy := range map[string]func(f *filled){
			"gone":    func(f *filled) { os.Remove(filepath.Join(f.dir, "endpoints.json")) },
			"damaged": func(f *filled) { b := f.read("endpoints.json"); f.write("endpoints.json", b[:len(b)/2]) },
		} {
			t.Run(fmt.Sprintf("the database is %s, the copy %s", name, copyName), func(t *testing.T) {
				f := whole.copy(t)
				harm(f)
				harmCopy(f)
				before := names(f)
				err := f.open()
				if err == nil || !strings.Contains(err.Error(), "hodi edge restore") || !strings.Contains(err.Error(), "404") {
					t.Errorf("opening gives %v", err)
				}
				if after := names(f); !slices.Equal(before, after) {
					t.Errorf("the folder had %v and has %v", before, after)
				}
			})
		}
	}
}

func names(f *filled) (names []string) {
	f.Helper()
	list, err := os.ReadDir(f.dir)
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// TestASalvageThatWasCutShortIsFinished begins with the states between its steps.
func TestASalvageThatWasCutShortIsFinished(t *testing.T) {
	whole := fill(t, true)
	ready := whole.copy(t) // to take the place of a damaged one: as good as any other
	start(t, edge.Config{Dir: ready.dir}).stop()
	garbage := bytes.Repeat([]byte("garbage "), 4096)
	for step := range 4 {
		t.Run(fmt.Sprint("step ", step), func(t *testing.T) {
			g := ready.copy(t)
			g.epoch--
			fresh := ready.read("edge.db")
			os.Remove(filepath.Join(g.dir, "edge.db"))
			const stamp = "20260102T030405.000Z"
			switch step {
			case 0: // a draft, and nothing else was done
				g.write("edge.db", fresh)
				g.write("edge.db.draft-"+stamp, garbage)
			case 1: // ready
				g.write("edge.db.new-"+stamp, fresh)
				g.write("edge.db", garbage)
				g.write("edge.db-wal", garbage)
			case 2: // the log is aside
				g.write("edge.db.new-"+stamp, fresh)
				g.write("edge.db", garbage)
				g.write("edge.db.damaged-"+stamp+"-wal", garbage)
			case 3: // and the database
				g.write("edge.db.new-"+stamp, fresh)
				g.write("edge.db.damaged-"+stamp, garbage)
				g.write("edge.db.damaged-"+stamp+"-wal", garbage)
			}
			g.wantSalvaged(60, true)
			for _, name := range names(g) {
				if strings.Contains(name, "draft") || strings.Contains(name, ".new-") {
					t.Errorf("%s is left", name)
				}
			}
			if step > 0 {
				g.wantAside(garbage)
			}
		})
	}
}

func TestASalvageThatWasCutShortDoesNotUndoARestore(t *testing.T) {
	f := fill(t, false)
	var b bytes.Buffer
	if _, err := edge.Backup(t.Context(), f.dir, "asha", "", &b); err != nil {
		t.Fatal(err)
	}
	g := f.copy(t)
	g.write("edge.db.new-20260102T030405.000Z", []byte(strings.Repeat("garbage ", 4096)))
	if _, err := edge.Restore(t.Context(), g.dir, "asha", &b, true); err != nil {
		t.Fatal(err)
	}
	if said := g.wantSalvaged(60, true); strings.Contains(said, "ERROR") {
		t.Errorf("the log says\n%s", said)
	}
}

// TestAnEdgeThatMeetsDamageEndsAndMendsItself harms a page under a running edge's feet.
func TestAnEdgeThatMeetsDamageEndsAndMendsItself(t *testing.T) {
	f := fill(t, false)
	b := f.read("edge.db")
	pages := 0
	for at := 4096; at < len(b); at += 4096 { // a leaf in the middle: the first and the last are read at the start
		if b[at] == 0x0d && bytes.Contains(b[at:at+4096], []byte("callback 33 ")) {
			pages++
			binary.BigEndian.PutUint16(b[at+3:], 0xffff)
		}
	}
	if pages == 0 {
		t.Fatal("there is no page to harm")
	}
	f.write("edge.db", b)
	w := start(t, edge.Config{Dir: f.dir})
	if _, err := w.Held(t.Context(), "duka"); err == nil {
		t.Error("the damage was not met")
	}
	if err := w.end(); err == nil || !strings.Contains(err.Error(), "edge.db is damaged") {
		t.Errorf("run ends with %v", err)
	}
	f.wantSalvaged(60, true)
}

func TestACallbackThatTheDiskLostStopsNobody(t *testing.T) {
	f := fill(t, false)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(f.dir, "edge.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, harm := range []string{
		"UPDATE journal_entry SET data = CAST(replace(CAST(data AS TEXT), 'ccccc', 'ccdcc') AS BLOB) WHERE id & 0xffffffff = 3", // bits
		"UPDATE journal_entry SET data = x'00' WHERE id & 0xffffffff = 5",
		"DELETE FROM journal_entry WHERE id & 0xffffffff IN (6, 7)",
		"UPDATE journal_entry SET data = x'01', crc = NULL WHERE id & 0xffffffff = 60", // the newest
		"UPDATE journal_entry SET data = x'01', crc = NULL WHERE id & 0xffffffff = 1",  // the oldest
	} {
		if r, err := db.Exec(harm); err != nil {
			t.Fatal(err)
		} else if n, _ := r.RowsAffected(); n == 0 {
			t.Fatalf("nothing was harmed by %s", harm)
		}
	}
	db.Close()
	w := start(t, edge.Config{Dir: f.dir})
	entries, err := w.Held(t.Context(), "duka")
	if err != nil || len(entries) != 60 {
		t.Fatalf("%d entries are held, %v", len(entries), err)
	}
	for i, e := range entries {
		lost := slices.Contains([]uint64{1, 3, 5, 6, 7, 60}, e.Seq)
		if e.Seq != uint64(i+1) || (e.Kind == wire.KindLost) != lost || !lost && string(e.Body) != f.bodies[i] {
			t.Errorf("entry %d has kind %d and body %.30q", e.Seq, e.Kind, e.Body)
		}
	}
	w.stop()
	if n := strings.Count(w.log.String(), "cannot be read"); n != 6 {
		t.Errorf("the log tells of %d lost callbacks, want 6\n%s", n, w.log)
	}
}
