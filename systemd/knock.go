package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// answerWithin is how long who knocks waits at each of two things: to be let in, and to hear something.
const answerWithin = 4 * time.Second

// Knock connects to a TCP port of this process as anybody would, says something, and waits for whatever is said to it. To be
// turned away is an answer too: somebody was at the door.
func Knock(ctx context.Context, port net.Addr, words string) error {
	host, number, err := net.SplitHostPort(port.String())
	if err != nil {
		return fmt.Errorf("systemd: knock: %w", err)
	}
	hosts := []string{host}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		hosts = []string{"127.0.0.1", "::1"} // at whichever the port is reached
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var c net.Conn
	for _, host := range hosts {
		if c, err = new(net.Dialer).DialContext(ctx, port.Network(), net.JoinHostPort(host, number)); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("systemd: knock: %w", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(answerWithin))
	if _, err := c.Write([]byte(words)); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("systemd: knock: %w", err)
	}
	var first [1]byte
	if _, err := c.Read(first[:]); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("systemd: knock: nobody answers at %s", port)
	}
	return nil
}
