package hodi_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/hodihq/hodi/"

// mayImport is the map of the house: what each package may import of ours. "tunnel/..." is tunnel and all below it.
// Data flows one way because of this table: an arrow that is added here is a decision about the whole.
var mayImport = map[string][]string{
	"cmd/hodi":       {"..."},
	"cmd/chaos":      {"client"},                                                                 // a judge from outside: it knows no more of Hodi than an app does
	"cmd/sbom":       {},                                                                         // of any binary: what it was built of
	"cmd/hodi/bench": {"sync/correlate", "sync/daraja", "tunnel", "tunnel/enrol", "tunnel/wire"}, // hodi bench, apart because it has a vocabulary of its own
	"daemon/console": {},                                                                         // the operator's socket, the same in both daemons
	"daemon/metrics": {},                                                                         // the page that Prometheus reads, the same in both daemons
	"daemon/backup":  {"daemon/salvage"},                                                         // how a name is made durable
	"daemon/salvage": {},                                                                         // what both daemons do when a disk has failed their database
	"daemon/room":    {},                                                                         // one question to the system, which each system answers otherwise
	"daemon/secret":  {},                                                                         // one rule for every file that nobody else may read
	"daemon/reload":  {},                                                                         // what may change while a daemon runs, by one rule for both and for the command
	"daemon/forward": {"sync/..."},                                                               // callbacks to the merchant's own app
	"daemon/notify":  {"daemon/salvage", "daemon/secret"},                                        // how an edge tells a person: mail, a webhook, a command
	"daemon/edge":    {"tunnel/...", "daemon/notify", "daemon/console", "daemon/metrics", "daemon/backup", "daemon/room", "daemon/salvage", "daemon/secret", "daemon/reload", "internal/form", "systemd"},
	"daemon/sidecar": {"tunnel", "tunnel/wire", "tunnel/enrol", "sync/...", "daemon/forward", "daemon/console", "daemon/metrics", "daemon/backup", "daemon/room", "daemon/salvage", "daemon/secret", "daemon/reload", "daemon/sidecar/pages", "client/web", "systemd"},
	"tunnel":         {"tunnel/wire"},
	"tunnel/wire":    {},
	"tunnel/enrol":   {"tunnel/wire"},
	"tunnel/journal": {"tunnel/wire", "internal/form"},
	"sync/daraja":    {},
	"sync/correlate": {"sync/daraja", "sync/push", "tunnel/wire", "internal/form"},
	"sync/push":      {},
	"sync/hub":       {},
	"sync/books":     {"sync/daraja", "sync/push"}, // apart: a statement of M-Pesa has a vocabulary of its own, and no state
	"sync/watch":     {"sync/daraja", "sync/correlate"},
	"client":         {"sync/push"},
	"client/web":     {},
	"systemd":        {},

	// hodi doctor, apart because it has a vocabulary of its own: what may be wrong with a machine
	"cmd/hodi/bundle": {}, // what may be sent to anybody: it knows nothing that it could tell
	"cmd/hodi/doctor": {"tunnel", "tunnel/wire", "tunnel/enrol", "daemon/sidecar", "daemon/secret", "daemon/room", "sync/daraja"},

	"daemon/sidecar/pages":       {}, // the pages that the sidecar embeds
	"internal/authority":         {}, // for tests: certificates from an authority, for the edge alone and for a whole shop
	"internal/form":              {}, // one way in which databases go from version to version
	"internal/loopback":          {}, // for tests: one way to a port that stays a test's
	"internal/scrape":            {}, // for tests: a page read as Prometheus does
	"sync/daraja/sandbox":        {"sync/daraja"},
	"tunnel/journal/journaltest": {"tunnel/journal", "tunnel/wire"},
}

func TestEveryPackageImportsOnlyWhatItsPlaceInTheHouseAllows(t *testing.T) {
	for name, imports := range packages(t, "{{.ImportPath}}|{{join .Imports \" \"}}") {
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s is not in the map of the house: say there what it may import", name)
			continue
		}
		for _, path := range strings.Fields(imports) {
			ours, isOurs := strings.CutPrefix(path, module)
			if isOurs && !allows(allowed, ours) {
				t.Errorf("%s imports %s, which its place in the house does not allow", name, ours)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for name, doc := range packages(t, "{{.ImportPath}}|{{.Doc}}") {
		if strings.TrimSpace(doc) == "" {
			t.Errorf("%s has no package comment: one sentence that says what it is", name)
		}
	}
}

func allows(allowed []string, path string) bool {
	for _, a := range allowed {
		tree, isTree := strings.CutSuffix(a, "...")
		if a == path || isTree && strings.HasPrefix(path+"/", tree) {
			return true
		}
	}
	return false
}

// packages lists the packages of the house (path without the module) with what format, "path|text", prints of each.
func packages(t *testing.T, format string) map[string]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", format, "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "|")
		if name, isOurs := strings.CutPrefix(path, module); isOurs {
			found[name] = text
		}
	}
	if len(found) < 5 {
		t.Fatalf("go list found only %d packages: %v", len(found), found)
	}
	return found
}
