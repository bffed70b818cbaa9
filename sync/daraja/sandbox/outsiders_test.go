package sandbox_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hodihq/hodi/sync/daraja/sandbox"
)

// Whoever is open in the browser of the developer, and whoever else is on the machine.

func TestAPageOfElsewhereHasTheSandboxDoNothing(t *testing.T) {
	box, err := sandbox.Open(t.Context(), sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(box.Handler()) // on loopback
	t.Cleanup(func() {
		server.Close()
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	ask := func(method, path, host, origin string) int {
		t.Helper()
		request, err := http.NewRequest(method, server.URL+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		if origin != "" {
			request.Header.Set("Origin", origin)
		}
		request.SetBasicAuth(sandbox.DefaultConsumerKey, sandbox.DefaultConsumerSecret)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	own := strings.TrimPrefix(server.URL, "http://")
	const token, push, query = "/oauth/v1/generate?grant_type=client_credentials", "/mpesa/stkpush/v1/processrequest", "/mpesa/stkpushquery/v1/query"
	for _, page := range []struct{ host, origin string }{
		{own, "https://evil.example"},
		{own, "null"},
		{"evil.example:8789", "http://evil.example:8789"}, // a name that was rebound is of the same origin
	} {
		for path, method := range map[string]string{token: "GET", push: "POST", query: "POST", "/phone/answer": "POST", "/phone/state": "GET"} {
			if status := ask(method, path, page.host, page.origin); status != 403 {
				t.Errorf("%s %s of a page of %s answered %d", method, path, page.origin, status)
			}
		}
	}
	if status := ask("GET", "/phone/state", "evil.example:8789", ""); status != 403 { // to read one's own origin needs no Origin
		t.Errorf("the phone was shown to a name that was rebound: %d", status)
	}
	// A program in a container knows this machine by a name of its own.
	for _, host := range []string{own, "host.docker.internal:8789"} {
		if status := ask("GET", token, host, ""); status != 200 {
			t.Errorf("a program that calls the sandbox %s was answered %d", host, status)
		}
	}
}

func TestWhatASandboxKeepsIsForItsOwnerAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("these bits say nothing there")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sandbox.db"), nil, 0o644); err != nil { // as it was made before
		t.Fatal(err)
	}
	box, err := sandbox.Open(t.Context(), sandbox.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", entry.Name(), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
