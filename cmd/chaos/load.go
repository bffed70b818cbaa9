package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	openScripts = 1500 // payments of one shop that have callbacks to come
	registrars  = 4    // of one shop
	posters     = 192
)

// A load registers payments at the sidecars and posts their callbacks to the edge, at a steady rate: a callback's time
// comes however the ones before it fare. Like Daraja it posts each callback once; one that was certainly not sent,
// because nobody took the connection, has not been posted yet.
type load struct {
	world  *world
	ledger *ledger
	rate   float64
	client *http.Client

	mu    sync.Mutex
	more  *sync.Cond // a script is ready, or no more will be
	rng   *rand.Rand
	shops []*till

	refused, broken atomic.Int64 // answers other than 200; no answer
}

// A till is a shop's payments.
type till struct {
	shop  *shop
	room  chan struct{} // one for each open script
	early chan *script  // whose payment is to be registered now
	base  string        // of the addresses of callbacks
	ready []*script     // under load.mu
}

func newLoad(w *world, l *ledger, rate float64, seed uint64) *load {
	d := &load{world: w, ledger: l, rate: rate, client: w.poster(posters), rng: rand.New(rand.NewPCG(seed, 1))}
	d.more = sync.NewCond(&d.mu)
	for _, s := range w.shops {
		d.shops = append(d.shops, &till{shop: s, room: make(chan struct{}, openScripts), early: make(chan *script, openScripts)})
	}
	return d
}

// run posts until ctx is done, and returns when every request has ended and every payment is registered.
func (d *load) run(ctx context.Context) error {
	var registering, posting sync.WaitGroup
	after, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for _, t := range d.shops {
		if err := within(ctx, patience, t.shop.name+" to reserve a payment", func() error { return d.findBase(ctx, t) }); err != nil {
			return err
		}
	}
	for _, t := range d.shops {
		for range registrars {
			registering.Go(func() { d.register(ctx, after, t) })
		}
	}
	due := make(chan struct{}, 1<<20)
	defer context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.more.Broadcast()
	})()
	for range posters {
		posting.Go(func() { d.post(ctx, due) })
	}
	began, count := time.Now(), 0
	for rest(ctx, 5*time.Millisecond) == nil {
		for ; count < int(d.rate*time.Since(began).Seconds()); count++ {
			due <- struct{}{}
		}
	}
	close(due)
	posting.Wait()
	for _, t := range d.shops {
		close(t.early)
	}
	// What Daraja has said early must still be told: the shops are whole again, so this ends.
	patience := time.AfterFunc(time.Minute, stop)
	defer patience.Stop()
	registering.Wait()
	return nil
}

// findBase learns the address that callbacks of a shop are posted to, from a payment that never gets one.
func (d *load) findBase(ctx context.Context, t *till) error {
	var made struct{ CallbackURL string }
	if err := t.shop.post(ctx, "/payments", map[string]any{"amount": 1}, &made); err != nil {
		return err
	}
	t.base = made.CallbackURL[:strings.LastIndex(made.CallbackURL, "/")]
	return nil
}

// register keeps a till in payments that wait for their callbacks.
func (d *load) register(ctx, after context.Context, t *till) {
	for {
		select {
		case s, open := <-t.early:
			if !open {
				return
			}
			d.announce(after, t, s)
			continue
		default:
		}
		select {
		case s, open := <-t.early:
			if !open {
				return
			}
			d.announce(after, t, s)
		case t.room <- struct{}{}:
			if ctx.Err() != nil {
				for s := range t.early {
					d.announce(after, t, s)
				}
				return
			}
			d.open(ctx, t)
		}
	}
}

