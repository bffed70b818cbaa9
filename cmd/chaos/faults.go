package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// A kind is one kind of fault.
type kind struct {
	name  string
	kills int              // processes killed with SIGKILL
	hold  [2]time.Duration // it lasts so long; both 0: it is a change that is there at once and stays
	often int              // in the deck
	// wires are needed: it is a fault of the network between a shop and the edge.
	wires bool
	// grips: it needs the sidecar's process for itself.
	grips bool
	// all: it touches every shop; the one given is the one that suffers most.
	all   bool
	begin func(w *world, s *shop) error
	end   func(w *world, s *shop) error
}

// back is when systemd would start a service again that has died.
const back = 100 * time.Millisecond

// kinds are the faults, in the order of the report.
func kinds() []kind {
	seconds := func(from, to time.Duration) [2]time.Duration {
		return [2]time.Duration{from * time.Second, to * time.Second}
	}
	at := [2]time.Duration{back, back}
	startEdge := func(w *world, _ *shop) error { return w.edge.start() }
	startShop := func(_ *world, s *shop) error { return s.sidecar.start() }
	turned := func(name string, hold [2]time.Duration, change func(*weather)) kind {
		return kind{name: name, hold: hold, often: 1, wires: true,
			begin: func(w *world, s *shop) error { w.network.shops[s.number].turn(change); return nil },
			end: func(w *world, s *shop) error {
				w.network.shops[s.number].turn(func(f *weather) { *f = weather{} })
				return nil
			}}
	}
	return []kind{
		{name: "edge killed", kills: 1, hold: at, often: 6, all: true, begin: func(w *world, _ *shop) error { return w.edge.kill() }, end: startEdge},
		{name: "sidecar killed", grips: true, kills: 1, hold: at, often: 4, begin: func(_ *world, s *shop) error { return s.sidecar.kill() }, end: startShop},
		{name: "edge and a sidecar killed", grips: true, kills: 2, hold: at, often: 2, all: true,
			begin: func(w *world, s *shop) error { return errors.Join(w.edge.kill(), s.sidecar.kill()) },
			end:   func(w *world, s *shop) error { return errors.Join(s.sidecar.start(), w.edge.start()) }},
		{name: "edge stopped and started", hold: at, often: 1, all: true, begin: func(w *world, _ *shop) error { return w.edge.stop() }, end: startEdge},
		{name: "sidecar stopped and started", grips: true, hold: at, often: 1, begin: func(_ *world, s *shop) error { return s.sidecar.stop() }, end: startShop},
		{name: "edge frozen for 6 s", hold: seconds(6, 6), often: 1, all: true,
			begin: func(w *world, _ *shop) error { return w.edge.freeze() }, end: func(w *world, _ *shop) error { return w.edge.thaw() }},
		{name: "sidecar frozen for 6 s", grips: true, hold: seconds(6, 6), often: 1,
			begin: func(_ *world, s *shop) error { return s.sidecar.freeze() }, end: func(_ *world, s *shop) error { return s.sidecar.thaw() }},
		turned("network cut for 2 to 30 s", seconds(2, 30), func(f *weather) { f.cut = true }),
		turned("1 % of packets lost", seconds(5, 10), func(f *weather) { f.loss = 0.01 }),
		turned("5 % of packets lost", seconds(5, 10), func(f *weather) { f.loss = 0.05 }),
		turned("80 ms of delay each way", seconds(5, 10), func(f *weather) { f.delay = 80 * time.Millisecond }),
		turned("UDP dropped", seconds(8, 15), func(f *weather) { f.udp = dropped }),
		turned("UDP refused", seconds(8, 15), func(f *weather) { f.udp = refused }),
		{name: "address of the shop changed", often: 1, wires: true,
			begin: func(w *world, s *shop) error { return w.network.shops[s.number].move() }, end: nothing},
		{name: "router forgot its mapping", often: 1, wires: true,
			begin: func(w *world, s *shop) error { w.network.shops[s.number].rebind(); return nil }, end: nothing},
	}
}

func nothing(*world, *shop) error { return nil }

// A storm injects faults: one after the other at the edge, and one after the other at each shop. A third of the time only
// shops suffer, a third only the edge, so that what a fault does can be measured; and a third all of them, so that faults
// overlap as nobody would think of.
type storm struct {
	world  *world
	ledger *ledger
	calm   time.Duration // the longest time between a fault and the next
	kinds  []kind
	began  time.Time

	mu       sync.Mutex
	deck     map[bool][]int // of kinds for the edge, and for shops: shuffled, and dealt without replacement
	rng      *rand.Rand
	times    []int // by kind
	kills    int
	measures [][]measure // by kind
}

