package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/hodihq/hodi/daemon/salvage"
)

// stored is the file. It is small, and not in the database: what there is to tell is also that the database cannot be written.
type stored struct {
	Note string `json:"note"`
	book
	mail
	Lanes map[string]*lane `json:"ways"`
}

const note = "What somebody was told of by this edge, and what is still to be told. Without this file it is told once more."

// load reads what was kept. A file that cannot be read is as good as none: what lasts is then told once more.
func (n *Notifier) load() {
	if n.config.File == "" {
		return
	}
	b, err := os.ReadFile(n.config.File)
	var s stored
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			n.log.Warn("what a person was told of cannot be read, and is told once more", "file", n.config.File, "err", err)
		}
		return
	}
	n.book, n.mail = s.book, s.mail
	n.book.Records = slices.DeleteFunc(n.book.Records, func(r *record) bool { return r == nil })
	for name, l := range s.Lanes {
		if l != nil {
			l.After = min(l.After, n.mail.Last) // or no message would come behind it for as long
			n.lane[name] = l
		}
	}
}

// keepEvery is how often the file is written at most, and how long the disk is left alone when it could not be.
const keepEvery = time.Second

// keep writes the file when there is something to keep, in a goroutine of its own: a disk that is stuck keeps nobody from
// being told. When ctx ends it writes what is left.
func (n *Notifier) keep(ctx context.Context) {
	said := ""
	for done := false; !done; {
		select {
		case <-n.dirty:
		case <-ctx.Done():
			done = true
			select {
			case <-n.dirty:
			default:
				return
			}
		}
		err := n.save()
		switch {
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			n.log.Warn("what a person was told of could not be kept: after a restart it may be told once more", "file", n.config.File, "err", err)
		}
		pause := time.NewTimer(keepEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// page is what the file is made of, and how much more of it there is than is needed, so that there is room to write into when
// the disk has none.
const page = 4096

func (n *Notifier) save() error {
	b, err := n.encode()
	if err != nil || n.config.File == "" {
		return err
	}
	full := (len(b)/page + 2) * page
	b = append(b, bytes.Repeat([]byte{'\n'}, full-len(b))...)
	err = salvage.WriteFile(n.config.File, b)
	if err != nil && n.overwrite(b) == nil {
		return nil
	}
	return err
}

// overwrite writes into the file that there is, as long as it is: that needs no more room. When the machine fails meanwhile the
// file is lost, and what lasts is told once more.
func (n *Notifier) overwrite(b []byte) error {
	f, err := os.OpenFile(n.config.File, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	text := bytes.TrimRight(b, "\n")
	if int64(len(text)) > info.Size() {
		return errors.New("it has grown")
	}
	text = append(text, bytes.Repeat([]byte{'\n'}, int(info.Size())-len(text))...)
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	return f.Sync()
}

// encode writes down all that is worth it, and drops the messages that nobody waits for.
func (n *Notifier) encode() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mail.Messages = slices.DeleteFunc(n.mail.Messages, func(m Message) bool {
		return !slices.ContainsFunc(n.ways, func(w Way) bool {
			l := n.lane[w.Name()]
			return l != nil && m.Number > l.After
		})
	})
	return json.MarshalIndent(stored{note, n.book, n.mail, n.lane}, "", "\t")
}
