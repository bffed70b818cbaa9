package edge

import (
	"cmp"
	"context"
	"crypto/subtle"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/hodihq/hodi/tunnel"
	"github.com/hodihq/hodi/tunnel/enrol"
	"github.com/hodihq/hodi/tunnel/wire"
)

// How a shop gets in, and how it is put out again. An operator makes an invite, whose code is carried to the shop; the
// sidecar there shows it and is given a certificate for a key of its own. From then on the endpoint is that key's: it renews its
// certificate with the one it has, until it is revoked, or another invite of the endpoint is used, by another machine.

// DefaultInviteLife is how long a join code is good if nobody says otherwise, and MaxInviteLife how long one may be at most.
const (
	DefaultInviteLife = time.Hour
	MaxInviteLife     = 7 * 24 * time.Hour
)

// Invitation is a join code as it is told, once.
type Invitation struct {
	Endpoint string    `json:"endpoint"`
	Code     string    `json:"code"` // a secret
	Expires  time.Time `json:"expires"`
	Edge     string    `json:"edge"` // where the code says that the edge is
	Callback string    `json:"callback"`
	New      bool      `json:"new"` // the endpoint was made with it
}

// invite is what is kept of one: an endpoint has one at most.
type invite struct {
	sum              [32]byte // enrol.SecretSum
	endpoint         string
	created, expires time.Time
	used, revoked    time.Time
	device           enrol.Device // that used it
}

// Why a join code is not taken. Who has the very secret may know; who guesses learns only the first.
const (
	codeUnknown = "this join code is not known here, or another one was made since"
	codeUsed    = "this join code was used already"
	codeRevoked = "this join code was revoked"
	codeExpired = "this join code has expired"

	sidecarUnknown  = "this sidecar is not known here: it has to join"
	sidecarReplaced = "another machine has joined in place of this sidecar"
	sidecarRevoked  = "this sidecar was revoked"
	keyRevoked      = "this sidecar's key was revoked: remove join.key from its data folder, and join with another"
)

// Invite makes a join code for an endpoint, and the endpoint if there is none of this name. It takes the place of an earlier
// one. address is where the shop reaches this edge; if empty, the host of PublicURL and the port of UDP. who is for the audit.
func (e *Edge) Invite(ctx context.Context, who, endpoint, address string, life time.Duration) (Invitation, error) {
	if life == 0 {
		life = DefaultInviteLife
	}
	if life < 0 || life > MaxInviteLife {
		return Invitation{}, fmt.Errorf("edge: invite: %w: a join code is good for %v at most", errInvalid, MaxInviteLife)
	}
	address, err := e.address(address)
	if err != nil {
		return Invitation{}, fmt.Errorf("edge: invite: %w", err)
	}
	code := enrol.Code{Edge: address, Pin: wire.PinOf(e.identity.ca), Secret: enrol.NewSecret(), Made: time.Now()}
	registered, made, err := e.directory.ensure(ctx, who, endpoint)
	if err != nil {
		return Invitation{}, fmt.Errorf("edge: invite: %w", err)
	}
	i, err := e.directory.invite(ctx, who, endpoint, enrol.SecretSum(code.Secret), life)
	if err != nil {
		return Invitation{}, fmt.Errorf("edge: invite: %w", err)
	}
	e.log.Info("invite made", "endpoint", endpoint, "expires", i.expires)
	return Invitation{Endpoint: endpoint, Code: code.String(), Expires: i.expires, Edge: address, Callback: registered.CallbackURL, New: made}, nil
}

// address is where sidecars reach this edge.
func (e *Edge) address(given string) (string, error) {
	if given != "" {
		host, port, err := net.SplitHostPort(given)
		if err != nil || host == "" || port == "" {
			return "", fmt.Errorf("%w: %q is no address of an edge: write HOST:PORT", errInvalid, given)
		}
		return given, nil
	}
	_, port, err := net.SplitHostPort(e.config.UDP.LocalAddr().String())
	if err != nil {
		return "", err
	}
	u, err := url.Parse(e.config.PublicURL)
	if err != nil {
		return "", err
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return "", fmt.Errorf("%w: say where the shop reaches this machine: --edge HOST:%s", errInvalid, port)
	}
	return net.JoinHostPort(host, port), nil
}

