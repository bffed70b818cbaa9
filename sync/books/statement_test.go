package books_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/hodihq/hodi/sync/books"
	"github.com/hodihq/hodi/sync/daraja"
	"github.com/hodihq/hodi/sync/push"
)

const header = "Receipt No.,Completion Time,Initiation Time,Details,Transaction Status,Paid In,Withdrawn,Balance,Balance Confirmed,Reason Type,Other Party Info,Linked Transaction ID,A/C No.\r\n"

func example(t testing.TB, name string) []byte {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t testing.TB, file []byte) *books.Statement {
	t.Helper()
	s, err := books.ReadStatement(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func nairobi(text string) time.Time {
	at, err := time.ParseInLocation(time.DateTime, text, daraja.Nairobi)
	if err != nil {
		panic(err)
	}
	return at
}

func payments(s *books.Statement) (list []string) {
	for _, p := range s.Payments {
		list = append(list, fmt.Sprintf("%d %s %s %s %s", p.Row, p.Receipt, p.Time.In(daraja.Nairobi).Format(time.DateTime), p.Amount, p.Reference))
	}
	return list
}

// The portal's own form. What people and spreadsheets make of it afterwards is in TestAStatementIsReadHoweverItWasSaved.
func TestAStatementOfThePortal(t *testing.T) {
	s := read(t, example(t, "portal.csv"))
	want := []string{
		"9 UKM4AB2CD9 2026-11-22 10:15:40 1200.5 INV-9",
		"11 UKM2AB2CD3 2026-11-22 09:12:13 100 INV-7",
		"12 UKM2AB2CD1 2026-11-22 08:00:01 250 HOUSE, 12",
		"14 UKM1AB2CD8 2026-11-22 07:59:00 70 = 3",
	}
	if got := payments(s); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("payments:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if s.Number != "4125223" || s.Holder != "DUKA LA MAMA LIMITED" {
		t.Errorf("it is of %q, %q", s.Number, s.Holder)
	}
	if !s.From.Equal(nairobi("2026-11-22 00:00:00")) || !s.To.Equal(nairobi("2026-11-22 12:36:39")) {
		t.Errorf("its period is %v to %v, want the day up to when the report was made", s.From, s.To)
	}
	if s.PaidIn == nil || *s.PaidIn != s.Incoming {
		t.Errorf("it says that %v came in, and its rows %v", s.PaidIn, s.Incoming)
	}
	if got := fmt.Sprint(s.Ignored); got != "[{reversals 1 -100} {charges 1 -6.9} {transfers and withdrawals 2 -900} {not completed 1 500}]" {
		t.Errorf("ignored: %s", got)
	}
	if len(s.Reversed) != 1 || s.Reversed[0].Of != "UKM2AB2CD3" || s.Reversed[0].Amount != 100_00 || s.Reversed[0].Row != 8 {
		t.Errorf("reversed: %+v", s.Reversed)
	}
}

func TestAStatementIsReadHoweverItWasSaved(t *testing.T) {
	plain := string(example(t, "portal.csv"))
	want := strings.Join(payments(read(t, []byte(plain))), "\n")
	wide := func(order binary.ByteOrder, mark bool) []byte {
		var b bytes.Buffer
		text := plain
		if mark {
			text = "\ufeff" + text
		}
		_ = binary.Write(&b, order, utf16.Encode([]rune(text)))
		return b.Bytes()
	}
	for name, file := range map[string][]byte{
		"with a mark of UTF-8":         []byte("\ufeff" + plain),
		"in UTF-16":                    wide(binary.LittleEndian, true),
		"in UTF-16, the other way":     wide(binary.BigEndian, true),
		"in UTF-16 without a mark":     wide(binary.LittleEndian, false),
		"the other way without a mark": wide(binary.BigEndian, false),
		"with lines as Unix has them":  []byte(strings.ReplaceAll(plain, "\r\n", "\n")),
		"with commas at every end":     []byte(strings.ReplaceAll(plain, "\r\n", ",,,\r\n")),
		"with letters of Windows":      bytes.ReplaceAll([]byte(plain), []byte("WANJIKU"), []byte("WANJIK\xda")),
		"with a currency":              []byte(strings.ReplaceAll(plain, `"1,200.50"`, `"KES 1,200.50"`)),
		"with receipts in small":       []byte(strings.ReplaceAll(plain, "UKM4AB2CD9,", " ukm4ab2cd9 ,")),
		"with dates as ISO has them":   []byte(strings.ReplaceAll(plain, "22-11-2026", "2026-11-22")),
		"with dates as Americans do":   []byte(strings.ReplaceAll(plain, "22-11-2026", "11/22/2026")),
		"with short years":             []byte(strings.ReplaceAll(plain, "22-11-2026", "22/11/26")),
		"with months by name":          []byte(strings.ReplaceAll(plain, ",22-11-2026", ",22-Nov-2026")),
		"with its columns shuffled":    shuffled(plain),
		"with its columns said again":  []byte(strings.Replace(plain, "UKM2AB2CD1,", header+"UKM2AB2CD1,", 1)),
	} {
		s, err := books.ReadStatement(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := payments(s)
		if strings.Contains(name, "again") || strings.Contains(name, "shuffled") { // other rows, then
			for i := range got {
				_, got[i], _ = strings.Cut(got[i], " ")
			}
			if want := withoutRows(want); strings.Join(got, "\n") != want {
				t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), want)
			}
		} else if strings.Join(got, "\n") != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), want)
		}
	}
}

