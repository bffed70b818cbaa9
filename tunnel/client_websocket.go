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
	"strings"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/proxy"

	"github.com/hodihq/hodi/tunnel/wire"
)

const (
	webWithin     = 10 * time.Second // for a try that was answered: there may be a slow proxy in the way
	proxyAnswerTo = 16 << 10         // bytes of a proxy's answer
)

// errStranger is the error of a proxy that does not take our name and password, or wants some.
var errStranger = errors.New("the proxy's name and password are not right")

// errUntaken is the error of an edge that does not take our certificate. TLS tells a client so only afterwards.
var errUntaken = errors.New("the edge does not take this sidecar's certificate")

// untaken has the edge left alone over WebSocket for as long as one that says the same at the end of a link.
func (c *Client) untaken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := time.Now().Add(between(untakenSoonest, untakenLatest)); at.After(c.outlook.proxyAt) {
		c.outlook.proxyAt = at
	}
}

// A proxy that refused a password is asked again after a while, and each time after twice as long: there are some that
// lock an account for a few wrong ones.
const (
	strangerFirst = time.Minute
	strangerMost  = 15 * time.Minute
)

// strange records that a proxy refused our password.
func (c *Client) strange() {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.outlook
	o.strange = min(max(2*o.strange, strangerFirst), strangerMost)
	o.proxyAt = time.Now().Add(o.strange)
}

// proxyWait is how long the proxy has to be left alone.
func (c *Client) proxyWait() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Until(c.outlook.proxyAt)
}

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
		err = fmt.Errorf("tunnel: dial %s over WebSocket: %w", c.web(), err)
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
	over := tls.Client(tcp, c.tls(protocolHTTP))
	if err := over.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	beneath := bluntly{over, tcp}
	once := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return beneath, nil },
		DisableKeepAlives: true,
	}
	defer func() {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" { // an alert, which has no type
			err = fmt.Errorf("%w: %w", errUntaken, err)
		}
	}()
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
	return newWebsocketConn(ws, beneath, over.ConnectionState().PeerCertificates), nil
}

// web is where the edge takes WebSockets.
func (c *Client) web() string { return cmp.Or(c.WebSocket, c.Edge) }

// reach makes the TCP connection.
func (c *Client) reach(ctx context.Context, v *voice) (net.Conn, error) {
	var by *url.URL
	if c.Proxy != nil {
		var err error
		if by, err = c.Proxy(&url.URL{Scheme: "https", Host: c.web()}); err != nil {
			return nil, errors.New("the setting of the proxy makes no sense") // it may have a password in it
		}
	}
	if by == nil {
		tcp, err := c.dialTCP(ctx, c.web())
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
		err = throughSOCKS(ctx, tcp, by.User, c.web())
	case "https":
		over := tls.Client(tcp, &tls.Config{ServerName: by.Hostname(), MinVersion: tls.VersionTLS12})
		through = bluntly{over, tcp}
		if err = over.HandshakeContext(ctx); err != nil {
			break
		}
		fallthrough
	default:
		err = throughHTTP(through, by.User, c.web())
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
func (c *Client) dialTCP(ctx context.Context, address string) (conn net.Conn, err error) {
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err = dial(ctx, "tcp", address)
	defer func() {
		if err == nil {
			conn = counted{conn, c.ledger()}
		}
	}()
	if _, unknown := errors.AsType[*net.DNSError](err); unknown {
		edge, _, _ := net.SplitHostPort(c.Edge)
		host, port, _ := net.SplitHostPort(address)
		c.mu.Lock()
		last, known := c.address.(*net.UDPAddr)
		c.mu.Unlock()
		if known && host == edge {
			return dial(ctx, "tcp", net.JoinHostPort(last.AddrPort().Addr().Unmap().String(), port))
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
	if answer.StatusCode == http.StatusProxyAuthRequired {
		return fmt.Errorf("it answers %s: %w", answer.Status, errStranger)
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
	if _, err = socks.(proxy.ContextDialer).DialContext(ctx, "tcp", edge); err != nil && strings.Contains(err.Error(), "authentication") {
		return fmt.Errorf("%w: %w", err, errStranger) // there is no other way to tell: the error has no type
	}
	return err
}

// connected dials nothing: the connection is there.
type connected struct{ net.Conn }

func (c connected) Dial(string, string) (net.Conn, error) { return c.Conn, nil }

func (c connected) DialContext(context.Context, string, string) (net.Conn, error) { return c.Conn, nil }