// Uninvite revokes the join code of an endpoint that was not used.
func (e *Edge) Uninvite(ctx context.Context, who, endpoint string) error {
	if err := e.directory.uninvite(ctx, who, endpoint); err != nil {
		return fmt.Errorf("edge: uninvite: %w", err)
	}
	e.log.Warn("invite revoked", "endpoint", endpoint)
	return nil
}

// Revoke puts the sidecar of an endpoint out: its link ends at once, and its certificate is never taken again. The endpoint
// stays, with its addresses: what Safaricom posts there is kept for the sidecar that joins next.
func (e *Edge) Revoke(ctx context.Context, who, endpoint string) error {
	if err := e.directory.revoke(ctx, who, endpoint); err != nil {
		return fmt.Errorf("edge: revoke: %w", err)
	}
	e.directory.audit.expect(ctx, endpoint)
	e.tunnel.Cut(&tunnel.Refusal{Endpoint: endpoint, Reason: sidecarRevoked})
	e.log.Warn("sidecar revoked", "endpoint", endpoint)
	return nil
}

// Admit gives a certificate to a sidecar in the same process, without a join code: whoever can call it could make one. The
// endpoint is made if there is none of this name.
func (e *Edge) Admit(ctx context.Context, who, endpoint string, request []byte) (*wire.Issued, error) {
	if _, _, err := e.directory.ensure(ctx, who, endpoint); err != nil {
		return nil, fmt.Errorf("edge: admit: %w", err)
	}
	issued, err := e.give(ctx, who, endpoint, request, nil)
	if err != nil {
		return nil, fmt.Errorf("edge: admit: %w", err)
	}
	return issued, nil
}

// issue answers a sidecar that asks for a certificate: the tunnel's Issue.
func (e *Edge) issue(ctx context.Context, remote string, peer *x509.Certificate, request wire.Frame) (*wire.Issued, error) {
	switch r := request.(type) {
	case *wire.Join:
		i, err := e.directory.invited(r.Secret)
		if err != nil {
			return nil, err
		}
		return e.give(ctx, remote, i.endpoint, r.Request, &i)
	case *wire.Renew:
		return e.renew(ctx, peer, r.Request)
	}
	return nil, fmt.Errorf("edge: %v is no request", request.Type())
}

// give makes a certificate for a key that the endpoint then belongs to. by is the invite that allows it.
func (e *Edge) give(ctx context.Context, who, endpoint string, request []byte, by *invite) (*wire.Issued, error) {
	parsed, device, err := enrol.ReadRequest(request, endpoint)
	if err != nil {
		return nil, &tunnel.Refusal{Endpoint: endpoint, Reason: err.Error()}
	}
	now := time.Now()
	der, err := enrol.Issue(e.identity.ca, e.identity.key, endpoint, parsed, now)
	if err != nil {
		return nil, err
	}
	replaced, err := e.directory.admit(ctx, who, endpoint, device, now.Add(enrol.Life), by)
	if err != nil {
		return nil, err
	}
	if replaced {
		e.tunnel.Cut(&tunnel.Refusal{Endpoint: endpoint, Reason: sidecarReplaced})
	}
	e.log.Info("certificate issued", "endpoint", endpoint, "to", who)
	return e.issued(endpoint, der, now), nil
}

