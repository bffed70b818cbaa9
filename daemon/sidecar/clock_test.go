package sidecar

import (
	"testing"
	"time"
)

func TestAWrongClockIsNamedByHowFarAndWhichWay(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		0: "", 59 * time.Second: "", -59 * time.Second: "",
		10 * time.Minute:      "this machine's clock is 10 minutes behind the edge's",
		-3 * time.Hour:        "this machine's clock is 3 hours ahead of the edge's",
		24 * 9800 * time.Hour: "this machine's clock is 9800 days behind the edge's", // a battery that is dead: it is the year 2000
	} {
		if got := wrongBy(ahead); got != want {
			t.Errorf("an edge that is %v ahead: %q, want %q", ahead, got, want)
		}
	}
}