func newStorm(w *world, l *ledger, calm time.Duration, only string, seed uint64) *storm {
	all := slices.DeleteFunc(kinds(), func(k kind) bool { return k.wires && w.network == nil || !strings.Contains(k.name, only) })
	return &storm{world: w, ledger: l, calm: calm, kinds: all, began: time.Now(), deck: map[bool][]int{}, rng: rand.New(rand.NewPCG(seed, 4)),
		times: make([]int, len(all)), measures: make([][]measure, len(all))}
}

// run injects faults until ctx is done. Whatever was broken is whole again when it returns.
func (t *storm) run(ctx context.Context) {
	var wg, watching sync.WaitGroup
	defer watching.Wait()
	defer wg.Wait()
	wg.Go(func() { t.sequence(ctx, nil, &watching) })
	for _, s := range t.world.shops {
		wg.Go(func() { t.sequence(ctx, s, &watching) })
	}
}

// sequence is the faults of the edge, or of one shop.
func (t *storm) sequence(ctx context.Context, s *shop, watching *sync.WaitGroup) {
	for rest(ctx, t.pause()) == nil {
		if !t.allows(s == nil) {
			continue
		}
		if k, victim, hold, ok := t.deal(s); ok {
			t.inject(ctx, k, victim, hold, watching)
		}
	}
}

// allows reports whether it is the time of the edge's faults, or of the shops'.
func (t *storm) allows(ofEdge bool) bool {
	switch third := 4 * t.calm; time.Since(t.began) / third % 3 {
	case 0:
		return !ofEdge
	case 1:
		return ofEdge
	}
	return true
}

func (t *storm) pause() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calm/4 + time.Duration(t.rng.Int64N(int64(t.calm)*3/4))
}

// deal takes the next kind of fault from the deck, if there is any.
func (t *storm) deal(s *shop) (k int, victim *shop, hold time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ofEdge := s == nil
	if len(t.deck[ofEdge]) == 0 {
		for i, one := range t.kinds {
			for range one.often {
				if one.all == ofEdge {
					t.deck[ofEdge] = append(t.deck[ofEdge], i)
				}
			}
		}
		if len(t.deck[ofEdge]) == 0 {
			return 0, nil, 0, false
		}
		t.rng.Shuffle(len(t.deck[ofEdge]), func(i, j int) { d := t.deck[ofEdge]; d[i], d[j] = d[j], d[i] })
	}
	k, t.deck[ofEdge] = t.deck[ofEdge][0], t.deck[ofEdge][1:]
	if victim = s; ofEdge {
		victim = t.world.shops[t.rng.IntN(len(t.world.shops))]
	}
	hold = t.kinds[k].hold[0]
	if more := t.kinds[k].hold[1] - hold; more > 0 {
		hold += time.Duration(t.rng.Int64N(int64(more)))
	}
	return k, victim, hold, true
}

// lasting is how long the deliveries after a change that stays are watched.
const lasting = 5 * time.Second

// inject breaks something, mends it, and watches what that does to deliveries.
func (t *storm) inject(ctx context.Context, number int, victim *shop, hold time.Duration, watching *sync.WaitGroup) {
	k := t.kinds[number]
	touched := []*shop{victim}
	if k.all {
		touched = t.world.shops
	}
	if k.grips {
		victim.grip.Lock()
		defer victim.grip.Unlock()
	}
	now := time.Now()
	var watches []*watch
	for _, s := range touched {
		watches = append(watches, s.pulse.begin(now))
	}
	began := k.begin(t.world, victim)
	if k.hold == [2]time.Duration{} {
		_ = rest(ctx, lasting)
	} else {
		_ = rest(ctx, hold)
	}
	mended := k.end(t.world, victim)
	if err := errors.Join(began, mended); err != nil {
		t.ledger.find(unruly, "%s: %v", k.name, err)
	}
	ended := time.Now()
	t.mu.Lock()
	t.times[number]++
	t.kills += k.kills
	t.mu.Unlock()
	for i, w := range watches {
		w.end()
		watching.Go(func() {
			m := w.measure(ctx, ended)
			if m.missing && m.alone {
				t.ledger.find(unruly, "%s: nothing was delivered for %v after: %s", touched[i].name, stalled, k.name)
			}
			t.mu.Lock()
			t.measures[number] = append(t.measures[number], m)
			t.mu.Unlock()
		})
	}
}

// killed is how many processes were killed so far.
func (t *storm) killed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kills
}