// renew makes the next certificate for the key that a sidecar has shown that it has.
func (e *Edge) renew(ctx context.Context, peer *x509.Certificate, request []byte) (*wire.Issued, error) {
	now := time.Now()
	endpoint, err := e.directory.known(peer)
	if err != nil {
		return nil, err
	}
	if err := enrol.Check(peer, now); err != nil && !errors.Is(err, enrol.ErrExpired) {
		return nil, &tunnel.Refusal{Endpoint: endpoint.Name, Reason: err.Error()}
	}
	parsed, device, err := enrol.ReadRequest(request, endpoint.Name)
	if err == nil && device != enrol.DeviceOf(peer) {
		err = errors.New("the request is for another key than the certificate's")
	}
	if err != nil {
		return nil, &tunnel.Refusal{Endpoint: endpoint.Name, Reason: err.Error()}
	}
	der, err := enrol.Issue(e.identity.ca, e.identity.key, endpoint.Name, parsed, now)
	if err != nil {
		return nil, err
	}
	if err := e.directory.renewed(ctx, endpoint.Name, device, now.Add(enrol.Life)); err != nil {
		return nil, err
	}
	e.log.Info("certificate renewed", "endpoint", endpoint.Name)
	return e.issued(endpoint.Name, der, now), nil
}

func (e *Edge) issued(endpoint string, der []byte, now time.Time) *wire.Issued {
	return &wire.Issued{Time: now, Callback: e.directory.callback(endpoint), Certificate: der}
}

const expireEvery = time.Minute

// keepExpiring ends links that live longer than their sidecars' certificates, until ctx ends. A sidecar renews a month before
// that, and keeps the link that it has; so one whose last certificate has ended is one that failed to, and is told to do it now.
func (e *Edge) keepExpiring(ctx context.Context) {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		given := make(map[string]time.Time)
		for _, endpoint := range e.Endpoints() {
			given[endpoint.Name] = endpoint.Expires
		}
		for _, l := range e.tunnel.Links() {
			if now := time.Now(); now.After(l.Expires) && now.After(given[l.Endpoint]) {
				e.tunnel.Cut(&tunnel.Refusal{Code: wire.CloseExpired, Endpoint: l.Endpoint, Reason: enrol.ErrExpired.Error()})
			}
		}
	}
}

// refused writes down who was not let in.
func (e *Edge) refused(remote, endpoint string, why error) {
	r, _ := errors.AsType[*tunnel.Refusal](why)
	switch audit := e.directory.audit; {
	case errors.Is(why, tunnel.ErrCrowded): // a flood: whoever tells us waits for nothing
		e.clerk.note("connections turned away", "tunnel", remote, "err", why)
	case r != nil && (r.Reason == sidecarRevoked || r.Reason == keyRevoked):
		audit.revoked(context.Background(), remote, endpoint, why.Error())
	default:
		audit.refused(context.Background(), remote, cmp.Or(endpoint, "stranger"), why.Error())
	}
}

// known is whose a certificate is that our CA has signed: the endpoint's that has this very key now.
func (d *directory) known(c *x509.Certificate) (Endpoint, error) {
	name, err := enrol.Endpoint(c)
	if err != nil {
		return Endpoint{}, &tunnel.Refusal{Reason: err.Error()}
	}
	device := enrol.DeviceOf(c)
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.endpoints[name]
	switch {
	case e == nil || e.device == (enrol.Device{}):
		return Endpoint{}, &tunnel.Refusal{Reason: sidecarUnknown}
	case subtle.ConstantTimeCompare(e.device[:], device[:]) != 1:
		return Endpoint{}, &tunnel.Refusal{Endpoint: name, Reason: sidecarReplaced}
	case !e.Revoked.IsZero():
		return Endpoint{}, &tunnel.Refusal{Endpoint: name, Reason: sidecarRevoked}
	}
	return Endpoint{Name: name, Keys: e.Keys}, nil
}

// authorize says whose sidecar may have a link with this certificate.
func (d *directory) authorize(_ context.Context, c *x509.Certificate) (tunnel.Endpoint, error) {
	e, err := d.known(c)
	if err != nil {
		return tunnel.Endpoint{}, err
	}
	switch err := enrol.Check(c, time.Now()); {
	case errors.Is(err, enrol.ErrExpired):
		return tunnel.Endpoint{}, &tunnel.Refusal{Code: wire.CloseExpired, Endpoint: e.Name, Reason: err.Error()}
	case err != nil:
		return tunnel.Endpoint{}, &tunnel.Refusal{Endpoint: e.Name, Reason: err.Error()}
	}
	return tunnel.Endpoint{Name: e.Name, Callback: d.callback(e.Name)}, nil
}

