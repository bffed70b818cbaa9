package edge_test

import (
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/edge"
)

// Where a proxy and the edge disagree about where a request ends, what the one takes for a body the other takes for a
// request of somebody else. So whatever is ambiguous is the last on its connection, or refused.
func TestNoRequestIsFoundInAnother(t *testing.T) {
	w := start(t, edge.Config{})
	at := path(w.callback)
	smuggled := "POST " + at + "/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	for name, c := range map[string]struct{ request, want string }{
		"a length, and chunks that end before it": {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, "200"},
		"a length, and chunks that end after it":  {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + smuggled, "200"},
		"two lengths":                             {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 300\r\n\r\n{}" + smuggled, "400"},
		"two lengths in a line":                   {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 300\r\n\r\n{}" + smuggled, "400"},
		"a length with a sign":                    {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}" + smuggled, "400"},
		"a length below nothing":                  {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\n{}" + smuggled, "400"},
		"a length in hex":                         {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\n{}" + smuggled, "400"},
		"a length that no number holds":           {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551618\r\n\r\n{}" + smuggled, "400"},
		"a space before the colon":                {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n{}" + smuggled, "400"},
		"chunks by another name":                  {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled, "501"},
		"chunks and something else":               {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + smuggled, "501"},
		"chunks twice":                            {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, "501"},
		"a chunk whose length no number holds":    {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n" + smuggled, "400"},
		"a chunk that is longer than it says":     {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n" + smuggled, "400"},
		"no end of the last chunk":                {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + smuggled, "400"},
		"a line that goes on":                     {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: 1\r\n Content-Length: 2\r\n\r\n" + smuggled, "200 or 400"},
		"two hosts":                               {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 2\r\n\r\n{}" + smuggled, "400"},
		"no host":                                 {"POST " + at + "/1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" + smuggled, "400"},
		"a nothing in a header":                   {"POST " + at + "/1 HTTP/1.1\r\nHost: x\r\nX: \x00\r\nContent-Length: 2\r\n\r\n{}" + smuggled, "400"},
		"a body for nobody":                       {"POST /c/none HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" + smuggled, "404"},
		"a version that there is not":             {"POST " + at + "/1 HTTP/1.9\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}" + smuggled, "200 or 505 or 400"},
	} {
		if name == "a line that goes on" || name == "a version that there is not" {
			c.request = strings.TrimSuffix(c.request, smuggled) // these are not ambiguous, only odd: one answer is all that is asked
		}
		answer := w.raw(c.request)
		if n := strings.Count(answer, "HTTP/1.1 "); n != 1 {
			t.Errorf("%s: %d answers, want one:\n%s", name, n, answer)
			continue
		}
		if status := strings.Fields(answer)[1]; !strings.Contains(c.want, status) {
			t.Errorf("%s: answered %s, want %s", name, status, c.want)
		}
	}
	for _, e := range w.stored("duka") {
		if e.Ref == "smuggled" {
			t.Error("a request was found in another")
		}
	}
}
