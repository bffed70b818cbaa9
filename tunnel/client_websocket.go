package tunnel

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/proxy"

	"github.com/hodihq/hodi/tunnel/wire"
)

const (
	webWithin     = 10 * time.Second // for a try that was answered: there may be a slow proxy in the way
	proxyAnswerTo = 16 << 10         // bytes of a proxy's answer
)

// tryWebSocket makes one TCP connection, through a proxy where there is one, and on it the handshakes of TLS and
// WebSocket. Nobody but the edge can finish them: what a proxy or a captive portal answers is not believed.
func (c *Client) tryWebSocket(ctx context.Context, v *voice, within time.Duration) (_ conn, err error) {
	ctx, giveUp := patiently(ctx, v, within)
	defer giveUp()
	ctx, cancel := context.WithTimeoutCause(ctx, webWithin, errSilent)
	defer cancel()
	defer func() {
		if err == nil {
			return
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		err = fmt.Errorf("tunnel: dial %s over WebSocket: %w", c.Edge, err)
	}()

	tcp, err := c.reach(ctx, v)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			tcp.Close()
		}
	}()
	stop := whenDone(ctx, func() { tcp.Close() })
	defer stop()
	conf := clientTLS(c.TLS)
	conf.NextProtos = []string{"http/1.1"}
	over := tls.Client(tcp, conf)
	if err := over.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	beneath := bluntly{over, tcp}
	once := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return beneath, nil },
		DisableKeepAlives: true,
	}
	ws, _, err := websocket.Dial(ctx, "http://"+wire.ServerName+wire.Path, &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport:     once,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, err
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return newWebsocketConn(ws, beneath), nil
}

// reach makes the TCP connection.
func (c *Client) reach(ctx context.Context, v *voice) (net.Conn, error) {
	var by *url.URL
	if c.Proxy != nil {
		var err error
		if by, err = c.Proxy(&url.URL{Scheme: "https", Host: c.Edge}); err != nil {
			return nil, errors.New("the setting of the proxy makes no sense") // it may have a password in it
		}
	}
	if by == nil {
		tcp, err := c.dialTCP(ctx, c.Edge)
		if err == nil {
			v.hear()
		}
		return tcp, err
	}
	port, known := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[by.Scheme]
	if !known {
		return nil, fmt.Errorf("proxy %s: %s is no kind of proxy that is known", by.Host, by.Scheme)
	}
	at := net.JoinHostPort(by.Hostname(), cmp.Or(by.Port(), port))
	tcp, err := c.dialTCP(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", at, err)
	}
	v.hear()
	stop := whenDone(ctx, func() { tcp.Close() })
	through := tcp
	switch by.Scheme {
	case "socks5", "socks5h":
		err = throughSOCKS(ctx, tcp, by.User, c.Edge)
	case "https":
		over := tls.Client(tcp, &tls.Config{ServerName: by.Hostname(), MinVersion: tls.VersionTLS12})
		through = bluntly{over, tcp}
		if err = over.HandshakeContext(ctx); err != nil {
			break
		}
		fallthrough
	default:
		err = throughHTTP(through, by.User, c.Edge)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		tcp.Close()
		return nil, fmt.Errorf("proxy %s: %w", at, err)
	}
	return through, nil
}

// dialTCP connects. While the resolver is out of order, the last address known of the edge has to do.
func (c *Client) dialTCP(ctx context.Context, address string) (net.Conn, error) {
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", address)
	if _, unknown := errors.AsType[*net.DNSError](err); unknown && address == c.Edge {
		c.mu.Lock()
		last := c.address
		c.mu.Unlock()
		if last != nil {
			return dial(ctx, "tcp", last.String())
		}
	}
	return conn, err
}

// throughHTTP asks a proxy for a way to the edge, whose name it has to resolve.
func throughHTTP(conn net.Conn, who *url.Userinfo, edge string) error {
	header := make(http.Header)
	if who != nil {
		password, _ := who.Password()
		header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(who.Username()+":"+password)))
	}
	ask := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: edge}, Host: edge, Header: header}
	if err := ask.Write(conn); err != nil {
		return err
	}
	// Behind its answer comes nothing that the edge was not asked for, so what is buffered is the answer's.
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, proxyAnswerTo)), ask)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", answer.Status)
	}
	return nil
}

func throughSOCKS(ctx context.Context, conn net.Conn, who *url.Userinfo, edge string) error {
	var auth *proxy.Auth
	if who != nil {
		password, _ := who.Password()
		auth = &proxy.Auth{User: who.Username(), Password: password}
	}
	socks, err := proxy.SOCKS5("tcp", conn.RemoteAddr().String(), auth, connected{conn})
	if err != nil {
		return err
	}
	_, err = socks.(proxy.ContextDialer).DialContext(ctx, "tcp", edge)
	return err
}

// connected dials nothing: the connection is there.
type connected struct{ net.Conn }

func (c connected) Dial(string, string) (net.Conn, error) { return c.Conn, nil }

func (c connected) DialContext(context.Context, string, string) (net.Conn, error) { return c.Conn, nil }
