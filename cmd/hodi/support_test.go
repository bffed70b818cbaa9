package main

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// support makes a bundle of a folder's daemons, and returns what is in its files, by their names, and all that can be seen of it.
func support(t *testing.T, dir string, args ...string) (files map[string]string, all string) {
	t.Helper()
	out := runHodi(t, dir, append([]string{"support-bundle", "--output", "bundle.zip"}, args...)...)
	path := filepath.Join(dir, "bundle.zip")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
	if !strings.Contains(out, "bundle.zip") || !strings.Contains(strings.Join(strings.Fields(out), " "), "Open it and look") {
		t.Errorf("it says\n%s", out)
	}
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	files, all = map[string]string{}, out+string(raw)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name, ".json") && !json.Valid(b) {
			t.Errorf("%s is no JSON\n%s", f.Name, b)
		}
		files[f.Name] = string(b)
		all += "\n" + f.Name + "\n" + string(b)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	return files, all
}

// forms are how a text may stand in a file: as it is, in hex, in base64 at each of three places, and as in an address.
func forms(text string) []string {
	all := []string{text, hex.EncodeToString([]byte(text)), url.QueryEscape(text), url.PathEscape(text)}
	for skip := range 3 {
		whole := base64.RawStdEncoding.EncodeToString(append(make([]byte, skip), text...))
		if part := whole[4*min(skip, 1) : len(whole)-len(whole)%4]; len(part) > 5 {
			all = append(all, part)
		}
	}
	return all
}

func TestASupportBundleHoldsNothingThatAnybodySaid(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	marks := map[string]string{"a phone": testPhone, "another phone": "254700000017", "the endpoint's name": "duka", "the callback address": p.address[strings.LastIndex(p.address, "/")+1:]}
	secret := func(name string) {
		b, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		marks[name] = strings.TrimSpace(string(b))
	}
	mark := func(what string) string {
		text := "Marker" + strings.ReplaceAll(what, " ", "")
		marks[what] = text
		return text
	}
	for i := range 3 {
		push := map[string]any{"MerchantRequestID": fmt.Sprintf("%s-%d", mark("merchant id"), i), "CheckoutRequestID": fmt.Sprintf("%s-%d", mark("checkout id"), i), "ResponseCode": "0",
			"session": fmt.Sprintf("%s%d", mark("session"), i), "amount": 100, "phoneNumber": testPhone, "accountReference": mark("reference")}
		if status, answer := call(t, "POST", p.url+"/payments", push); status != 201 {
			t.Fatalf("the push was answered %d %v", status, answer)
		}
	}
	receipt := today + "ZX98765"
	marks["a receipt"] = receipt
	for _, body := range []string{
		stkCallback(map[string]any{"merchantRequestId": marks["merchant id"] + "-0", "checkoutRequestId": marks["checkout id"] + "-0"}, 0, mark("description"), receipt, 100),
		stkCallback(map[string]any{"merchantRequestId": marks["merchant id"] + "-1", "checkoutRequestId": marks["checkout id"] + "-1"}, 1032, "cancelled", "", 100),
		`{"TransactionType":"Pay Bill","TransID":"` + receipt + `","TransTime":"20260101120000","TransAmount":"100.00","BusinessShortCode":"600000","BillRefNumber":"` + marks["reference"] + `","MSISDN":"254700000017","FirstName":"` + mark("customer") + `"}`,
		mark("a body of no form"),
	} {
		if status, answer := call(t, "POST", p.address, body); status != 200 {
			t.Fatalf("the edge answered %d %v", status, answer)
		}
	}
	p.wantApplied(4)
	for _, name := range []string{"sidecar/callback.key", "edge/ca.key"} {
		secret(name)
	}
	settings := fmt.Sprintf("[sidecar]\norigins = [%q]\nhosts = [%q]\npublic-url = %q\ncertificate-file = %q\n[shortcode.%s]\nenvironment = \"sandbox\"\nkind = \"till\"\nnumber = %q\nstore = %q\nconsumer-key-file = %q\n",
		"https://"+mark("origin"), mark("host"), "https://"+mark("public"), mark("certificate"), mark("shortcode"), mark("number"), mark("store"), mark("key file"))
	if err := os.WriteFile(filepath.Join(p.dir, "hodi.toml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}

	args := []string{"--listen", strings.TrimPrefix(p.url, "http://"), "--data", "sidecar", "--edge-data", "edge", "--no-doctor"}
	wantNone := func(all string) {
		t.Helper()
		lower := strings.ToLower(all)
		for what, text := range marks {
			for _, form := range forms(text) {
				if strings.Contains(all, form) || strings.Contains(lower, strings.ToLower(form)) && len(form) > 5 {
					t.Errorf("%s is in it, as %q", what, form)
				}
			}
		}
	}
	files, all := support(t, p.dir, args...)
	wantNone(all)
	var sidecar struct {
		Here, Runs bool
		Goroutines int
		Callbacks  []struct {
			State string
			Count int
		}
		Link     struct{ Transport string }
		Database struct {
			Form   int
			Tables []struct {
				Name string
				Rows int
			}
		}
	}
	if err := json.Unmarshal([]byte(files["sidecar.json"]), &sidecar); err != nil || !sidecar.Here || !sidecar.Runs || sidecar.Goroutines == 0 || sidecar.Link.Transport != "quic" || sidecar.Database.Form == 0 {
		t.Errorf("%v\n%s", err, files["sidecar.json"])
	}
	rows := map[string]int{}
	for _, t := range sidecar.Database.Tables {
		rows[t.Name] = t.Rows
	}
	if rows["payments"] != 3 || rows["callbacks"] != 4 {
		t.Errorf("%v", rows)
	}
	if s := files["settings.json"]; !strings.Contains(s, `"public-url"`) || !strings.Contains(s, `"sandbox"`) {
		t.Errorf("the settings are\n%s", s)
	}

	// With both down, and one database of them destroyed, it tells what there is.
	p.sidecar.kill()
	p.edge.kill()
	for _, name := range []string{"edge.db-wal", "edge.db-shm"} { // or all is still to be had from the log
		if err := os.Remove(filepath.Join(p.dir, "edge", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "edge", "edge.db"), bytes.Repeat([]byte("nothing "), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	files, all = support(t, p.dir, args...)
	wantNone(all)
	if s := files["sidecar.json"]; !strings.Contains(s, `"Runs": false`) || !strings.Contains(s, `"Name": "payments"`) {
		t.Errorf("of a sidecar that is down\n%s", s)
	}
	if s := files["edge.json"]; !strings.Contains(s, `"Runs": false`) || !strings.Contains(s, "not a database") {
		t.Errorf("of a damaged edge\n%s", s)
	}
}

func TestASupportBundleHasWhatTheDoctorFinds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files, _ := support(t, dir, "--data", "sidecar", "--edge-data", "edge", "--listen", "127.0.0.1:1")
	if s := files["doctor.json"]; !strings.Contains(s, `"Check": "settings"`) || !strings.Contains(s, `"Verdict": "fail"`) || !strings.Contains(s, `"Edge"`) {
		t.Errorf("%s", s)
	}
	if s := files["machine.json"]; !strings.Contains(s, `"Go": "go1.`) || strings.Contains(s, `"Kernel": "unknown"`) {
		t.Errorf("%s", s)
	}
}

func TestASupportBundleTakesNoFilesPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "mine.zip")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("hodi", "support-bundle", "--no-doctor", "--output", "mine.zip")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if b, _ := os.ReadFile(path); err == nil || !strings.Contains(string(out), "there already") || string(b) != "mine" {
		t.Errorf("%v, %q\n%s", err, b, out)
	}
}
