package main

import (
	"fmt"
	"io"
	"time"
)

// What the edge took and no sidecar will ever have is told of at both ends: there may be money in it.

// gapFor is how long that is a reason to be not well. A gap is listed for as long as the sidecar knows it.
const gapFor = 7 * 24 * time.Hour

// sidecarGap is callbacks that never came.
type sidecarGap struct {
	Callbacks uint64    // how many; 0: nobody knows
	From      time.Time // zero: nobody knows
	To, Found time.Time
}

// between says when the edge took them.
func (g sidecarGap) between() string {
	const form = "2006-01-02 15:04"
	to := g.To.Add(time.Minute - 1).Truncate(time.Minute).Local().Format(form) // the whole minute behind it
	if g.From.IsZero() {
		return "before " + to
	}
	from := g.From.Local().Format(form)
	if from[:len("2006-01-02")] == to[:len("2006-01-02")] {
		to = to[len("2006-01-02 "):]
	}
	return "between " + from + " and " + to
}

// gaps tells of those that somebody has still to look after.
func (h *health) gaps(list []sidecarGap, now time.Time) {
	for _, g := range list {
		if now.Sub(g.Found) >= gapFor {
			continue
		}
		what := fmt.Sprintf("%s, delivered by Safaricom %s, never came here: the edge has them no more", callbacksText(g.Callbacks), g.between())
		if g.Callbacks == 0 {
			what = fmt.Sprintf("the edge's journal was lost: what Safaricom delivered %s, and had not come here yet, is gone", g.between())
		}
		h.wrong("%s. Daraja is asked about every payment without a result; compare the rest with M-Pesa's statement of that time", what)
	}
}

// writeGaps lists the newest of them.
func writeGaps(w io.Writer, list []sidecarGap) {
	const most = 3
	for i := len(list) - 1; i >= max(0, len(list)-most); i-- {
		item(w, "never came", callbacksText(list[i].Callbacks)+", delivered "+list[i].between())
	}
	if older := len(list) - most; older > 0 {
		item(w, "", fmt.Sprintf("and %d times before", older))
	}
}

func callbacksText(n uint64) string {
	switch n {
	case 0:
		return "perhaps some callbacks"
	case 1:
		return "1 callback"
	}
	return grouped(n) + " callbacks"
}

// mishap is what an edge's disk did to its journal: a line of the audit.
type mishap struct {
	Time   time.Time `json:"time"`
	Act    string    `json:"act"`
	Detail string    `json:"detail"`
}

// mishaps tells of them for as long as the edge lists them.
func (h *health) mishaps(list []mishap) {
	for _, m := range list {
		h.wrong("%s (%s): %s. Each sidecar's own status says from when to when it misses callbacks, if it does", m.Act, m.Time.Local().Format("2006-01-02 15:04"), m.Detail)
	}
}
