package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

const (
	maxWaiting = 1024             // requests that wait for the writer; more wait for their turn to wait
	batchBytes = 4 << 20          // entries in one transaction, about
	tailBytes  = 8 << 20          // newest entries of all endpoints together that stay in memory
	saveAcks   = time.Second      // how long an acknowledgement may wait for the disk
	lookAround = time.Minute      // how often the writer looks for what may be forgotten
	pruneSoon  = time.Second      // the same, when there was more than one step of it
	pruneRows  = 1000             // entries that one step forgets
	pruneBytes = 4 << 20          // of them, but for one that is larger
	lastNotice = 90               // the part of KeepUnacked for which a last notice stands: a day
	alarmEvery = 10 * time.Second // between two lines in the log about a disk that cannot store
)

// request is what a caller asks of the writer.
type request struct {
	endpoint string
	what     what
	entry    wire.Entry // appendEntry: Seq is the answer
	beyond   wire.Epoch // renewEpoch: the new one is greater

	done  chan struct{} // has a token when answered
	state wire.State    // renewEpoch: the answer
	err   error
}

type what uint8

const (
	appendEntry what = iota
	beginHistory
	renewEpoch
	probeDisk
)

// writer owns the one connection that writes, from OpenSQLite to Close. All of it belongs to whoever has the pen: a caller
// that is alone, or its goroutine, run. It obeys no caller's context: a transaction is made of the requests of many, and
// one who hangs up must not take the others along.
type writer struct {
	s    *SQLite
	db   *sql.DB
	conn *sql.Conn

	begin, commit, rollback *sql.Stmt
	epoch, name, acking     *sql.Stmt
	singing, silence        *sql.Stmt                 // of canaries
	insert                  [rowsAtOnce + 1]*sql.Stmt // by the number of rows; made when first needed

	batch   []*request
	behind  int       // pages in the log, or so, that are not in the file
	changes []*staged // of the transaction at hand
	byName  map[string]*staged
	spare   []*staged // to be used again
	rows    rows

	tail      []kept // of the tails of all histories, in the order of arrival
	tailBytes int
	failed    time.Time // when the disk last could not store; zero: it can
	said      time.Time // when that was last said
}

type kept struct {
	h    *history
	size int
}

// background is the context of all statements: it has no end, and so costs nothing to watch.
var background = context.Background()

// inMemory is what an entry of the tail takes besides its bytes: of canaries, which have few, there are many.
const inMemory = 256

// dataSize is the length of what is stored of an entry, as it counts.
func dataSize(e *wire.Entry) int64 { return counted(e.Kind, e.Size()-wire.HeaderSize) }

func counted(kind wire.Kind, size int) int64 {
	if kind == wire.KindCanary {
		return 0
	}
	return int64(size)
}

// alone answers a request at once, if nobody works with the writer: to wake another goroutine and to be woken by it costs
// about as much as the statement does. Whoever comes meanwhile waits for the goroutine, which waits for the pen; it is
// given to that one then, and to no other caller.
func (w *writer) alone(r *request) bool {
	select {
	case w.s.pen <- struct{}{}:
	default:
		return false
	}
	defer w.layDown()
	w.batch = append(w.batch[:0], r)
	w.store(w.batch)
	return true
}

func (w *writer) takeUp()  { w.s.pen <- struct{}{} }
func (w *writer) layDown() { <-w.s.pen }

// run does what no caller does: it writes for those who wait, and what the writer does besides.
func (w *writer) run() {
	defer close(w.s.ended)
	defer w.close()
	open, closing := context.WithCancel(background)
	var beside sync.WaitGroup
	beside.Go(func() { w.s.keepShort(open) })
	defer beside.Wait()
	defer closing()
	look := time.NewTimer(lookAround)
	defer look.Stop()
	save := time.NewTimer(saveAcks)
	save.Stop()
	saving := false
	for {
		select {
		case r := <-w.s.requests:
			w.takeUp()
			w.store(w.gather(r))
			w.layDown()
		case <-w.s.acks:
			if !saving { // each endpoint says it for itself, and none must put off the others
				saving = true
				save.Reset(saveAcks)
			}
		case <-save.C:
			saving = false
			w.takeUp()
			w.saveAcks()
			w.layDown()
		case <-look.C:
			w.takeUp()
			more := w.lookAround()
			w.layDown()
			if more {
				look.Reset(pruneSoon)
			} else {
				look.Reset(lookAround)
			}
		case <-w.s.stop:
			closing()  // SQLite empties the log by itself when the file is closed
			w.takeUp() // for good
			for {
				select {
				case r := <-w.s.requests:
					w.store(w.gather(r))
					continue
				default:
				}
				break
			}
			w.saveAcks()
			return
		}
	}
}

