package doctor

import (
	"context"
	"fmt"
	"net"
)

// wantBuffer is what quic-go asks for: room for the packets of a burst, while the process waits for a processor.
const wantBuffer = 7 << 20

// buffers looks how much the kernel keeps of UDP for a process that has no privileges. The doctor may be root, and the
// daemon is not, so what root could force is not asked for.
func buffers(_ context.Context, say func(Finding)) {
	const name = "UDP buffers"
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		say(Finding{Check: name, Verdict: Fail, Found: "there is no UDP on this machine: " + err.Error(), Do: "QUIC needs it. See whether the firewall, or the container that this runs in, forbids it."})
		return
	}
	defer conn.Close()
	_ = conn.SetReadBuffer(wantBuffer) // what came of it is asked below
	_ = conn.SetWriteBuffer(wantBuffer)
	read, write, err := granted(conn)
	if err != nil {
		say(Finding{Check: name, Verdict: Skip, Found: "not known on this system: " + err.Error()})
		return
	}
	say(judgeBuffers(read, write))
}

func judgeBuffers(read, write int) Finding {
	f := Finding{
		Check: "UDP buffers", Verdict: OK,
		Found:   fmt.Sprintf("%s to receive and %s to send (QUIC asks for %s)", size(int64(read)), size(int64(write)), size(wantBuffer)),
		Figures: map[string]float64{"receiveBytes": float64(read), "sendBytes": float64(write), "wantedBytes": wantBuffer},
	}
	if read < wantBuffer || write < wantBuffer {
		f.Verdict, f.Commands = Warn, enlarge
		f.Do = "Packets are lost when many callbacks come at once. Have the kernel grant more: now, and after every restart."
		if len(enlarge) == 0 {
			f.Do = "Packets are lost when many callbacks come at once. See the manual of this system for how to enlarge UDP's socket buffers."
		}
	}
	return f
}

// size writes bytes as people read them.
func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
