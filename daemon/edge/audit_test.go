package edge_test

import (
	"bytes"
	"crypto/tls"
	"database/sql"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/tunnel/wire"
)

// audited is the audit, a line as "who: act: subject: detail".
func (w *world) audited() (lines []string) {
	w.Helper()
	list, err := w.Audit(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for _, l := range list {
		lines = append(lines, fmt.Sprintf("%s: %s: %s: %s", l.Who, l.Act, l.Subject, l.Detail))
	}
	return lines
}

func (w *world) wantAudit(line string) {
	w.Helper()
	if lines := w.audited(); !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, line) }) {
		w.Errorf("the audit does not say %q:\n%s", line, strings.Join(lines, "\n"))
	}
}

func TestWhatAnOperatorDoesIsInTheAudit(t *testing.T) {
	w := start(t, edge.Config{})
	if _, err := w.AddKey(t.Context(), "asha", "duka", "spare", ""); err != nil {
		t.Fatal(err)
	}
	if err := w.RetireKey(t.Context(), "juma", "duka", "key-1"); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := edge.Backup(t.Context(), w.dir, "asha", "", &b); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"edge: endpoint added: duka: with its first key, key-1",
		"asha: key added: duka: spare",
		"juma: key retired: duka: key-1",
		"asha: backup: edge: ",
	}
	if got := w.audited(); !slices.Equal(got, want) {
		t.Errorf("the audit says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	elsewhere := t.TempDir()
	if _, err := edge.Restore(t.Context(), elsewhere, "juma", &b, false); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w = start(t, edge.Config{Dir: elsewhere})
	w.wantAudit("asha: key added: duka: spare")
	w.wantAudit("juma: restore: edge: made on ")
}

func TestALineOfTheAuditIsNeitherChangedNorRemovedNorReplaced(t *testing.T) {
	w := start(t, edge.Config{})
	before := w.audited()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(w.dir, "edge.db"))+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		"UPDATE audit SET who = 'nobody'",
		"DELETE FROM audit",
		"INSERT OR REPLACE INTO audit (id, time, who, act, subject, detail) VALUES (1, 0, 'nobody', '', '', '')",
	} {
		if _, err := db.Exec(statement); err == nil || !strings.Contains(err.Error(), "a line of the audit is never") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if after := w.audited(); !slices.Equal(before, after) {
		t.Errorf("the audit was %q and is %q", before, after)
	}
}

func TestAStrangerWhoKnocksForAWeekFillsNoDiskThroughTheAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := openOnly(t)
		for i := range 7 * 24 * 60 {
			w.Refuse(t.Context(), fmt.Sprintf("10.0.%d.%d:4000", i%200, i%250), "stranger", "he has no certificate")
			time.Sleep(time.Minute)
		}
		lines := w.audited()
		if len(lines) < 8 || len(lines) > 16 {
			t.Errorf("a week of refusals is %d lines:\n%s", len(lines), strings.Join(lines, "\n"))
		}
		if lines[1] != "10.0.0.0: connection refused: stranger: he has no certificate" {
			t.Errorf("the first refusal is %q", lines[1])
		}
		if !strings.HasPrefix(lines[2], "10.0.1.1 10.0.2.2 10.0.3.3 10.0.4.4 10.0.5.5: connection refused: stranger: 60 times more") {
			t.Errorf("those of the first hour are %q", lines[2])
		}
		for i := range 10_000 {
			w.Refuse(t.Context(), "10.0.0.1:1", fmt.Sprintf("kind %d", i), "he is of no known kind")
		}
		if n := len(w.audited()) - len(lines); n > 300 {
			t.Errorf("10,000 kinds of strangers are %d lines", n)
		}
	})
}