// open makes a payment and the script of its callbacks.
func (d *load) open(ctx context.Context, t *till) {
	d.mu.Lock()
	amount := 1 + d.rng.IntN(5000)
	number := d.ledger.pay(t.shop.number, amount)
	s := write(d.rng, number, amount)
	withIDs := d.rng.IntN(10) == 0
	d.mu.Unlock()
	s.base, s.address = t.base, t.base
	if !s.early {
		body := map[string]any{"amount": amount, "phoneNumber": "254708374149", "accountReference": "ORDER" + strconv.Itoa(int(number))}
		if withIDs {
			body["MerchantRequestID"], body["CheckoutRequestID"], body["ResponseCode"] = merchant(number), checkout(number), "0"
		}
		for {
			var made struct{ PaymentID, CallbackURL string }
			err := t.shop.post(ctx, "/payments", body, &made)
			if err == nil {
				d.ledger.registered(number, made.PaymentID)
				if made.CallbackURL != "" {
					s.address = made.CallbackURL
				}
				break
			}
			if rest(ctx, 100*time.Millisecond) != nil {
				<-t.room
				return
			}
		}
		if s.address == s.base { // nothing to forge
			for i, one := range s.steps {
				if one.forge {
					s.steps = append(s.steps[:i], s.steps[i+1:]...)
					break
				}
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t.ready = append(t.ready, s)
	d.more.Signal()
}

// announce registers a push of which Daraja has spoken already.
func (d *load) announce(ctx context.Context, t *till, s *script) {
	for {
		var made struct{ PaymentID string }
		err := t.shop.post(ctx, "/payments", map[string]any{"MerchantRequestID": merchant(s.payment), "CheckoutRequestID": checkout(s.payment), "ResponseCode": "0", "amount": s.amount}, &made)
		if err == nil {
			d.ledger.registered(s.payment, made.PaymentID)
			return
		}
		if rest(ctx, 100*time.Millisecond) != nil {
			d.ledger.find(unruly, "%s: a payment could not be registered: %v", t.shop.name, err)
			return
		}
	}
}

// A turn is a step of a script, which a poster has taken.
type turn struct {
	till        *till
	script      *script
	step        step
	first, last bool // of the script's steps
}

// next takes the next step of any script. It waits for one, until ctx is done.
func (d *load) next(ctx context.Context) (turn, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ; ctx.Err() == nil; d.more.Wait() {
		begin := d.rng.IntN(len(d.shops))
		for i := range d.shops {
			t := d.shops[(begin+i)%len(d.shops)]
			if len(t.ready) == 0 {
				continue
			}
			k := d.rng.IntN(len(t.ready))
			s := t.ready[k]
			taken := turn{till: t, script: s, step: s.steps[0], first: !s.begun, last: len(s.steps) == 1}
			s.begun, s.steps = true, s.steps[1:]
			if taken.last {
				t.ready[k] = t.ready[len(t.ready)-1]
				t.ready = t.ready[:len(t.ready)-1]
			}
			return taken, true
		}
	}
	return turn{}, false
}

// post posts a callback for every one that is due.
func (d *load) post(ctx context.Context, due <-chan struct{}) {
	for range due {
		t, ok := d.next(ctx)
		if !ok {
			return
		}
		d.deliver(ctx, t.till, t.script, t.step)
		if t.first && t.script.early {
			t.till.early <- t.script
		}
		if t.last {
			<-t.till.room
		}
	}
}

// deliver posts one callback, once.
func (d *load) deliver(ctx context.Context, t *till, s *script, one step) {
	address := s.address
	switch {
	case one.bare:
		address = s.base
	case one.forge:
		end := byte('0')
		if address[len(address)-1] == end {
			end = '1'
		}
		address = address[:len(address)-1] + string(end)
	}
	payment := s.payment
	serial := d.ledger.post(t.shop.number, payment, one.says, one.must, crc32.ChecksumIEEE(one.body))
	for {
		// A request under way is waited for when ctx ends: the ledger wants to know its answer.
		request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, address, bytes.NewReader(one.body))
		if err != nil {
			d.ledger.find(unruly, "%s: its address of callbacks is no URL: %v", t.shop.name, err)
			return
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set(serialHeader, strconv.Itoa(serial))
		response, err := d.client.Do(request)
		if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" { // so nothing was sent
			if rest(ctx, 50*time.Millisecond) != nil {
				return
			}
			continue
		}
		if err != nil {
			d.broken.Add(1)
			return
		}
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		switch {
		case response.StatusCode != http.StatusOK:
			d.refused.Add(1)
		case err != nil:
			d.broken.Add(1)
		default:
			d.ledger.answer(serial)
		}
		return
	}
}

// post asks the sidecar's API to make something.
func (s *shop) post(ctx context.Context, path string, body map[string]any, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if err := s.do(request, http.StatusCreated, into); err != nil {
		return fmt.Errorf("chaos: register a payment: %w", err)
	}
	return nil
}
