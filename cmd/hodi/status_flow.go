package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hodihq/hodi/daemon/room"
)

// What is under way: how old the oldest callback is that waits at each of the three places between Safaricom and the app,
// what the link has cost, and how much room there is.

// writeUndelivered says what waits at the edge, here, and at the app: in one line if nothing does.
func (is *sidecarStatus) writeUndelivered(w io.Writer, now time.Time) {
	atEdge, here, atApp := "", "", ""
	switch l := is.Link; {
	case l == nil:
	case l.Undelivered == nil:
		atEdge = "not known without a link"
	case *l.Undelivered > 0:
		atEdge = callbacksText(*l.Undelivered) + " of before the link, still to come"
		if !l.Reached.IsZero() {
			atEdge += ", all younger than " + ago(now.Sub(l.Reached))
		}
	}
	if is.Held != nil {
		here = fmt.Sprintf("%s until Daraja was asked, the oldest for %s", callbacksText(is.Held.Callbacks), ago(now.Sub(is.Held.Oldest)))
	}
	if f := is.Forward; f != nil && f.Waiting > 0 {
		atApp = f.waiting(now)
	}
	if atEdge+here+atApp == "" {
		where := []string{"here"}
		if is.Link != nil {
			where = append([]string{"at the edge"}, where...)
		}
		if is.Forward != nil {
			where = append(where, "at the app")
		}
		item(w, "undelivered", "nothing "+strings.Join(where, ", nor "))
		return
	}
	name := "undelivered"
	for _, place := range [][2]string{{"at the edge", atEdge}, {"here", here}, {"at the app", atApp}} {
		if place[1] != "" {
			item(w, name, place[0]+": "+place[1])
			name = ""
		}
	}
}

// bytesToday is what the link has cost since midnight, or since the sidecar was started.
type bytesToday struct {
	In, Out, Budget int64
	Since           time.Time
}

func (b *bytesToday) text() string {
	text := megabytes(b.In+b.Out) + ": " + megabytes(b.In) + " in, " + megabytes(b.Out) + " out"
	if since := b.Since.Local(); since.Minute() != 0 || since.Hour() != 0 {
		text += ", since " + since.Format("15:04")
	}
	if b.Budget > 0 {
		text += fmt.Sprintf("; a quiet day may cost %s", megabytes(b.Budget))
	}
	return text
}

// megabytes writes bytes as they are sold.
func megabytes(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e7:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	case n >= 1e6:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/1e6), ".0") + " MB"
	}
	return fmt.Sprintf("%.0f kB", float64(n)/1e3)
}

// roomText is how full the disk is that a daemon keeps its state on.
func roomText(r *room.State) string {
	return fmt.Sprintf("%s of %s free; the database has %s", bytesText(r.Free), bytesText(r.Size), bytesText(r.Database))
}

// room tells of a disk that is almost full.
func (h *health) room(of, data string, r *room.State) {
	if r != nil && r.Low {
		h.wrong("the disk that the %s keeps its state on (%s) has %s left of %s: make room, or callbacks can soon not be stored", of, data, bytesText(r.Free), bytesText(r.Size))
	}
}

// skewText is how far two clocks are apart.
func skewText(ms int64) string {
	if ms = max(ms, -ms); ms < 1000 {
		return fmt.Sprintf("%d ms", ms)
	}
	return ago(time.Duration(ms) * time.Millisecond)
}
