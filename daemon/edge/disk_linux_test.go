package edge_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/internal/scrape"
	"github.com/hodihq/hodi/tunnel/journal"
)

// small makes a file system of its own, of so many MiB. ext4 is what shops have; tmpfs is where SIGBUS would be seen, if a
// page of shared memory had no room.
func small(t *testing.T, kind string, size int) string {
	t.Helper()
	dir := t.TempDir()
	if kind == "tmpfs" {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
			t.Skipf("SKIPPED: no file system may be mounted here (%v): real full disks are not tested", err)
		}
	} else {
		image := filepath.Join(t.TempDir(), "image")
		for _, command := range [][]string{
			{"truncate", "-s", fmt.Sprintf("%dM", size), image},
			{"mkfs.ext4", "-q", "-F", image},
			{"mount", "-o", "loop", image, dir},
		} {
			out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
			if err != nil && command[0] != "mount" && os.Getenv("CI") != "" {
				t.Fatalf("under CI disks that fail must be tested, unless the machine forbids mounting: %s: %v %s", command[0], err, out)
			}
			if err != nil {
				t.Skipf("SKIPPED: no ext4 may be mounted here (%s: %v %s): disks that fail are not tested", command[0], err, out)
			}
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	state := filepath.Join(dir, "edge")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	return state
}

// ready asks /readyz.
func (w *world) ready() int {
	w.Helper()
	response, _ := w.do("GET", "http://"+w.http+"/readyz", nil)
	return response.StatusCode
}

func TestARealFullDisk(t *testing.T) {
	for kind, size := range map[string]int{"tmpfs": 4, "ext4": 8} {
		t.Run(kind, func(t *testing.T) {
			dir := small(t, kind, size)
			l := metricsPort(t)
			w := start(t, edge.Config{Dir: dir, Metrics: l})
			var want []string
			post := func(body string) int {
				t.Helper()
				response, _ := w.post(w.callback, body)
				if response.StatusCode == 200 {
					want = append(want, body)
				} else if response.StatusCode != 503 {
					t.Fatalf("a callback is answered %d", response.StatusCode)
				}
				return response.StatusCode
			}
			post("the first")
			ballast := filepath.Join(dir, "ballast")
			if os.WriteFile(ballast, make([]byte, size<<21), 0o600) == nil {
				t.Fatal("it is not full")
			}
			refused := 0
			for i := range 40 { // what is left of the last pages is used up first
				if post(strings.Repeat("x", 1000*(i+1))) == 503 {
					refused++
				}
			}
			for i := 0; i < 100 && post("a small one") == 200; i++ {
			}
			if refused == 0 {
				t.Error("a full disk refuses nothing")
			}
			if status := w.ready(); status != 503 {
				t.Errorf("on a full disk /readyz answers %d", status)
			}
			p := scrape.Of(t, l.Addr().String())
			p.Want(0, "hodi_edge_disk_writable")
			if n, _ := p.Value("hodi_edge_callbacks_total", "endpoint=duka", "outcome=unstored"); n == 0 {
				t.Error("nobody has counted what a full disk refuses")
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			if status := w.ready(); status != 200 { // without a callback that would have told
				t.Errorf("with room again /readyz answers %d", status)
			}
			if status := post("the last"); status != 200 {
				t.Errorf("with room again a callback is answered %d", status)
			}
			w.wantStored(want)
			t.Logf("%d refused, %d stored", refused, len(want))
		})
	}
}

// wantStored stops the edge and compares.
func (w *world) wantStored(want []string) {
	w.Helper()
	entries := w.stored("duka")
	if len(entries) != len(want) {
		w.Fatalf("%d entries are stored, %d were answered 200", len(entries), len(want))
	}
	for i, e := range entries {
		if string(e.Body) != want[i] {
			w.Errorf("entry %d has %d bytes, want %d", i+1, len(e.Body), len(want[i]))
		}
	}
}

// A file system on which an error was found is made read-only by the kernel, under the feet of who uses it.
func TestADiskThatBecomesReadOnly(t *testing.T) {
	dir := small(t, "ext4", 8)
	mount := filepath.Dir(dir)
	remount := func(options string) {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "remount,"+options, mount).CombinedOutput(); err != nil {
			t.Fatalf("remount %s: %v %s", options, err, out)
		}
	}
	w := start(t, edge.Config{Dir: dir})
	w.wantPost(w.callback, "before", 200)
	remount("abort") // what an error does
	for range 3 {
		w.wantPost(w.callback, "on a disk that is read-only", 503)
	}
	if status := w.ready(); status != 503 {
		t.Errorf("/readyz answers %d", status)
	}
	if _, err := w.Held(t.Context(), "duka"); err != nil { // what is stored is delivered all the same
		t.Errorf("what is stored cannot be read: %v", err)
	}
	w.end() // it may not be able to say goodbye to its disk
	if strings.Contains(w.log.String(), "damaged") {
		t.Errorf("the log says\n%s", w.log)
	}

	// As after a restart of the machine: mounted again, the disk is as it was.
	source, err := exec.Command("findmnt", "-n", "-o", "SOURCE", mount).Output()
	if err != nil {
		t.Fatal(err)
	}
	back, err := exec.Command("losetup", "-n", "-O", "BACK-FILE", strings.TrimSpace(string(source))).Output()
	if err != nil {
		t.Fatal(err)
	}
	image := strings.TrimSpace(string(back))
	if err := syscall.Unmount(mount, 0); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, mount).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v %s", err, out)
	}
	remount("ro")
	f := &filled{T: t, dir: dir}
	if err := f.open(); err == nil || !strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("on a disk that is read-only an edge opens with %v", err)
	}
	remount("rw")
	w = start(t, edge.Config{Dir: dir})
	w.wantPost(w.callback, "after", 200)
	w.wantStored([]string{"before", "after"})
}

// A shop that is away for long uses up its own share, and nothing of the others'.
func TestAnEndpointOverItsShareHarmsNoOther(t *testing.T) {
	w := start(t, edge.Config{Limits: journal.Limits{MaxBytes: 100_000}})
	other, err := w.SetEndpoint(t.Context(), "kiosk")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 100 {
		response, _ := w.post(w.callback, strings.Repeat("d", 2000))
		if response.StatusCode == 503 {
			refused++
			if after := response.Header.Get("Retry-After"); after != "60" {
				t.Errorf("Retry-After is %q", after)
			}
		}
		if i%10 == 0 {
			w.wantPost(other.CallbackURL, "mine", 200)
		}
	}
	if refused < 40 {
		t.Errorf("%d callbacks were refused", refused)
	}
	if status := w.ready(); status != 200 { // of one endpoint nobody else need know
		t.Errorf("/readyz answers %d", status)
	}
	var list struct {
		Disk      string
		Endpoints []struct {
			Name        string
			Held, Limit int64
		}
	}
	w.admin("GET", "/endpoints", "", 200, &list)
	if list.Disk != "" || len(list.Endpoints) != 2 || list.Endpoints[0].Limit != 100_000 || list.Endpoints[0].Held < 90_000 || list.Endpoints[1].Held > 50_000 {
		t.Errorf("the operator is told %+v", list)
	}
	if n := len(w.stored("kiosk")); n != 10 {
		t.Errorf("the other endpoint has %d callbacks, want 10", n)
	}
}
