package enrol_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

func TestACodeIsReadAsPeopleCopyIt(t *testing.T) {
	for _, edge := range []string{"hooks.example.co.ke:443", "hooks.example.co.ke:4443", "192.0.2.7:443", "[2001:db8::7]:443", "[2001:db8::7]:8443"} {
		want := enrol.Code{Edge: edge, Pin: wire.Pin{1, 2, 3}, Secret: enrol.NewSecret(), Made: time.Unix(1790933399, 0).UTC()}
		text := want.String()
		for _, copied := range []string{
			text, strings.ToLower(text), strings.ReplaceAll(text, "-", ""), " " + strings.ReplaceAll(text, "-", "\n") + "\n",
			strings.NewReplacer("0", "O", "1", "l").Replace(text), strings.NewReplacer("0", "o", "1", "I").Replace(text),
		} {
			got, err := enrol.ParseCode(copied)
			if err != nil || got.Edge != want.Edge || got.Pin != want.Pin || !bytes.Equal(got.Secret, want.Secret) || !got.Made.Equal(want.Made) {
				t.Errorf("%q is read as %+v, %v; want %+v", copied, got, err, want)
			}
		}
	}
}

func TestASlipInACodeIsNoticedAndNotRepeated(t *testing.T) {
	text := enrol.Code{Edge: "hooks.example.co.ke:443", Secret: enrol.NewSecret(), Made: time.Now()}.String()
	for i, c := range text {
		if c == '-' {
			continue
		}
		other := byte('A')
		if c == 'A' {
			other = 'B'
		}
		slip := text[:i] + string(other) + text[i+1:]
		if _, err := enrol.ParseCode(slip); err == nil || strings.Contains(err.Error(), text[:5]) {
			t.Errorf("with a slip at %d: %v", i, err)
		}
		if _, err := enrol.ParseCode(text[:i]); err == nil {
			t.Errorf("cut off at %d it is a code", i)
		}
	}
	for _, text := range []string{"", " ", "hodi", strings.Repeat("A", 2000), "schlüssel"} {
		if _, err := enrol.ParseCode(text); err == nil {
			t.Errorf("%q is a code", text)
		}
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add(enrol.Code{Edge: "hooks.example.co.ke:443", Secret: make([]byte, 10), Made: time.Unix(1790933399, 0)}.String())
	f.Add("06P6A-5CWG9")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := enrol.ParseCode(text)
		if err != nil {
			return
		}
		again, err := enrol.ParseCode(c.String())
		if err != nil || again.Edge != c.Edge || again.Pin != c.Pin || !bytes.Equal(again.Secret, c.Secret) {
			t.Fatalf("%+v is written as %q, and that is read as %+v, %v", c, c.String(), again, err)
		}
	})
}

func TestAClockKnowsTheLatestTimeThatItWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is the year 2000
		var c enrol.Clock
		if now := c.Now(); !now.Equal(time.Now()) {
			t.Errorf("told nothing, it says %v", now)
		}
		then := time.Date(2026, 10, 2, 9, 30, 0, 0, time.UTC)
		c.Tell(then)
		c.Tell(then.Add(-time.Hour))
		time.Sleep(time.Hour)
		if now := c.Now(); !now.Equal(then.Add(time.Hour)) {
			t.Errorf("an hour later it says %v", now)
		}
		time.Sleep(40 * 365 * 24 * time.Hour) // the machine's own clock has caught up
		c.Tell(then)
		if now := c.Now(); now.Before(time.Now()) {
			t.Errorf("it says %v, and its own clock %v", now, time.Now())
		}
	})
}
