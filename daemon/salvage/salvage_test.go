package salvage_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/salvage"
)

// database makes a database with rows of every form, and leaves its log as a kill would. It returns where it is, and the
// rows.
func database(t *testing.T, pageSize int, killed bool) (path string, want map[int64][]any) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "odd name [1]*?.db")
	db, err := sql.Open("sqlite", "file:"+strings.NewReplacer("[", "%5b", "]", "%5d", "?", "%3f", " ", "%20").Replace(path)+
		fmt.Sprintf("?_pragma=page_size(%d)&_pragma=journal_mode(wal)&_pragma=synchronous(off)", pageSize))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE things (id INTEGER PRIMARY KEY, a ANY, b ANY, c ANY) STRICT"); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	value := func() any {
		switch r.IntN(9) {
		case 0:
			return nil
		case 1:
			return int64(r.IntN(2))
		case 2:
			return int64(r.Uint64())
		case 3:
			return int64(int8(r.Uint32()))
		case 4:
			return int64(int32(r.Uint32()))
		case 5:
			return r.NormFloat64() * math.Pi
		case 6:
			return strings.Repeat("haba ", r.IntN(40))
		case 7: // over several pages
			return bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(4*pageSize))
		}
		return bytes.Repeat([]byte{7}, r.IntN(pageSize))
	}
	want = make(map[int64][]any)
	for i := range 200 {
		id := int64(i)<<40 | int64(i*i)
		if i%50 == 49 {
			id = -id
		}
		values := []any{nil, value(), value(), value()}
		if _, err := db.Exec("INSERT INTO things VALUES (?, ?, ?, ?)", id, values[1], values[2], values[3]); err != nil {
			t.Fatal(err)
		}
		want[id] = values
		if i == 120 {
			if _, err := db.Exec("PRAGMA wal_checkpoint(RESTART)"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if killed {
		copied := filepath.Join(t.TempDir(), "killed.db")
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(copied+suffix, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		path = copied
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path, want
}

func rows(t *testing.T, path string) map[int64][][]any {
	t.Helper()
	all, err := salvage.Rows(path)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int64][][]any)
	for r := range all {
		found[r.ID] = append(found[r.ID], r.Values)
	}
	return found
}

func TestEveryRowIsReadAsSQLiteWroteIt(t *testing.T) {
	for _, pageSize := range []int{512, 4096, 8192} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("pages of %d, killed %v", pageSize, killed), func(t *testing.T) {
				path, want := database(t, pageSize, killed)
				found := rows(t, path)
				for id, values := range want {
					if !slices.ContainsFunc(found[id], func(have []any) bool { return fmt.Sprintf("%#v", have) == fmt.Sprintf("%#v", values) }) {
						t.Errorf("row %d is not found as it was written: %d others", id, len(found[id]))
					}
				}
			})
		}
	}
}

func TestCheckKnowsDamageFromWhatAPowerCutLeaves(t *testing.T) {
	path, _ := database(t, 4096, true)
	whole, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	const frame = 24 + 4096
	var commits []int // the frames that end a transaction, of this round of the log
	for i := 0; 32+(i+1)*frame <= len(whole); i++ {
		h := whole[32+i*frame:]
		if bytes.Equal(h[8:16], whole[16:24]) && binary.BigEndian.Uint32(h[4:]) != 0 {
			commits = append(commits, i)
		}
	}
	last, before := commits[len(commits)-1], commits[len(commits)-2]
	at := func(i int) int { return 32 + i*frame }
	for name, test := range map[string]struct {
		harm   func(b []byte) []byte
		damage bool
	}{
		"nothing":                               {func(b []byte) []byte { return b }, false},
		"the last frame is torn":                {func(b []byte) []byte { return b[:at(last)+100] }, false},
		"the last frame is half written":        {func(b []byte) []byte { clear(b[at(last)+2000 : at(last)+frame]); return b }, false},
		"the last transaction came in no order": {func(b []byte) []byte { clear(b[at(before+1) : at(before+1)+frame]); return b }, false},
		"the one before it is not whole":        {func(b []byte) []byte { b[at(before)+500] ^= 4; return b }, true},
		"the first is not whole":                {func(b []byte) []byte { b[at(0)+24] ^= 1; return b }, true},
		"a frame's header is not whole":         {func(b []byte) []byte { b[at(commits[3])+17] ^= 1; return b }, true},
		"the header is not whole":               {func(b []byte) []byte { b[17] ^= 1; return b }, true},
		"it is empty":                           {func(b []byte) []byte { return nil }, false},
		"it has a header only":                  {func(b []byte) []byte { return b[:32] }, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path+"-wal", test.harm(slices.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := salvage.Check(t.Context(), path); salvage.IsDamage(err) != test.damage || err != nil && !test.damage {
				t.Errorf("check gives %v", err)
			}
		})
	}
}