func withoutRows(text string) string {
	var list []string
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		list = append(list, rest)
	}
	return strings.Join(list, "\n")
}

// shuffled has the columns that matter in another order, without any preamble, and with semicolons.
func shuffled(string) []byte {
	return []byte("sep=;\nA/C No.;Paid In;Receipt No.;Transaction Status;Completion Time\n" +
		"INV-9;1200,50;UKM4AB2CD9;Completed;22-11-2026 10:15:40\nINV-7;100;UKM2AB2CD3;Completed;22-11-2026 09:12:13\n" +
		"HOUSE, 12;250;UKM2AB2CD1;Completed;22-11-2026 08:00:01\n= 3;70,00;UKM1AB2CD8;Completed;22-11-2026 07:59\n")
}

func TestAFileThatIsNoStatementIsRefusedWithAReason(t *testing.T) {
	row := func(cells string) string { return header + cells + "\r\n" }
	for name, c := range map[string]struct{ file, says string }{
		"nothing":            {"", "names of columns"},
		"a workbook":         {"PK\x03\x04 and so on", "Excel workbook"},
		"an old workbook":    {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel workbook"},
		"a PDF":              {"%PDF-1.7", "PDF"},
		"a photograph":       {"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x01", "no text"},
		"another table":      {"name,phone\nJane,0708374149\n", "names of columns"},
		"no rows, no period": {header, "of which period"},
		"an amount":          {row("UKM2AB2CD3,22-11-2026 09:12:13,,Pay Bill,Completed,1O0.00,,,,Pay Bill Online,,,"), "row 2, UKM2AB2CD3: Paid In is \"1O0.00\""},
		"a huge amount":      {row("UKM2AB2CD3,22-11-2026 09:12:13,,Pay Bill,Completed,99999999999999,,,,Pay Bill Online,,,"), "beyond all"},
		"a time":             {row("UKM2AB2CD3,31-02-2026 09:12:13,,Pay Bill,Completed,100.00,,,,Pay Bill Online,,,"), "row 2, UKM2AB2CD3: the completion time"},
		"a receipt":          {row("2.1E+10,22-11-2026 09:12:13,,Pay Bill,Completed,100.00,,,,Pay Bill Online,,,"), "is no receipt"},
	} {
		_, err := books.ReadStatement([]byte(c.file))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestAmountsAsPeopleAndSpreadsheetsWriteThem(t *testing.T) {
	for text, want := range map[string]push.Money{
		"1200": 1200_00, "1,200.00": 1200_00, "KES 1,200": 1200_00, "Ksh1,234,567.89": 1234567_89, "1 200.50": 1200_50, "1.200,50": 1200_50,
		"70.5": 70_50, "0.01": 1, ".50": 50, "12,5": 12_50, "+5": 5_00, "1,200/=": 1200_00,
	} {
		s, err := books.ReadStatement([]byte(header + `UKM2AB2CD3,22-11-2026 09:12:13,,Pay Bill,Completed,"` + text + "\",,,,Pay Bill Online,,,\r\n"))
		if err != nil || len(s.Payments) != 1 || s.Payments[0].Amount != want {
			t.Errorf("%q is %+v, %v; want %s", text, s, err, want)
		}
	}
	for _, text := range []string{"1,20.00", "1.2.3", "1,2,3", "12,3456", "1.234", "--1", "1-", "one", "1e3", "NaN", "0x10"} {
		if s, err := books.ReadStatement([]byte(header + `UKM2AB2CD3,22-11-2026 09:12:13,,Pay Bill,Completed,"` + text + "\",,,,Pay Bill Online,,,\r\n")); err == nil {
			t.Errorf("%q is taken for %+v", text, s.Payments)
		}
	}
}

func TestWhatARowIs(t *testing.T) {
	for cells, payment := range map[string]bool{
		"Pay Bill Online to 4125223,Completed,100,,,,Pay Bill Online":                  true,
		"x,Completed,100,,,,Pay Utility with OD via STK":                               true,
		"x,Completed,100,,,,Customer Buy Goods Online":                                 true,
		"x,Completed,100,,,,Standing Order Pay Bill":                                   true,
		"Pay Bill from 2547****149 - CHARGE WITHDRAW Acc. reversal,Completed,100,,,,":  true, // a customer's words decide nothing
		"x,Completed,100,,,,Something that nobody knows yet":                           true,
		"x,Failed,100,,,,Pay Bill Online":                                              false,
		"x,Cancelled,100,,,,Pay Bill Online":                                           false,
		"Pay Bill Charge,Completed,,-3.45,,,Pay Bill Charge":                           false,
		"x,Completed,100,,,,Business Pay Bill Charge Reversal":                         false,
		"x,Completed,600000,,,,Organization Settlement":                                false,
		"x,Completed,,500,,,Utility Account to Organization Settlement Account":        false,
		"Organization Settle to Bank,Completed,,4000,,,":                               false,
		"Withdrawal to bank,Completed,,4000,,,":                                        false,
		"Reversal of transaction UKM2AB2CD1 from 2547****149 - JANE,Completed,100,,,,": false,
		"Funds received from KCB,Completed,600000,,,,Merchant to Working Account":      false,
		"x,Completed,,50,,,Business Payment to Customer":                               false,
	} {
		s, err := books.ReadStatement([]byte(header + "UKM2AB2CD3,22-11-2026 09:12:13,," + cells + ",,,\r\n"))
		if err != nil || (len(s.Payments) == 1) != payment {
			t.Errorf("%s: %+v, %v; want a payment: %v", cells, s, err, payment)
		}
	}
}

// FuzzReadStatement holds any file against what is always true: it is refused with a reason, or what is read of it makes sense, and
// a statement that is written from what was read says the same.
func FuzzReadStatement(f *testing.F) {
	files, err := filepath.Glob("testdata/*.csv")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		f.Add(example(f, filepath.Base(name)))
	}
	f.Add(shuffled(""))
	f.Add([]byte(header + `UKM2AB2CD3,45983.5,,"Pay ""Bill,Completed,"1,200.00`))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := books.ReadStatement(file)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "books: statement: ") {
				t.Errorf("refused with %q", err)
			}
			return
		}
		if s.From.IsZero() || s.To.Before(s.From) {
			t.Errorf("its period is %v to %v", s.From, s.To)
		}
		var again bytes.Buffer
		again.WriteString(header)
		sum := push.Money(0)
		for _, p := range s.Payments {
			if p.Amount <= 0 || p.Receipt == "" || p.Receipt != strings.ToUpper(p.Receipt) || p.Time.Before(s.From) || p.Row < 2 {
				t.Fatalf("a payment is %+v", p)
			}
			sum += p.Amount
			fmt.Fprintf(&again, "%s,%s,,,Completed,%d.%02d,,,,Pay Bill Online,,,\r\n", p.Receipt, p.Time.In(daraja.Nairobi).Format("02-01-2006 15:04:05"), p.Amount/100, p.Amount%100)
		}
		if sum > s.Incoming {
			t.Errorf("payments are %s, of %s that came in", sum, s.Incoming)
		}
		if len(s.Payments) == 0 {
			return
		}
		second := read(t, again.Bytes())
		for i, p := range second.Payments {
			if q := s.Payments[i]; p.Receipt != q.Receipt || p.Amount != q.Amount {
				t.Errorf("written again, %+v is %+v", q, p)
			}
		}
	})
}
