package journal

import (
	"sync"
	"time"

	"github.com/hodihq/hodi/tunnel/wire"
)

// history is what memory holds of one endpoint. The writer changes it, after a commit; Ack moves what is acknowledged;
// everybody reads.
type history struct {
	name string
	id   int64

	mu          sync.Mutex
	state       wire.State
	total       int64           // bytes up to and with Head
	ackedTotal  int64           // bytes up to and with Acked
	prunedTotal int64           // bytes before Oldest
	lost        map[uint64]bool // numbers under which the disk holds no entry that can be read, as far as was noticed
	canaries    uint64          // how many entries up to Head are canaries
	run         run             // the newest canaries
	tail        []stored        // the newest entries, without a gap, up to Head
	news        chan struct{}   // closed at the next append; nil if nobody waits

	// The writer's own.
	oldestAt time.Time // when the oldest entry came
	marks    []mark    // what was acknowledged when, oldest first
	noticed  time.Time // when the log had a last notice of entries that are to be forgotten unfetched; zero: none are
	saved    uint64    // Acked on disk
	alarmed  bool      // more than half of what it may hold is unacknowledged, and that was said
	full     bool      // entries are refused, and that was said
}

type stored struct {
	entry wire.Entry
	total int64
}

// run is canaries between which there is nothing else.
type run struct {
	first, last uint64    // 0: there was none yet
	began       time.Time // zero: not known, and it cannot go on
}

type mark struct {
	at  time.Time
	seq uint64
}

func (h *history) row(seq uint64) int64 { return h.id<<seqBits | int64(seq) }

func (h *history) now() wire.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	state := h.state
	state.Canaries, state.Heard = h.canaries, h.canaries
	if h.run.last > state.Acked { // all that are not acknowledged are of the newest run: there is one only when the one before it was
		state.Heard -= h.run.last - max(h.run.first-1, state.Acked)
	}
	return state
}

// unacked is how many bytes are held and not acknowledged.
func (h *history) unacked() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total - max(h.ackedTotal, h.prunedTotal)
}

// first is the number of the oldest entry in the tail; one past Head if that is empty. h.mu is held.
func (h *history) first() uint64 { return h.state.Head + 1 - uint64(len(h.tail)) }

// remembered is the entry seq, if it is in the tail. h.mu is held.
func (h *history) remembered(seq uint64) (stored, bool) {
	if seq < h.first() || seq > h.state.Head {
		return stored{}, false
	}
	return h.tail[seq-h.first()], true
}

// publish makes entries that were committed known to readers, and wakes those who wait.
func (h *history) publish(entries []stored) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tail = append(h.tail, entries...)
	h.state.Head += uint64(len(entries))
	h.total = entries[len(entries)-1].total
	if h.news != nil {
		close(h.news)
		h.news = nil
	}
}

// forget drops the oldest entry of the tail.
func (h *history) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tail[0] = stored{}
	if h.tail = h.tail[1:]; len(h.tail) == 0 {
		h.tail = nil
	}
}

// wait returns a channel that is closed when there is more. h.mu is held.
func (h *history) wait() <-chan struct{} {
	if h.news == nil {
		h.news = make(chan struct{})
	}
	return h.news
}
