package notify

import (
	"fmt"
	"slices"
)

// What is said of each kind. Plain words: who reads them has a shop to run.

func (k Kind) order() int {
	return slices.Index([]Kind{Disk, Ended, Full, Suspect, Silent, Certificate}, k)
}

// whose is whose certificate, or the like, it is.
func (i Item) whose() string {
	if i.Subject == "" {
		return "this edge"
	}
	return i.Subject
}

// headline is what a message is about, of one or of n of the kind.
func (i Item) headline(n int, w writer) string {
	one := n == 1
	still := ""
	if i.State == Still {
		still = "still "
	}
	over := i.State == Over
	switch i.Kind {
	case Silent:
		switch {
		case one && over:
			return i.Subject + " is back"
		case over:
			return fmt.Sprintf("%d shops are back", n)
		case one:
			return fmt.Sprintf("%s is %ssilent", i.Subject, still)
		}
		return fmt.Sprintf("%d shops are %ssilent", n, still)
	case Suspect:
		switch {
		case !one:
			return fmt.Sprintf("callbacks at %d shops are not believed", n)
		case i.Count == 1:
			return fmt.Sprintf("a callback at %s is not believed", i.Subject)
		}
		return fmt.Sprintf("%d callbacks at %s are not believed", i.Count, i.Subject)
	case Disk:
		if over {
			return "the disk of the edge has room again"
		}
		return fmt.Sprintf("the disk of the edge is %sfull", still)
	case Full:
		switch {
		case one && over:
			return "what waits for " + i.Subject + " has room again"
		case over:
			return fmt.Sprintf("what waits for %d shops has room again", n)
		case one:
			return fmt.Sprintf("the edge %shas too much that waits for %s", still, i.Subject)
		}
		return fmt.Sprintf("the edge %shas too much that waits for %d shops", still, n)
	case Certificate, Ended:
		ends := "ends on " + w.date(i.Ends)
		if i.Kind == Ended {
			ends = "has ended"
		}
		switch {
		case i.Ends.IsZero() && !over:
			return fmt.Sprintf("%s has no certificate", i.whose())
		case one && over:
			return fmt.Sprintf("the certificate of %s was renewed", i.whose())
		case over:
			return fmt.Sprintf("%d certificates were renewed", n)
		case one:
			return fmt.Sprintf("the certificate of %s %s", i.whose(), ends)
		case i.Kind == Ended:
			return fmt.Sprintf("%d certificates have ended", n)
		}
		return fmt.Sprintf("%d certificates end soon", n)
	}
	return string(i.Kind)
}

// line is what is said of one thing.
func (i Item) line(w writer) string {
	detail := ""
	if i.Detail != "" {
		detail = " " + i.Detail + "."
	}
	if i.State == Over {
		switch i.Kind {
		case Silent:
			return fmt.Sprintf("%s: back since %s. It was silent from %s, for %s.", i.Subject, w.time(i.Until), w.time(i.Since), span(i.Until.Sub(i.Since)))
		case Certificate, Ended:
			return fmt.Sprintf("%s: since %s.", i.whose(), w.time(i.Until))
		}
		return fmt.Sprintf("%s: since %s. It had none from %s, for %s.", i.whose(), w.time(i.Until), w.time(i.Since), span(i.Until.Sub(i.Since)))
	}
	switch i.Kind {
	case Silent:
		return fmt.Sprintf("%s: since %s, for %s.%s", i.Subject, w.time(i.Since), span(w.now.Sub(i.Since)), detail)
	case Suspect:
		return fmt.Sprintf("%s: %s, the first on %s. No payment was changed.", i.Subject, some(i.Count, "callback"), w.time(i.Since))
	case Certificate, Ended:
		if !i.Ends.IsZero() {
			return fmt.Sprintf("%s: on %s.%s", i.whose(), w.time(i.Ends), detail)
		}
	}
	return fmt.Sprintf("%s: since %s.%s", i.whose(), w.time(i.Since), detail)
}

func some(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// do is what to do, of one or of n of the kind.
func (i Item) do(n int) string {
	if i.State == Over {
		return ""
	}
	shop := i.Subject
	if n > 1 {
		shop = "SHOP"
	}
	switch i.Kind {
	case Silent:
		return fmt.Sprintf("see whether the shop has power and internet. On its machine: hodi status, hodi doctor. Payments go on, and their callbacks wait here. If the shop is closed for good, on this machine: hodi edge revoke %s", shop)
	case Suspect:
		return "on the shop's machine: hodi payments doubtful, and hodi callbacks. Hand out nothing for a payment that M-Pesa itself does not show"
	case Disk:
		return "make room on this machine now: what Safaricom posts while nothing can be stored may be lost. See hodi status"
	case Full:
		return "bring the shop's machine back: when all of its share is taken, the edge has to refuse what Safaricom posts for it. On this machine: hodi edge endpoints"
	case Certificate, Ended:
		if i.Subject == "" {
			return "renew it: without it Safaricom's callbacks do not come. On this machine: hodi status, and the edge's log says what keeps it from being renewed"
		}
		return fmt.Sprintf("a sidecar renews it by itself when it reaches the edge. On the shop's machine: hodi status, hodi doctor. When it has ended for 90 days: hodi edge invite %s", shop)
	}
	return ""
}