func (d *directory) callback(endpoint string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if e := d.endpoints[endpoint]; e != nil {
		return e.callback()
	}
	return ""
}

// invite keeps a join code for an endpoint that there is, in place of the one before it.
func (d *directory) invite(ctx context.Context, who, endpoint string, sum [32]byte, life time.Duration) (invite, error) {
	ctx = context.WithoutCancel(ctx)
	now := fromMilli(time.Now().UnixMilli())
	i := &invite{sum: sum, endpoint: endpoint, created: now, expires: fromMilli(now.Add(life).UnixMilli())}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.commit(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO edge_invite (endpoint, sum, created, expires) VALUES (?, ?, ?, ?)`,
			endpoint, sum[:], i.created.UnixMilli(), i.expires.UnixMilli())
		if err != nil {
			return err
		}
		return insertAudit(ctx, tx, who, actInviteMade, endpoint, "good until "+i.expires.Format(time.RFC3339))
	})
	if err != nil {
		return invite{}, err
	}
	d.invites[endpoint] = i
	return *i, nil
}

func (d *directory) uninvite(ctx context.Context, who, endpoint string) error {
	ctx = context.WithoutCancel(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.invites[endpoint]
	if i == nil || !i.open(time.Now()) {
		return fmt.Errorf("endpoint %s has no join code that could be used: %w", endpoint, errUnknown)
	}
	now := fromMilli(time.Now().UnixMilli())
	err := d.commit(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE edge_invite SET revoked = ? WHERE endpoint = ?`, now.UnixMilli(), endpoint); err != nil {
			return err
		}
		return insertAudit(ctx, tx, who, actInviteRevoked, endpoint, "")
	})
	if err == nil {
		i.revoked = now
	}
	return err
}

// open reports whether a join code may still be used.
func (i *invite) open(now time.Time) bool {
	return i.used.IsZero() && i.revoked.IsZero() && !now.After(i.expires)
}

// invited finds the invite of a secret, if it may be used: or if it was used, by whom admit will ask.
func (d *directory) invited(secret []byte) (invite, error) {
	sum := enrol.SecretSum(secret)
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, i := range d.invites {
		if subtle.ConstantTimeCompare(i.sum[:], sum[:]) == 1 {
			return *i, i.judge(time.Now())
		}
	}
	return invite{}, &tunnel.Refusal{Reason: codeUnknown}
}

func (i *invite) judge(now time.Time) error {
	reason := ""
	switch {
	case !i.revoked.IsZero():
		reason = codeRevoked
	case now.After(i.expires) && i.used.IsZero():
		reason = codeExpired
	case now.After(i.expires):
		reason = codeUsed
	default:
		return nil
	}
	return &tunnel.Refusal{Endpoint: i.endpoint, Reason: reason}
}

