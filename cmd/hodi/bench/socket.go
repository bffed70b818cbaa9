package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// socket is the reading end of a WebSocket, with as little work as there can be: it shares the processors with what is
// measured, and in thousands their memory.
type socket struct {
	conn net.Conn
	r    *bufio.Reader
}

// The opcodes of frames (RFC 6455, section 5.2).
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// dialSocket opens one. Key is the app's; "" for a session's.
func dialSocket(ctx context.Context, host, path, key string, buffer int) (*socket, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	authorization := ""
	if key != "" {
		authorization = "Authorization: Bearer " + key + "\r\n"
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aG9kaSBpcyB0aGVyZQo9PQ==\r\n%s\r\n", path, host, authorization)
	s := &socket{conn, bufio.NewReaderSize(conn, buffer)}
	if err == nil {
		var answer *http.Response
		if answer, err = http.ReadResponse(s.r, nil); err == nil && answer.StatusCode != http.StatusSwitchingProtocols {
			err = fmt.Errorf("the sidecar answers %s", answer.Status)
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// next returns the next message; it is good until the one after. Pings are answered.
func (s *socket) next() ([]byte, error) {
	for {
		head, err := s.r.Peek(2)
		if err != nil {
			return nil, err
		}
		op, size, skip := head[0]&0xf, int(head[1]&0x7f), 2
		if size == 126 {
			if head, err = s.r.Peek(4); err != nil {
				return nil, err
			}
			size, skip = int(binary.BigEndian.Uint16(head[2:])), 4
		}
		if size == 127 || skip+size > s.r.Size() {
			return nil, errors.New("bench: a frame is larger than expected")
		}
		frame, err := s.r.Peek(skip + size)
		if err != nil {
			return nil, err
		}
		body := frame[skip:]
		switch op {
		case opText:
			s.r.Discard(len(frame))
			return body, nil
		case opPing: // the mask that a client must use may be zeros, which leaves the bytes as they are
			pong := append([]byte{0x80 | opPong, 0x80 | byte(size), 0, 0, 0, 0}, body...)
			if _, err := s.conn.Write(pong); err != nil {
				return nil, err
			}
		case opClose:
			return nil, io.EOF
		}
		s.r.Discard(len(frame))
	}
}
