package tunnel

import "github.com/hodihq/hodi/tunnel/wire"

// split is how Welcome's head divides the history that a link brings: the backlog up to it, and the live entries behind
// it, which may overtake the backlog. Each of the two comes in order and without a gap.
type split struct {
	cursor        wire.Cursor // where the Sink is, in the epoch that is coming
	oldest, first uint64      // the backlog begins with first; with an earlier one if the edge thinks it must
	head          uint64
}

func divide(cursor wire.Cursor, w *wire.Welcome) (split, error) {
	if cursor.Epoch != w.Epoch {
		cursor = wire.Cursor{Epoch: w.Epoch}
	}
	if w.Head < cursor.Seq {
		return split{}, endingf(wire.CloseProtocol, "tunnel: welcome to a history that ends at %d, and we are at %d", w.Head, cursor.Seq)
	}
	return split{cursor, w.Oldest, max(w.Oldest, cursor.Seq+1), w.Head}, nil
}

// order is what has come, entry by entry. Where a gap is inevitable, Welcome has told of it, so after a gap in between
// it is the next Welcome that has to tell.
type order struct {
	split
	backlog, live uint64 // the last entry that came of each; 0: none
}

func (o *order) take(seq uint64) error {
	last := &o.backlog
	if seq > o.head {
		last = &o.live
	}
	switch {
	case *last != 0 && seq != *last+1:
		return endingf(wire.CloseProtocol, "tunnel: entry %d came after %d", seq, *last)
	case *last != 0:
	case seq > o.head && seq != o.head+1:
		return endingf(wire.CloseProtocol, "tunnel: live entry %d came first, not %d", seq, o.head+1)
	case seq <= o.head && (seq < o.oldest || seq > o.first || seq == 0):
		return endingf(wire.CloseProtocol, "tunnel: entry %d came first, not %d", seq, o.first)
	}
	*last = seq
	return nil
}

// place is what was given to the Sink, batch by batch: the cursor that goes with a batch, and what may be acknowledged
// when it is committed. As long as the backlog lacks an entry both stay with it; then they jump to the last live one.
type place struct {
	split
	backlog uint64      // the last entry of it; 0: none
	live    wire.Cursor // behind the last live one; its Seq is 0 before the first
}

// behind is the cursor to commit with the batch.
func (p *place) behind(batch []wire.Entry) wire.Cursor {
	var backlog, live *wire.Entry
	for i := range batch {
		if e := &batch[i]; e.Seq > p.head {
			live = e
		} else {
			backlog = e
		}
	}
	if backlog != nil {
		p.backlog = backlog.Seq
		if p.backlog > p.cursor.Seq {
			p.cursor.Seq, p.cursor.Sum = backlog.Seq, backlog.Sum()
		}
	}
	if live != nil {
		p.live = wire.Cursor{Epoch: p.cursor.Epoch, Seq: live.Seq, Sum: live.Sum()}
	}
	if p.whole() && p.live.Seq != 0 {
		p.cursor = p.live
	}
	return p.cursor
}

// ack is the number to acknowledge; 0: none.
func (p *place) ack() uint64 {
	if p.whole() && p.live.Seq != 0 {
		return p.live.Seq
	}
	return p.backlog
}

// whole reports that there is no backlog, or no more.
func (p *place) whole() bool { return p.backlog == p.head || p.backlog == 0 && p.first > p.head }