func TestADatabaseUnderSuspicionIsReadThrough(t *testing.T) {
	path, _ := database(t, 4096, false)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 4096 * 10; at < 4096*20; at += 4096 {
		if b[at] == 0x0d {
			b[at] = 0x55
		}
	}
	harmed := filepath.Join(t.TempDir(), "harmed.db")
	if err := os.WriteFile(harmed, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := salvage.Check(t.Context(), harmed); err != nil {
		t.Errorf("a check that is cheap gives %v", err)
	}
	if err := salvage.Suspect(harmed, salvage.ErrDamaged); err != nil {
		t.Fatal(err)
	}
	for range 2 { // until something is done about it
		if err := salvage.Check(t.Context(), harmed); !salvage.IsDamage(err) {
			t.Errorf("a check of the whole file gives %v", err)
		}
	}
}

func TestGarbageIsReadWithoutHarm(t *testing.T) {
	path, _ := database(t, 512, true)
	var whole [2][]byte
	for i, suffix := range []string{"", "-wal"} {
		var err error
		if whole[i], err = os.ReadFile(path + suffix); err != nil {
			t.Fatal(err)
		}
		whole[i] = whole[i][:min(len(whole[i]), 100_000)]
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		for i, suffix := range []string{"", "-wal"} {
			b := slices.Clone(whole[i])
			for range 1 + r.IntN(200) {
				b[r.IntN(len(b))] = byte(r.Uint32())
			}
			if r.IntN(4) == 0 {
				b = b[:r.IntN(len(b))]
			}
			if err := os.WriteFile(path+suffix, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		rows(t, path)
		if err := salvage.Check(t.Context(), path); err != nil && !salvage.IsDamage(err) {
			t.Fatal(err)
		}
	}
}

// When a disk is full a transaction fails, and leaves in the log what it had written; the numbers of its rows are given to
// others. And every round of a log leaves its end behind the next, with what the pages held then.
func TestWhatWasCommittedComesBeforeWhatWasNot(t *testing.T) {
	path, want := database(t, 4096, true)
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	const frame = 24 + 4096
	end := 0 // of the present round
	for ; 32+(end+1)*frame <= len(log) && bytes.Equal(log[32+end*frame+8:32+end*frame+16], log[16:24]); end++ {
	}
	for i := range end { // all of its pages once more, otherwise, as if a later transaction had failed
		b := slices.Clone(log[32+i*frame : 32+(i+1)*frame])
		for at := 24 + 2000; at < frame; at++ {
			b[at] ^= 1
		}
		log = append(log, b...)
	}
	if err := os.WriteFile(path+"-wal", log, 0o600); err != nil {
		t.Fatal(err)
	}
	found, others := rows(t, path), 0
	for id, values := range want {
		if len(found[id]) == 0 || fmt.Sprintf("%#v", found[id][0]) != fmt.Sprintf("%#v", values) {
			t.Errorf("row %d does not come first as it was committed: %d others", id, len(found[id]))
		}
		others += max(len(found[id])-1, 0)
	}
	if others == 0 {
		t.Error("nothing came but what was committed")
	}
}