// admit makes a key that of an endpoint's sidecar, and an invite used, in one step. Whose answer was lost on the way may ask
// again with the same key. replaced reports that there was another.
func (d *directory) admit(ctx context.Context, who, endpoint string, device enrol.Device, expires time.Time, by *invite) (replaced bool, err error) {
	ctx = context.WithoutCancel(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.endpoints[endpoint]
	if e == nil {
		return false, fmt.Errorf("endpoint %s: %w", endpoint, errUnknown)
	}
	now := fromMilli(time.Now().UnixMilli())
	var i *invite
	if by != nil { // it may have been used, or revoked, since it was found
		if i = d.invites[endpoint]; i == nil || i.sum != by.sum {
			return false, &tunnel.Refusal{Endpoint: endpoint, Reason: codeUnknown}
		}
		if err := i.judge(now); err != nil {
			return false, err
		}
		if !i.used.IsZero() && (i.device != device || e.device != device) {
			return false, &tunnel.Refusal{Endpoint: endpoint, Reason: codeUsed}
		}
	}
	switch again := e.device == device; {
	case again && !e.Revoked.IsZero(): // whoever has the machine has its key, and may have the code that it used, or get another
		return false, &tunnel.Refusal{Endpoint: endpoint, Reason: keyRevoked}
	case again && i != nil && !i.used.IsZero() && expires.Sub(e.Expires) < time.Hour: // his answer was lost; and if he asks without end, that fills nothing
		return false, nil
	}
	err = d.commit(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE edge_endpoint SET device = ?, joined = ?, expires = ?, revoked = NULL WHERE name = ?`,
			device[:], now.UnixMilli(), expires.UnixMilli(), endpoint)
		if err == nil && i != nil {
			if _, err = tx.ExecContext(ctx, `UPDATE edge_invite SET used = ?, device = ? WHERE endpoint = ?`, now.UnixMilli(), device[:], endpoint); err == nil {
				err = insertAudit(ctx, tx, who, actInviteUsed, endpoint, "")
			}
		}
		if err != nil {
			return err
		}
		return insertAudit(ctx, tx, who, actIssued, endpoint, fmt.Sprintf("for the key %x, good until %s", device[:8], expires.UTC().Format(time.RFC3339)))
	})
	if err != nil {
		return false, err
	}
	replaced = e.device != (enrol.Device{}) && e.device != device
	e.device, e.Joined, e.Expires, e.Revoked = device, now, fromMilli(expires.UnixMilli()), time.Time{}
	if i != nil {
		i.used, i.device = now, device
	}
	d.changed()
	return replaced, nil
}

// renewed records that a sidecar has another certificate. One that asks again and again is given what it asks for, and fills
// neither disk nor audit with it.
func (d *directory) renewed(ctx context.Context, endpoint string, device enrol.Device, expires time.Time) error {
	ctx = context.WithoutCancel(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.endpoints[endpoint]
	if e == nil || e.device != device || !e.Revoked.IsZero() { // meanwhile
		return &tunnel.Refusal{Endpoint: endpoint, Reason: sidecarRevoked}
	}
	if expires.Sub(e.Expires) < time.Hour {
		return nil
	}
	err := d.commit(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE edge_endpoint SET expires = ? WHERE name = ?`, expires.UnixMilli(), endpoint); err != nil {
			return err
		}
		return insertAudit(ctx, tx, "sidecar "+endpoint, actRenewed, endpoint, "good until "+expires.UTC().Format(time.RFC3339))
	})
	if err != nil {
		return err
	}
	e.Expires = fromMilli(expires.UnixMilli())
	d.changed()
	return nil
}

func (d *directory) revoke(ctx context.Context, who, endpoint string) error {
	ctx = context.WithoutCancel(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	e, i := d.endpoints[endpoint], d.invites[endpoint]
	if e == nil {
		return fmt.Errorf("endpoint %s: %w", endpoint, errUnknown)
	}
	now := fromMilli(time.Now().UnixMilli())
	if i != nil && !i.open(now) {
		i = nil
	}
	if (e.device == (enrol.Device{}) || !e.Revoked.IsZero()) && i == nil {
		return fmt.Errorf("endpoint %s has no sidecar that could be revoked: %w", endpoint, errUnknown)
	}
	err := d.commit(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE edge_endpoint SET revoked = ? WHERE name = ?`, now.UnixMilli(), endpoint)
		if err == nil && i != nil {
			if _, err = tx.ExecContext(ctx, `UPDATE edge_invite SET revoked = ? WHERE endpoint = ?`, now.UnixMilli(), endpoint); err == nil {
				err = insertAudit(ctx, tx, who, actInviteRevoked, endpoint, "")
			}
		}
		if err != nil {
			return err
		}
		return insertAudit(ctx, tx, who, actRevoked, endpoint, fmt.Sprintf("the key %x", e.device[:8]))
	})
	if err != nil {
		return err
	}
	e.Revoked = now
	if i != nil {
		i.revoked = now
	}
	d.changed()
	return nil
}
