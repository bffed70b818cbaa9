package correlate_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/sync/correlate"
)

func TestATillThatNobodyUsesIsForgotten(t *testing.T) {
	const idle = 90 * 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		_, token, err := s.AddTill(t.Context(), "Front desk", "ann")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(60 * 24 * time.Hour)
			if till, err := s.TillByToken(t.Context(), token, idle); err != nil || till.Name != "Front desk" {
				t.Errorf("it is %+v, %v", till, err)
			}
		}
		time.Sleep(idle + time.Second)
		if _, err := s.TillByToken(t.Context(), token, idle); !errors.Is(err, correlate.ErrNotFound) {
			t.Errorf("after 90 days: %v", err)
		}
	})
}

func TestTheFileDoesNotHoldWhatATillHolds(t *testing.T) {
	s := open(t)
	till, token, err := s.AddTill(t.Context(), "Front desk", "ann")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{s.cfg.Path, s.cfg.Path + "-wal"} {
		if b, err := os.ReadFile(name); err != nil || strings.Contains(string(b), token) {
			t.Errorf("%s holds it, or %v", name, err)
		}
	}
	if _, err := s.RevokeTill(t.Context(), till.ID, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TillByToken(t.Context(), token, time.Hour); !errors.Is(err, correlate.ErrNotFound) {
		t.Errorf("a revoked one: %v", err)
	}
	if got := s.acts(); strings.Join(got, "; ") != "ann, till let in, till 1, Front desk; bob, till revoked, till 1, Front desk" {
		t.Errorf("the audit is %q", got)
	}
}
