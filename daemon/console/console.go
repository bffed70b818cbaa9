// Package console is the operator's way into a daemon that runs: a unix socket in its state folder, which only the user whose
// daemon it is may open. Who can read that folder has the keys anyway, so there is no secret besides.
package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	socket    = "admin.sock"
	whoHeader = "Hodi-Operator"
)

// Listen makes the socket in a state folder that the caller has locked. A socket is made with the permissions that the
// umask leaves, so it is made behind a door that is closed, and comes out when they are right. What is there under its
// name was left by a process that was killed.
func Listen(dir string) (net.Listener, error) {
	hall := filepath.Join(dir, "admin.d") // no longer a path than the socket's: there is little room for one
	if err := os.RemoveAll(hall); err != nil {
		return nil, err
	}
	if err := os.Mkdir(hall, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(hall)
	inside := filepath.Join(hall, "s")
	l, err := net.Listen("unix", inside)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its name changes
	path := filepath.Join(dir, socket)
	if err = os.Chmod(inside, 0o600); err == nil {
		err = os.Rename(inside, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return &listener{Listener: l, path: path}, nil
}

// listener takes its socket away when it is closed.
type listener struct {
	net.Listener
	path string
	once sync.Once
}

func (l *listener) Close() error {
	l.once.Do(func() { os.Remove(l.path) })
	return l.Listener.Close()
}

// A Refusal is what a daemon understood and did not grant.
type Refusal struct {
	Status int
	Detail string
}

func (r *Refusal) Error() string { return r.Detail }

// ErrAway is that no daemon answers.
var ErrAway = errors.New("no daemon answers")

// Ask asks the daemon whose state folder dir is. The body may be nil. Who is what the operator is called in the audit: the
// socket lets in nobody who could not write there whatever they like, so it is taken as it is said.
func Ask(ctx context.Context, dir, who, method, path string, body, into any) error {
	at := filepath.Join(dir, socket)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", at)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Timeout: time.Minute, Transport: transport}
	var text strings.Builder
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return fmt.Errorf("console: ask: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://daemon"+path, strings.NewReader(text.String()))
	if err != nil {
		return fmt.Errorf("console: ask: %w", err)
	}
	request.Header.Set(whoHeader, who)
	response, err := client.Do(request)
	if err != nil {
		var unsent *net.OpError
		if errors.As(err, &unsent) && unsent.Op == "dial" {
			return fmt.Errorf("%w at %s", ErrAway, at)
		}
		return fmt.Errorf("console: ask: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		var problem struct{ Detail string }
		_ = json.NewDecoder(response.Body).Decode(&problem)
		if problem.Detail == "" {
			problem.Detail = response.Status
		}
		return &Refusal{response.StatusCode, problem.Detail}
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("console: ask: %w", err)
	}
	return nil
}

// Who is the operator that a request on the socket comes from, for the audit.
func Who(r *http.Request) string {
	name := strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return -1
	}, r.Header.Get(whoHeader))
	if len(name) > 64 {
		name = strings.ToValidUTF8(name[:64], "")
	}
	return cmp.Or(name, "operator")
}