// Whoever revokes a sidecar wants to see whether it comes again, whatever else knocks.
func TestARevokedSidecarsRefusalIsALineOfItsOwn(t *testing.T) {
	w := start(t, edge.Config{})
	refusals := func() (lines []string) {
		for _, l := range w.audited() {
			if strings.Contains(l, "connection refused: kiosk") && strings.Contains(l, "this sidecar was revoked") {
				lines = append(lines, l)
			}
		}
		return lines
	}
	conf := identityOf(t, w.mustJoin("kiosk"))
	for i := range 300 { // so many kinds that others are one
		w.Refuse(t.Context(), "10.0.0.1:1", fmt.Sprint("kind ", i), "he is of no known kind")
	}
	for range 3 { // others who say that they are this shop
		w.Refuse(t.Context(), "10.0.0.1:1", "kiosk", "another machine has joined in place of this sidecar")
	}
	for times := 1; times <= 2; times++ { // also the second time that it is put out
		if err := w.Revoke(t.Context(), "asha", "kiosk"); err != nil {
			t.Fatal(err)
		}
		client, _, stop := w.link(conf)
		w.eventually("the refusal", func() bool { return strings.Contains(client.Status().LastError, "this sidecar was revoked") })
		_, err := client.Renew(t.Context(), renewal(t, conf))
		w.wantRefused(err, "this sidecar was revoked", "kiosk")
		stop()
		w.eventually("one line", func() bool { return len(refusals()) > 0 })
		if lines := refusals(); len(lines) > 2*times-1 { // and when it is put out again, how often it came meanwhile
			t.Errorf("refused again and again it is\n%s", strings.Join(lines, "\n"))
		} else if last := lines[len(lines)-1]; !strings.HasPrefix(last, "127.0.0.1: connection refused: kiosk: tunnel: not let in") {
			t.Errorf("the line is %q", last)
		}
		conf = identityOf(t, w.mustJoin("kiosk"))
	}
}

func TestEveryKindOfRefusalAtTheTunnelIsInTheAudit(t *testing.T) {
	w := start(t, edge.Config{})
	// Its certificate has ended.
	key, request := newRequest(t, nil)
	issued, err := w.AdmitAt(t.Context(), "old", request, time.Now().Add(-91*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	w.link(&tls.Config{RootCAs: w.private(), Certificates: []tls.Certificate{{Certificate: [][]byte{issued.Certificate}, PrivateKey: key}}})
	w.eventually("who has to renew first", func() bool { return w.refusedFor("old", "has to be renewed first") })
	for want, say := range map[string][]byte{
		"the sidecar speaks version 3": wire.Append(nil, &wire.Hello{Version: wire.Version + 1}),
		"no hello":                     {byte(wire.TypeHello), 0, 0, 3, 0, wire.Version, 3},
	} {
		w := start(t, edge.Config{})
		conn, err := dialTunnel(t, w.http, w.sidecar("duka"))
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(say)
		io.Copy(io.Discard, conn)
		conn.Close()
		w.eventually(want, func() bool { return w.refusedFor("stranger", want) })
	}
}

func (w *world) refusedFor(subject, why string) bool {
	w.Helper()
	return slices.ContainsFunc(w.audited(), func(l string) bool {
		return strings.Contains(l, ": connection refused: "+subject+": ") && strings.Contains(l, why)
	})
}

// openOnly is an edge that does not run.
func openOnly(t *testing.T) *world {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, dir: t.TempDir()}
	if w.Edge, err = edge.Open(t.Context(), edge.Config{Dir: w.dir, HTTP: newPipes(), UDP: udp}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	if _, err := w.SetEndpoint(t.Context(), "duka"); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestTheAuditOutlivesADamagedDatabase(t *testing.T) {
	w := start(t, edge.Config{})
	for i := range 200 {
		if _, err := w.AddKey(t.Context(), "asha", "duka", fmt.Sprintf("spare-%d", i), ""); err != nil {
			t.Fatal(err)
		}
	}
	w.wantPost(w.callback, "{}", 200)
	before := w.audited()
	w.stop()
	path := filepath.Join(w.dir, "edge.db")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[:100]) // the head of the file
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	w = start(t, edge.Config{Dir: w.dir})
	after := w.audited()
	if len(after) != len(before)+1 || !slices.Equal(after[:len(before)], before) {
		t.Errorf("there were %d lines, and now there are\n%s", len(before), strings.Join(after, "\n"))
	}
	w.wantAudit("edge: salvage: edge: ")
}
