package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"strconv"
	"sync"
	"time"
)

const (
	patience  = 3 * time.Minute // for what must come, on a busy machine too: a process that starts, what is stored and is delivered
	callbacks = "/callbacks?limit=200&state=applied,repeated,overruled,unmatched,unparsed,recorded,held,suspect,forged"
)

// settle waits until every callback that is stored has been acknowledged, and every subscriber has been told of it. It
// returns how many are stored for each shop.
func settle(ctx context.Context, w *world, l *ledger) (stored map[string]uint64) {
	err := within(ctx, patience, "all that is stored to be delivered", func() (err error) {
		var acknowledged map[string]uint64
		if stored, acknowledged, err = w.delivered(); err != nil {
			return err
		}
		for name, n := range stored {
			if acknowledged[name] != n {
				return fmt.Errorf("chaos: %s has acknowledged %d of %d", name, acknowledged[name], n)
			}
		}
		return nil
	})
	if err != nil {
		l.find(unruly, "%v", err)
	}
	for _, s := range w.shops {
		err := within(ctx, patience, s.name+"'s subscribers to be told everything", func() error {
			var status struct{ Head string }
			if err := s.get(ctx, "/status", &status); err != nil {
				return err
			}
			_, head, err := parseCursor(status.Head)
			if err != nil {
				return err
			}
			if late := l.behind(s.number, head); len(late) > 0 {
				return fmt.Errorf("chaos: behind event %d: %v", head, late)
			}
			return nil
		})
		if err != nil {
			l.find(unruly, "%v", err)
		}
	}
	return stored
}

// examine kills and starts every sidecar once more, so that what it says comes from its disk, and compares its table
// with the ledger and with how many callbacks are stored for it.
func examine(ctx context.Context, w *world, l *ledger, stored map[string]uint64) {
	var wg sync.WaitGroup
	for _, s := range w.shops {
		wg.Go(func() {
			if err := s.examine(ctx, l.audit(s.number, stored[s.name])); err != nil {
				l.find(unruly, "%s: its table cannot be read: %v", s.name, err)
			}
		})
	}
	wg.Wait()
	l.close()
}

func (s *shop) examine(ctx context.Context, a *audit) error {
	if err := s.sidecar.kill(); err != nil {
		return err
	}
	if err := s.sidecar.start(); err != nil {
		return err
	}
	if err := within(ctx, patience, s.name+" to be ready", func() error { return s.get(ctx, "/readyz?link", nil) }); err != nil {
		return err
	}
	for after := ""; ; {
		var page struct {
			Callbacks []struct {
				ID, State, PaymentID, Body string
				BodyBase64                 []byte
				Headers                    struct {
					Serial []string `json:"X-Chaos-Serial"`
				}
			}
			Next string
		}
		if err := s.get(ctx, callbacks+after, &page); err != nil {
			return err
		}
		for _, c := range page.Callbacks {
			f := filed{id: c.ID, state: c.State, payment: c.PaymentID, serial: -1, sum: crc32.ChecksumIEEE(c.BodyBase64)}
			if len(c.BodyBase64) == 0 {
				f.sum = crc32.ChecksumIEEE([]byte(c.Body))
			}
			if len(c.Headers.Serial) == 1 {
				if n, err := strconv.Atoi(c.Headers.Serial[0]); err == nil {
					f.serial = n
				}
			}
			a.callback(f)
		}
		if page.Next == "" {
			break
		}
		after = "&after=" + page.Next
	}
	a.end()
	for after := ""; ; {
		var page struct {
			Payments []struct {
				PaymentID, Status, MpesaReceiptNumber string
				ResultCode                            any
			}
			Next string
		}
		if err := s.get(ctx, "/payments?limit=500"+after, &page); err != nil {
			return err
		}
		for _, p := range page.Payments {
			result := ""
			if p.ResultCode != nil {
				result = fmt.Sprint(p.ResultCode)
			}
			a.payment(statement{p.PaymentID, p.Status, result, p.MpesaReceiptNumber})
		}
		if page.Next == "" {
			return nil
		}
		after = "&after=" + page.Next
	}
}
