package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// asking is how Daraja answers a sidecar that asks what became of payments.
type asking struct {
	Waiting int
	Silent  []struct {
		Shortcodes  []string
		Since, Next time.Time
		Times       int
		Because     string
	}
}

// silentFor is how long Daraja may say nothing before that is a reason to be not well: it has its moments.
const silentFor = 5 * time.Minute

func (h *health) asking(a asking, now time.Time) {
	for _, s := range a.Silent {
		if d := now.Sub(s.Since); d >= silentFor {
			h.wrong("Daraja has not answered for %s when it was asked%s: payments whose callback is lost stay unknown so long. It is asked again by itself. It said: %s", ago(d), ofShortcodes(s.Shortcodes), strings.TrimPrefix(plain(s.Because), "daraja: "))
		}
	}
}

func writeAsking(w io.Writer, a asking) {
	for _, s := range a.Silent {
		item(w, "Daraja", fmt.Sprintf("does not answer since %s%s (asked %s in vain; again at %s): %s",
			s.Since.Local().Format("15:04"), ofShortcodes(s.Shortcodes), times(s.Times), s.Next.Local().Format("15:04:05"), strings.TrimPrefix(plain(s.Because), "daraja: ")))
	}
	if a.Waiting > 0 {
		item(w, "to be asked", fmt.Sprintf("%s wait until Daraja may be asked about them", plural(a.Waiting, "payment")))
	}
}

func ofShortcodes(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " with " + plain(strings.Join(names, ", "))
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return grouped(uint64(n)) + " times"
}
