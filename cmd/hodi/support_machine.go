package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hodihq/hodi/cmd/hodi/bundle"
	"github.com/hodihq/hodi/daemon/room"
)

// What a support bundle tells of the machine, of what is set, and of what lies on the disk.

type thisMachine struct {
	Made                 time.Time
	ZoneSeconds          int // east of Greenwich
	Hodi, Go             bundle.Word
	OS, Arch             bundle.Word
	Kernel               bundle.Word
	CPUs                 int
	Root                 bool
	Systemd              bool // this command was started by it
	OpenFiles, FilesMost uint64
	Kernels              []sysctl
}

type sysctl struct {
	Name  bundle.Word
	Value int64
}

func machineFacts(now time.Time) thisMachine {
	_, zone := now.Zone()
	m := thisMachine{
		Made: now.UTC(), ZoneSeconds: zone, Hodi: versionWord(version()), Go: bundle.Release(runtime.Version()),
		OS:     bundle.OneOf(runtime.GOOS, "linux", "darwin", "windows", "freebsd"),
		Arch:   bundle.OneOf(runtime.GOARCH, "amd64", "arm64", "arm", "386", "riscv64"),
		Kernel: bundle.Release(kernel()), CPUs: runtime.NumCPU(), Root: os.Geteuid() == 0, Systemd: os.Getenv("INVOCATION_ID") != "",
	}
	m.OpenFiles, m.FilesMost = openFiles()
	read := func(name bundle.Word, path string) {
		b, err := os.ReadFile(filepath.Join("/proc/sys", path))
		if n, perr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && perr == nil {
			m.Kernels = append(m.Kernels, sysctl{name, n})
		}
	}
	read(bundle.Say("net.core.rmem_max"), "net/core/rmem_max")
	read(bundle.Say("net.core.wmem_max"), "net/core/wmem_max")
	read(bundle.Say("net.core.somaxconn"), "net/core/somaxconn")
	read(bundle.Say("fs.file-max"), "fs/file-max")
	read(bundle.Say("vm.overcommit_memory"), "vm/overcommit_memory")
	read(bundle.Say("vm.swappiness"), "vm/swappiness")
	return m
}

type partSettings struct {
	Why      []bundle.Word `json:",omitempty"` // they cannot be read
	Settings []bundle.Setting
}

// allSettings are those of files. What is in the environment of a daemon, or on its command line, is not known here.
type allSettings struct {
	Edge, Sidecar partSettings
	Shortcodes    [][]bundle.Setting
}

func settingsFacts(c *cli.Context) (all allSettings) {
	choices := bundle.Choices{"source": {"flag", "enforce", "off"}, "environment": {"sandbox", "production"}, "kind": {"paybill", "till"}}
	edge, _, err := loadFile(c, "edge")
	if err != nil {
		all.Edge.Why = whyOf(err.Error())
	}
	all.Edge.Settings = bundle.Settings(edge.Edge, "toml", choices)
	sidecar, _, err := loadFile(c, "sidecar")
	if err != nil {
		all.Sidecar.Why = whyOf(err.Error())
	}
	all.Sidecar.Settings = bundle.Settings(sidecar.Sidecar, "toml", choices)
	for _, s := range sidecar.Shortcode {
		all.Shortcodes = append(all.Shortcodes, bundle.Settings(s, "toml", choices))
	}
	return all
}

type databaseFacts struct {
	Bytes  int64
	Form   uint32        // PRAGMA user_version: the steps that its tables have been through
	Why    []bundle.Word `json:",omitempty"` // it cannot be read
	Tables []tableFacts
	Room   *room.Room // of the disk that it is on
}

type tableFacts struct {
	Name bundle.Word
	Rows int64
}

// countWithin is how long the rows of a database may be counted; a table that was not reached is not listed.
const countWithin = 10 * time.Second

func databaseFactsOf(ctx context.Context, dir, name string) (f databaseFacts) {
	path := filepath.Join(dir, name)
	f.Bytes = room.Used(path)
	if there, err := room.Of(dir); err == nil {
		f.Room = &there
	}
	if f.Bytes == 0 {
		return f
	}
	why := func(err error) { f.Why = append(f.Why, whyOf(err.Error())...) }
	f.Form = formAt(path)
	// It is only read: a daemon may be at work. Where there is no log to read along with it, nobody is, and SQLite is told so,
	// for it would make files beside it that the daemon's user might not be able to open.
	query := "?mode=ro&_pragma=query_only(1)&_pragma=busy_timeout(2000)"
	if !exists(path+"-wal") || !exists(path+"-shm") {
		query += "&immutable=1"
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()+query)
	if err != nil {
		why(err)
		return f
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, countWithin)
	defer cancel()
	var at uint32
	if db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&at) == nil {
		f.Form = at // the log may have a newer one than the file itself
	}
	count := func(table bundle.Word, name string) {
		var there, n int64
		err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", name).Scan(&there)
		if err == nil && there > 0 {
			if err = db.QueryRowContext(ctx, "SELECT count(*) FROM "+name).Scan(&n); err == nil {
				f.Tables = append(f.Tables, tableFacts{table, n})
			}
		}
		if err != nil && len(f.Why) == 0 {
			why(err)
		}
	}
	for _, t := range []struct {
		word bundle.Word
		name string
	}{
		{bundle.Say("journal_endpoint"), "journal_endpoint"}, {bundle.Say("journal_entry"), "journal_entry"}, {bundle.Say("journal_mark"), "journal_mark"},
		{bundle.Say("edge_endpoint"), "edge_endpoint"}, {bundle.Say("edge_key"), "edge_key"}, {bundle.Say("edge_invite"), "edge_invite"},
		{bundle.Say("sessions"), "sessions"}, {bundle.Say("payments"), "payments"}, {bundle.Say("events"), "events"}, {bundle.Say("callbacks"), "callbacks"},
		{bundle.Say("cursors"), "cursors"}, {bundle.Say("gaps"), "gaps"}, {bundle.Say("audit"), "audit"}, {bundle.Say("money"), "money"}, {bundle.Say("tills"), "tills"},
		{bundle.Say("forwards"), "forwards"}, {bundle.Say("asks"), "asks"},
	} {
		count(t.word, t.name)
	}
	return f
}

// formAt is what a SQLite file has as its user_version, in the first page: found where the rest is damaged, too.
func formAt(path string) uint32 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	const at = 60
	head := make([]byte, at+4)
	if _, err := io.ReadFull(f, head); err != nil {
		return 0
	}
	return binary.BigEndian.Uint32(head[at:])
}

type fileFacts struct {
	Name    bundle.Word
	Bytes   int64
	Mode    int // as chmod takes it
	Folder  bool
	Changed time.Time
}

// filesFacts lists what lies in a daemon's folder, as far as its name is one that we know.
func filesFacts(dir string) (list []fileFacts) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		mode, _ := strconv.Atoi(strconv.FormatUint(uint64(info.Mode().Perm()), 8))
		list = append(list, fileFacts{
			bundle.OneOf(e.Name(), "sidecar.db", "sidecar.db-wal", "sidecar.db-shm", "edge.db", "edge.db-wal", "edge.db-shm", "lock", "admin.sock",
				"api.key", "callback.key", "inbox.key", "identity.json", "forward.secret", "ca.crt", "ca.key", "reset.key", "acme"),
			info.Size(), mode, e.IsDir(), info.ModTime().UTC(),
		})
	}
	return list
}
