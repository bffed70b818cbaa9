package systemd

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// A port that no socket unit holds is opened by the process, which then gives systemd a copy (FDSTORE=1). systemd hands it
// to the unit's next process, so that a restart refuses nobody there either, and lets go of it when the unit is stopped.
// A port goes by what it was asked for, "listen-tcp-127.0.0.1=8788": what the settings have no more is given back.
const keptPrefix = "listen-"

func keptName(network, address string) string {
	return keptPrefix + network + "-" + strings.Map(func(r rune) rune {
		switch {
		case r == ':': // which stands between names
			return '='
		case r <= ' ' || r > '~':
			return '?'
		}
		return r
	}, address)
}

// Listen is the TCP port that an earlier process of this unit had at the same address, else one that is opened now and
// kept for the next.
func (s *Service) Listen(address string) (net.Listener, error) {
	name := keptName("tcp", address)
	if f := s.kept[name]; f != nil {
		delete(s.kept, name)
		defer f.Close()
		return net.FileListener(f)
	}
	l, err := net.Listen("tcp", address)
	if err != nil && s.giveBack() { // it may have been in the way itself, by another name
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		return nil, err
	}
	if f, ok := l.(*net.TCPListener); ok {
		s.keep(name, f)
	}
	return l, nil
}

// ListenPacket is the same for UDP.
func (s *Service) ListenPacket(address string) (net.PacketConn, error) {
	name := keptName("udp", address)
	if f := s.kept[name]; f != nil {
		delete(s.kept, name)
		defer f.Close()
		return net.FilePacketConn(f)
	}
	c, err := net.ListenPacket("udp", address)
	if err != nil && s.giveBack() {
		c, err = net.ListenPacket("udp", address)
	}
	if err != nil {
		return nil, err
	}
	if f, ok := c.(*net.UDPConn); ok {
		s.keep(name, f)
	}
	return c, nil
}

// keep gives systemd a copy of a port. Without one, the next process opens the port anew, and refuses those who come in between.
func (s *Service) keep(name string, port interface{ File() (*os.File, error) }) {
	if !s.notified {
		return
	}
	f, err := port.File()
	if err != nil {
		return
	}
	defer f.Close()
	_ = sendFile(fmt.Sprintf("FDSTORE=1\nFDNAME=%s", name), f)
}

// giveBack closes what was kept and nobody has asked for, here and at systemd, and reports whether there was anything.
func (s *Service) giveBack() bool {
	if len(s.kept) == 0 {
		return false
	}
	for name, f := range s.kept {
		f.Close()
		s.send("FDSTOREREMOVE=1", "FDNAME="+name)
	}
	clear(s.kept)
	barrier()
	return true
}