// close closes the statements too: one left open would keep the connection, and with it the file, open for ever.
func (w *writer) close() {
	var errs []error
	for _, stmt := range append(w.insert[:], w.begin, w.commit, w.rollback, w.name, w.epoch, w.acking, w.singing, w.silence) {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	if w.conn != nil {
		errs = append(errs, w.conn.Close())
	}
	w.s.closing = errors.Join(append(errs, w.db.Close())...)
}

// gather takes all who wait, at once: no timer, no knob. While a transaction is on its way to the disk, the next one
// gathers by itself.
func (w *writer) gather(r *request) []*request {
	w.batch = append(w.batch[:0], r)
	for size := r.entry.Size(); size < batchBytes; {
		select {
		case r := <-w.s.requests:
			w.batch = append(w.batch, r)
			size += r.entry.Size()
		default:
			return w.batch
		}
	}
	return w.batch
}

// store does what the requests ask, in one transaction; if that fails, each in one of its own, so that nobody fails for
// another's sake. But where none could begin, because another process holds the file, it is nobody's fault: to have each
// wait for the file once more would keep those who come later waiting for hours.
func (w *writer) store(batch []*request) {
	err := w.transaction(batch)
	if err != nil && len(batch) > 1 && !errors.Is(err, errBegin) {
		for i := range batch {
			one := batch[i : i+1]
			if err := w.transaction(one); err != nil {
				w.answer(one, err)
			}
		}
		return
	}
	if err != nil {
		w.answer(batch, err)
	}
}

func (w *writer) answer(batch []*request, err error) {
	for _, r := range batch {
		if err != nil {
			r.err = err
		}
		r.done <- struct{}{} // from here on it is its caller's
	}
}

// staged is what a transaction is going to change of a history.
type staged struct {
	h       *history
	isNew   bool
	epoch   wire.Epoch // 0: as it was
	entries []stored
	total   int64

	canaries uint64 // of entries
	run      run
	stood    []uint64 // numbers of canaries for which the one behind them stands now
}

// transaction stores the requests and answers them, or fails and changes nothing.
func (w *writer) transaction(batch []*request) error {
	do, lone := w.atomically, w.fitsOneStatement(batch)
	if lone {
		do = w.atOnce
	}
	w.clear()
	err := do(func() error {
		for _, r := range batch {
			if r.what == probeDisk {
				if err := w.probe(); err != nil {
					return err
				}
				continue
			}
			c := w.byName[r.endpoint]
			if c == nil {
				h, isNew, err := w.find(r.endpoint)
				if err != nil {
					return err
				}
				c = w.stage(h, isNew)
			}
			if err := w.do(r, c); err != nil {
				return err
			}
		}
		if err := w.insertRows(); err != nil {
			return err
		}
		return w.storeRuns()
	})
	if err != nil || !lone || len(w.rows.ids) > 0 { // else the disk was not asked
		w.report(err)
	}
	if err != nil {
		return err
	}
	w.logged(len(w.rows.ids), len(w.rows.data))
	for _, c := range w.changes {
		w.publish(c)
	}
	for _, r := range batch {
		if r.what == renewEpoch {
			r.state = w.byName[r.endpoint].h.now()
		}
	}
	w.answer(batch, nil)
	return nil
}

// stage begins the changes of a history.
func (w *writer) stage(h *history, isNew bool) *staged {
	c := new(staged)
	if n := len(w.spare); n > 0 {
		c, w.spare = w.spare[n-1], w.spare[:n-1]
	}
	*c = staged{h: h, isNew: isNew, total: h.total, entries: c.entries, run: h.run, stood: c.stood[:0]}
	w.changes = append(w.changes, c)
	w.byName[h.name] = c
	return c
}

// clear makes ready for a transaction.
func (w *writer) clear() {
	for _, c := range w.changes {
		clear(c.entries) // spares hold no callbacks
		c.entries = c.entries[:0]
	}
	w.spare = append(w.spare, w.changes...)
	w.changes = w.changes[:0]
	clear(w.byName)
	w.rows.clear()
}

var errBegin = errors.New("no transaction could begin")

func (w *writer) atomically(f func() error) error {
	if _, err := w.begin.ExecContext(background); err != nil {
		return fmt.Errorf("%w: %w", errBegin, err)
	}
	err := f()
	if err == nil {
		_, err = w.commit.ExecContext(background)
	}
	if err != nil {
		w.rollback.ExecContext(background) // fails if SQLite has rolled back by itself, as it does when the disk is full
	}
	return err
}

// probe writes something and takes it back: what changes nothing, SQLite does not write.
func (w *writer) probe() error {
	_, err := w.conn.ExecContext(background, `INSERT OR REPLACE INTO journal_mark (endpoint, at, seq) VALUES (0, 0, 0); DELETE FROM journal_mark WHERE endpoint = 0`)
	return err
}

// find returns the endpoint's history, or begins one.
func (w *writer) find(endpoint string) (h *history, isNew bool, err error) {
	if h := w.s.known(endpoint); h != nil {
		return h, false, nil
	}
	h = &history{name: endpoint}
	h.state = wire.State{Epoch: wire.Epoch(time.Now().UnixMilli()), Oldest: 1}
	res, err := w.name.ExecContext(background, endpoint, int64(h.state.Epoch))
	if err == nil {
		h.id, err = res.LastInsertId()
	}
	if err == nil && h.id > maxEndpoint {
		err = fmt.Errorf("there were %d endpoints already", maxEndpoint)
	}
	return h, true, err
}

// do does one request within the transaction.
func (w *writer) do(r *request, c *staged) error {
	h := c.h
	switch r.what {
	case renewEpoch:
		c.epoch = max(wire.Epoch(time.Now().UnixMilli()), h.state.Epoch+1, c.epoch+1, r.beyond+1)
		_, err := w.epoch.ExecContext(background, int64(c.epoch), h.id)
		return err
	case appendEntry:
		e := &r.entry
		e.Seq = h.state.Head + uint64(len(c.entries)) + 1
		e.Received = time.UnixMilli(e.Received.UnixMilli()).UTC() // as it will be read from disk
		if e.Kind == wire.KindCanary {
			c.canary(e)
		}
		unacked := h.unacked() + c.total - h.total
		if r.err = w.room(h, unacked, dataSize(e)); r.err != nil {
			return nil // its own trouble
		}
		if e.Seq > maxSeq {
			return errors.New("the history has reached its last number")
		}
		c.total += dataSize(e)
		w.rows.add(h.row(e.Seq), c.total, e)
		c.entries = append(c.entries, stored{*e, c.total})
	}
	return nil
}

// room says whether an endpoint may hold more, and warns while there is still time.
func (w *writer) room(h *history, unacked, more int64) error {
	limit := w.s.limits.Load().MaxBytes
	switch {
	case unacked+more > limit:
		if !h.full {
			h.full = true
			w.s.log.Error("endpoint is full: its callbacks are refused until its sidecar connects", "endpoint", h.name, "unacknowledged", unacked, "limit", limit)
		}
		return ErrFull
	case h.full && unacked < limit-limit/8: // a small entry may have found room before that
		h.full = false
		w.s.log.Info("endpoint has room again", "endpoint", h.name, "unacknowledged", unacked, "limit", limit)
	}
	switch {
	case unacked+more > limit/2 && !h.alarmed:
		h.alarmed = true
		w.s.log.Warn("endpoint holds more than half of what it may: its sidecar does not fetch its callbacks", "endpoint", h.name, "unacknowledged", unacked+more, "limit", limit)
	case unacked+more < limit/4:
		h.alarmed = false
	}
	return nil
}

// publish makes what was committed known.
func (w *writer) publish(c *staged) {
	h := c.h
	if c.epoch != 0 {
		h.mu.Lock()
		h.state.Epoch = c.epoch
		h.mu.Unlock()
	}
	if len(c.entries) > 0 {
		if h.state.Oldest > h.state.Head {
			h.oldestAt = c.entries[0].entry.Received
		}
		h.mu.Lock()
		h.canaries, h.run = h.canaries+c.canaries, c.run
		h.mu.Unlock()
		h.publish(c.entries)
		for i := range c.entries {
			size := c.entries[i].entry.Size() + inMemory
			w.tail = append(w.tail, kept{h, size})
			w.tailBytes += size
		}
		for w.tailBytes > tailBytes {
			w.tail[0].h.forget()
			w.tailBytes -= w.tail[0].size
			w.tail = w.tail[1:]
		}
	}
	if c.isNew {
		w.s.mu.Lock()
		w.s.histories[h.name] = h
		w.s.mu.Unlock()
	}
}

// report tells the log when the disk stops storing, now and then while it does not, and when it has stored again for a
// while: on a disk that is nearly full, small entries find room and large ones do not.
func (w *writer) report(err error) {
	now := time.Now()
	if err == nil {
		w.s.failing.Store(nil)
	} else {
		w.s.failing.Store(&err)
		w.s.meet(err)
	}
	switch {
	case err != nil:
		if now.Sub(w.said) >= alarmEvery {
			w.said = now
			w.s.log.Error("journal cannot store", "err", err)
		}
		w.failed = now
	case !w.failed.IsZero() && now.Sub(w.failed) >= alarmEvery:
		w.failed, w.said = time.Time{}, time.Time{}
		w.s.log.Info("journal stores again")
	}
}
