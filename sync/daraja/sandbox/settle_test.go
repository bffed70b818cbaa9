package sandbox_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hodihq/hodi/sync/daraja/sandbox"
)

func TestARequestThatWasSettledFromElsewhereFreesItsPhone(t *testing.T) {
	inBubble(t, sandbox.Config{QueryPerMinute: -1}, func(b *bench) {
		id := b.push()
		time.Sleep(5 * time.Second)
		if err := b.box.Settle(id.merchant, "1032"); err != nil {
			b.t.Fatal(err)
		}
		if st := b.state(); len(st.Prompts) != 0 || st.History[0].ResultCode != "1032" {
			b.t.Errorf("the phone shows %+v", st)
		}
		if r := b.query(id.checkout); !strings.Contains(r.body, `"ResultCode":"1032"`) {
			b.t.Errorf("a query answers %s", r.body)
		}
		b.push("Amount", 7) // at once
		if all := b.callbacks(30 * time.Second); len(all) != 0 {
			b.t.Errorf("the sandbox called back itself: %+v", all)
		}
	})
}

func TestAPushWaitsForAPromptThatIsAboutToLeave(t *testing.T) {
	inBubble(t, sandbox.Config{}, func(b *bench) {
		id := b.push()
		time.AfterFunc(100*time.Millisecond, func() {
			if err := b.box.Settle(id.merchant, "0"); err != nil {
				b.t.Error(err)
			}
		})
		b.push("Amount", 7)
	})
}

func TestSettlingWhatHasEndedOrIsNotKnownChangesNothing(t *testing.T) {
	inBubble(t, fast(), func(b *bench) {
		id := b.push()
		time.Sleep(time.Second)
		b.answer("approve")
		if err := b.box.Settle(id.merchant, "1032"); err != nil {
			b.t.Fatal(err)
		}
		if err := b.box.Settle("nobody", "0"); err != nil {
			b.t.Fatal(err)
		}
		if all := b.callbacks(time.Minute); len(all) != 1 || all[0].parsed.ResultCode != "0" {
			b.t.Errorf("callbacks: %+v", all)
		}
	})
}

func TestAPageWhoseNameWasMadeToLeadHereCannotUseThePhone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	box, err := sandbox.Open(t.Context(), sandbox.Config{Listener: listener})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- box.Run(t.Context()) }()
	t.Cleanup(func() {
		<-done
		box.Close()
	})
	for host, want := range map[string]int{"evil.example": 403, "127.0.0.1": 200, "localhost:8789": 200, "[::1]:1": 200} {
		request, _ := http.NewRequest("GET", "http://"+listener.Addr().String()+"/phone/state", strings.NewReader(""))
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("for host %s the phone answers %d, want %d", host, response.StatusCode, want)
		}
	}
}
