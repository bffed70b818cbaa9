package doctor

import (
	"cmp"
	"fmt"
	"time"

	"github.com/hodihq/hodi/daemon/sidecar"
)

// By how much a clock may differ from the edge's, before sidecar.ClockOff, which the sidecar itself complains of.
const (
	clockLoose = 5 * time.Second
	clockSame  = 100 * time.Millisecond // the way there takes as long
)

var setClock = []string{"sudo timedatectl set-ntp true", "timedatectl status"}

// clock judges this machine's clock by the edge's, if that was heard (else it says unknown), and by whether something keeps
// it right.
func clock(unknown string, edge time.Time, ahead time.Duration) Finding {
	kept, known := synchronised()
	return judgeClock(unknown, edge, ahead, kept, known)
}

func judgeClock(unknown string, edge time.Time, ahead time.Duration, kept, known bool) Finding {
	f := Finding{Check: "clock", Verdict: OK}
	f.Found = cmp.Or(unknown, "it shows "+time.Now().UTC().Format("2006-01-02 15:04:05")+" UTC")
	if !edge.IsZero() {
		way := "behind"
		if ahead < 0 {
			way = "ahead of"
		}
		f.Found = fmt.Sprintf("%s %s the edge's", span(ahead.Abs()), way)
		if ahead.Abs() < clockSame {
			f.Found = "the same as the edge's"
		}
		f.Figures = map[string]float64{"aheadSeconds": ahead.Seconds()}
	}
	switch {
	case !known:
	case kept:
		f.Found += "; it is synchronised"
	default:
		f.Found += "; nothing synchronises it"
	}
	switch {
	case ahead.Abs() >= sidecar.ClockOff:
		f.Verdict = Fail
		f.Do = "Days in the books, today at the till, and how long prompts last go by it. Set it, and have it kept right; if that takes too long, or there is no time server, set it by hand."
		f.Commands = append(setClock[:len(setClock):len(setClock)], fmt.Sprintf("sudo date -u -s '%s'", edge.UTC().Format("2006-01-02 15:04:05")))
	case ahead.Abs() >= clockLoose:
		f.Verdict, f.Do, f.Commands = Warn, "Have it kept right.", setClock
	case known && !kept:
		f.Verdict, f.Do, f.Commands = Warn, "It is right today, and will drift. Have it kept right.", setClock
		if edge.IsZero() {
			f.Do = "It will drift. Have it kept right."
		}
	}
	return f
}

// span is a time as people read it.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return milli(d)
}

func milli(d time.Duration) string { return fmt.Sprintf("%.3g ms", d.Seconds()*1000) }
