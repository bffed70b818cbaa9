package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// hodi runs a command to its end.
func hodiRuns(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command("hodi", args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	exit := new(exec.ExitError)
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestTheBooksOfAShopAndItsStatement(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, dir, nil, quick...)
	data := "--data=" + filepath.Join(dir, "sidecar")
	if code, stdout, stderr := hodiRuns(t, "payments", "export", data); code != 0 || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, "nothing was paid") {
		t.Fatalf("empty books are exported with %d %q %q", code, stdout, stderr)
	}

	pay := func(session, outcome, status string, amount int) map[string]any {
		d.initiate(t, session, amount)
		d.answer(t, outcome)
		var data map[string]any
		eventually(t, "the payment to be "+status, func() bool {
			data, _ = d.session(t, session)["data"].(map[string]any)
			return data["status"] == status
		})
		return data
	}
	first, second := pay("a", "approve", "SUCCESS", 1250), pay("b", "approve", "SUCCESS", 30)
	pay("c", "cancel", "FAILED", 77)
	receipt := daraja.ReceiptPrefix(time.Now()) + "9ZZZZZZ"
	status, _ := call(t, "POST", d.Callback, fmt.Sprintf(`{"TransactionType":"Pay Bill","TransID":%q,"TransTime":%q,"TransAmount":"45.50","BusinessShortCode":"174379","BillRefNumber":"=1+1","OrgAccountBalance":"25.00","MSISDN":"25470****149"}`,
		receipt, time.Now().In(daraja.Nairobi).Format("20060102150405")))
	if status != 200 {
		t.Fatalf("the edge answered %d", status)
	}
	eventually(t, "the notice to be recorded", func() bool {
		_, list := call(t, "GET", d.Sidecar+"/callbacks?state=recorded", nil)
		return len(list["callbacks"].([]any)) == 1
	})

	file := filepath.Join(t.TempDir(), "books.csv")
	code, stdout, stderr := hodiRuns(t, "payments", "export", data, "--output", file)
	if code != 0 || stdout != "" || !strings.Contains(stderr, "174379 (sandbox: no real money): 3 payments, KES 1,325.50; 1 of them, KES 45.50, not asked for") {
		t.Fatalf("export ended with %d, %q, %q", code, stdout, stderr)
	}
	if is, err := os.Stat(file); err != nil || is.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v; want it for its owner alone", is.Mode(), err)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(written))).ReadAll()
	if err != nil || len(rows) != 4 || strings.Contains(string(written), testPhone) || rows[3][4] != "'=1+1" {
		t.Fatalf("exported were, %v:\n%s", err, written)
	}
	if _, stdout, _ := hodiRuns(t, "payments", "export", data, "--whole-numbers"); strings.Count(stdout, testPhone) != 2 {
		t.Errorf("with whole numbers exported were\n%s", stdout)
	}
	if _, stdout, _ := hodiRuns(t, "audit", data); strings.Count(stdout, "payments exported") != 1 {
		t.Errorf("the audit has\n%s", stdout)
	}
	today := time.Now().In(daraja.Nairobi) // it may be midnight while this runs: then the sums are of two days
	if _, stdout, _ := hodiRuns(t, "payments", "export", data, "--days", "--from", today.AddDate(0, 0, -1).Format(time.DateOnly)); !strings.Contains(stdout, ",sandbox,174379,") {
		t.Errorf("sums of days:\n%s", stdout)
	}
	if _, stdout, stderr := hodiRuns(t, "payments", "export", data, "--unpaid"); !strings.Contains(stdout, ",77.00,") || strings.Count(stdout, "\n") != 2 || !strings.Contains(stderr, "1 payment that") {
		t.Errorf("unpaid are\n%s%s", stdout, stderr)
	}
	if code, _, stderr := hodiRuns(t, "payments", "export", data, "--day", "22/11/2026"); code != 1 || !strings.Contains(stderr, "is no day") {
		t.Errorf("a day that is none: %d %q", code, stderr)
	}

	// What M-Pesa would say of the same.
	statement := func(lines ...string) string {
		name := filepath.Join(t.TempDir(), "statement.csv")
		text := "Short Code:,174379\r\nReceipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Reason Type,A/C No.\r\n" + strings.Join(lines, "")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	row := func(receipt any, at time.Time, amount string) string {
		return fmt.Sprintf("%s,%s,Pay Bill,Completed,%s,,Pay Bill Online,ORDER123\r\n", receipt, at.In(daraja.Nairobi).Format("02-01-2006 15:04:05"), amount)
	}
	at := func(data map[string]any) time.Time {
		when, err := time.Parse(time.RFC3339, data["completedAt"].(string))
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	one, two := row(first["mpesaReceiptNumber"], at(first), `"1,250.00"`), row(strings.ToLower(second["mpesaReceiptNumber"].(string)), at(second), "30.00")
	three := row(receipt, time.Now(), "45.50")
	charge := strings.Replace(strings.Replace(one, `"1,250.00",,Pay Bill Online`, ",-5.00,Pay Bill Charge", 1), "Pay Bill,", "Pay Bill Charge,", 1)
	for _, c := range []struct {
		name, file string
		code       int
		says       string
	}{
		{"the same", statement(three, two, charge, one), 0, "They agree."},
		{"without one", statement(three, one), 1, "Only here (1)"},
		{"with one more", statement(three, two, row("UKM9ZZZZZ1", at(first), "12.00"), one), 1, "UKM9ZZZZZ1"},
		{"with another amount", statement(three, strings.Replace(two, "30.00", "31.00", 1), one), 1, "here KES 30.00"},
		{"no statement", file, 2, ""},
		{"no file", file + ".none", 2, ""},
	} {
		code, stdout, stderr := hodiRuns(t, "reconcile", data, c.file)
		if code != c.code || !strings.Contains(stdout, c.says) || (stderr != "") != (code == 2) {
			t.Errorf("%s: %d, want %d\n%s%s", c.name, code, c.code, stdout, stderr)
		}
		if code == 2 {
			continue
		}
		var found struct{ Agree bool }
		again, stdout, _ := hodiRuns(t, "reconcile", data, "--json", c.file)
		if err := json.Unmarshal([]byte(stdout), &found); err != nil || again != code || found.Agree != (code == 0) {
			t.Errorf("%s, as JSON: %d, %v\n%s", c.name, again, err, stdout)
		}
	}
	if code, _, stderr := hodiRuns(t, "reconcile", data, "--shortcode", "600000", statement(one)); code != 2 || !strings.Contains(stderr, "no shortcode 600000") {
		t.Errorf("a shortcode that is not there: %d %q", code, stderr)
	}
}
