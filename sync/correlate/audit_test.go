package correlate_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
)

func (s *shop) acts() (lines []string) {
	s.Helper()
	list, err := s.Acts(s.Context(), 0, 10_000)
	if err != nil {
		s.Fatal(err)
	}
	for _, a := range list {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%s, %s, %s, %s", a.Who, a.Act, a.Subject, a.Detail), ", "))
	}
	return lines
}

func TestTheAuditIsOnlyAddedTo(t *testing.T) {
	s := open(t)
	for _, act := range []string{"one", "two"} {
		if err := s.Audit(t.Context(), correlate.Act{Who: "ann", Act: act, Subject: "x", Detail: "why"}); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", s.cfg.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, change := range []string{
		"UPDATE audit SET who = 'operator bob'", "DELETE FROM audit", "DELETE FROM audit WHERE id = 1",
		"INSERT OR REPLACE INTO audit (id, time, who, act, subject, detail) VALUES (1, 0, 'operator bob', '', '', '')",
		"REPLACE INTO audit (id, time, who, act, subject, detail) VALUES (2, 0, 'operator bob', '', '', '')",
	} {
		if _, err := db.Exec(change); err == nil || !strings.Contains(err.Error(), "only added to") {
			t.Errorf("%s: %v", change, err)
		}
	}
	s.Table.Close()
	s.start() // as it was, also for the next process
	if got := s.acts(); len(got) != 2 || got[0] != "ann, one, x, why" || got[1] != "ann, two, x, why" {
		t.Errorf("the audit is %q", got)
	}
	list, err := s.Acts(t.Context(), 0, 1)
	if err != nil || len(list) != 1 || list[0].Act != "two" || list[0].ID != 2 || time.Since(list[0].Time) > time.Hour {
		t.Errorf("the newest is %+v, %v", list, err)
	}
	if list, err = s.Acts(t.Context(), 2, 5); err != nil || len(list) != 1 || list[0].Act != "one" {
		t.Errorf("before the second is %+v, %v", list, err)
	}
}

func TestStrangersCannotFillTheAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		knock := func(act string, times int) {
			t.Helper()
			for range times {
				if err := s.Audit(t.Context(), correlate.Act{Who: "192.0.2.1", Act: act, Subject: "GET /till", Strangers: true}); err != nil {
					t.Fatal(err)
				}
			}
		}
		knock("refused", 500)
		knock("mistyped", 1)
		if got := s.acts(); len(got) != 21 {
			t.Errorf("%d entries of 501 knocks", len(got))
		}
		time.Sleep(time.Hour)
		knock("refused", 1)
		knock("mistyped", 1)
		got := s.acts()
		if len(got) != 24 || !strings.HasPrefix(got[21], "192.0.2.1, refused, , and 480 more in the hour from ") || got[22] != "192.0.2.1, refused, GET /till" {
			t.Errorf("an hour later: %q", got[20:])
		}
	})
}

func TestACallbackThatIsNotBelievedIsInTheAudit(t *testing.T) {
	s := open(t)
	s.open("till-1", 10000)
	p := s.begin(request("till-1"))
	s.comes(p.ID+strings.Repeat("0", 32), success(p, "100", "TIL7XK4101"))
	if got := s.acts(); len(got) != 1 || !strings.HasPrefix(got[0], "sidecar, callback forged, "+p.ID+", the code in its address is wrong") {
		t.Errorf("the audit is %q", got)
	}
}
