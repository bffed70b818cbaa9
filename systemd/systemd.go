// Package systemd is what a daemon of ours and systemd have to say to each other: the ports that systemd holds for it,
// whether it is ready, whether it is alive, and in one line how it is. Beside it are the units themselves.
//
// The protocol is sd_notify(3) and sd_listen_fds(3), spoken by github.com/coreos/go-systemd, but for the handing over of ports
// (ports.go), which that does not speak. Where there is no systemd, none of it does anything.
package systemd

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Service is this process as systemd knows it.
type Service struct {
	stream   net.Listener
	datagram net.PacketConn
	kept     map[string]*os.File // ports that an earlier process of this unit gave to systemd, by name
	notified bool                // somebody hears what is said
	watchdog time.Duration       // 0: nobody watches

	mu     sync.Mutex
	ready  bool
	pulse  string // what Watch has found
	note   string // what else there is to say
	status string // what was said last
}

// FromEnvironment takes over what systemd gave to this process, so that no child of it does. It is called once.
func FromEnvironment() (_ *Service, err error) {
	s := &Service{notified: os.Getenv("NOTIFY_SOCKET") != "", kept: map[string]*os.File{}}
	defer func() {
		if err != nil {
			s.release()
			err = fmt.Errorf("systemd: %w", err)
		}
	}()
	for _, f := range activation.Files(true) {
		if strings.HasPrefix(f.Name(), keptPrefix) {
			s.kept[f.Name()] = f
			continue
		}
		if e := s.take(f); e != nil {
			err = errors.Join(err, fmt.Errorf("socket %s: %w", f.Name(), e))
		}
		f.Close() // taken as a copy
	}
	if err != nil {
		return nil, err
	}
	if s.watchdog, err = daemon.SdWatchdogEnabled(true); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Service) take(f *os.File) error {
	if l, err := net.FileListener(f); err == nil {
		if s.stream != nil {
			l.Close()
			return errors.New("one port for TCP was to come, and this is another: say which in the socket unit")
		}
		s.stream = l
		return nil
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return errors.New("it is neither TCP nor UDP")
	}
	if s.datagram != nil {
		c.Close()
		return errors.New("one port for UDP was to come, and this is another: say which in the socket unit")
	}
	s.datagram = c
	return nil
}

func (s *Service) release() {
	if s.stream != nil {
		s.stream.Close()
	}
	if s.datagram != nil {
		s.datagram.Close()
	}
	for _, f := range s.kept {
		f.Close()
	}
}

// Supervised reports whether somebody is told how this process is, and starts it anew when it ends.
func (s *Service) Supervised() bool { return s.notified }

// Stream is the TCP port that systemd holds; nil: none. To close it does not close the port.
func (s *Service) Stream() net.Listener { return s.stream }

// Datagram is the UDP port that systemd holds; nil: none.
func (s *Service) Datagram() net.PacketConn { return s.datagram }

// Note adds a sentence to the status, in place of the one before; "" takes it back.
func (s *Service) Note(sentence string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note = sentence
	s.say()
}

// Reload does what a reload is, between telling systemd that it begins and that it is over. What it could not do, as one
// sentence, stands in the status until the next.
func (s *Service) Reload(reload func() error) error {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	if ready { // else the word that it is over would say what is not true
		s.send(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
	}
	err := reload()
	note := ""
	if err != nil {
		note = "The settings on disk are not good: " + err.Error()
	}
	s.Note(note)
	if ready {
		s.send(daemon.SdNotifyReady)
	}
	return err
}

// found takes what Watch has found.
func (s *Service) found(ready bool, pulse string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulse = pulse
	s.say()
	if ready && !s.ready {
		s.ready = true
		s.send(daemon.SdNotifyReady)
	}
}

// say sends the status if it is another. s.mu is held.
func (s *Service) say() {
	status := strings.TrimSpace(s.pulse + " " + s.note)
	if status = cmp.Or(status, "Starts."); status != s.status {
		s.status = status
		s.send("STATUS=" + strings.Join(strings.Fields(status), " ")) // a line is a message of its own
	}
}

// send tells systemd. That it could not be told is nothing that anybody here could mend.
func (s *Service) send(lines ...string) {
	if s.notified {
		_, _ = daemon.SdNotify(false, strings.Join(lines, "\n"))
	}
}
