package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/hodihq/hodi/daemon/room"
)

const (
	diskWrites  = 20
	diskWithin  = 3 * time.Second // then those that were made have to do
	diskRecord  = 4 << 10         // bytes: a page of SQLite
	diskSlow    = 50 * time.Millisecond
	roomNothing = 64 << 20 // bytes
)

// disk writes into the folder as a database does, a record at a time and each onto the disk, and takes away what it wrote.
func disk(dir, waits string) check {
	return func(ctx context.Context, say func(Finding)) {
		f := Finding{Check: "disk", Verdict: OK, Figures: map[string]float64{}}
		if _, err := os.Stat(dir); err != nil {
			say(skipped(f.Check, dir+" "+missing(err)))
			return
		}
		space, unknown := room.Of(dir)
		took, err := writes(ctx, dir)
		if err != nil {
			say(unwritable(f, dir, err))
			return
		}
		slices.Sort(took)
		median, worst := took[len(took)/2], took[len(took)-1]
		f.Figures["commitMedianMs"], f.Figures["commitWorstMs"] = median.Seconds()*1000, worst.Seconds()*1000
		f.Found = fmt.Sprintf("a write takes %s to be on the disk, %s at worst", milli(median), milli(worst))
		if unknown == nil {
			f.Figures["freeBytes"] = float64(space.Free)
			f.Found += "; " + size(space.Free) + " free"
		} else {
			space.Free = math.MaxInt64
		}
		say(judgeDisk(f, dir, waits, median, space))
	}
}

func judgeDisk(f Finding, dir, waits string, median time.Duration, space room.Room) Finding {
	switch {
	case space.Free < roomNothing:
		f.Verdict = Fail
		f.Do = "The disk is all but full, and then nothing can be stored. Make room; this lists what takes it."
		f.Commands = []string{"sudo du -xh / | sort -h | tail -20"}
	case median > diskSlow:
		f.Verdict = Warn
		f.Do = fmt.Sprintf("This disk is slow. %s Put the data folder on an SSD (an SD card, a USB stick or a network disk will not do), and see whether another program keeps the disk busy.", waits)
		f.Commands = []string{"findmnt -T " + dir, "iostat -x 5 2"}
	case space.Low():
		f.Verdict = Warn
		f.Do = "There is little room left. Make some before it is used up; this lists what takes it."
		f.Commands = []string{"sudo du -xh / | sort -h | tail -20"}
	}
	return f
}

// writes says how long each write took.
func writes(ctx context.Context, dir string) (took []time.Duration, err error) {
	file, err := os.CreateTemp(dir, ".hodi-doctor-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	record := make([]byte, diskRecord)
	for began := time.Now(); len(took) < diskWrites && (len(took) == 0 || time.Since(began) < diskWithin) && ctx.Err() == nil; {
		at := time.Now()
		if _, err := file.Write(record); err != nil {
			return nil, err
		}
		if err := file.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(at))
	}
	if len(took) == 0 {
		return nil, context.Cause(ctx)
	}
	return took, nil
}

func unwritable(f Finding, dir string, err error) Finding {
	f.Verdict = Fail
	f.Found = "nothing can be written to " + dir + ": " + bare(err)
	switch {
	case errors.Is(err, syscall.EROFS):
		f.Do = "The disk is mounted read-only. That is what a failing disk becomes: read what the kernel says of it, and have it replaced before it is written to again."
		f.Commands = []string{"findmnt -T " + dir, "sudo dmesg | tail -50"}
	case errors.Is(err, syscall.ENOSPC):
		f.Do = "The disk is full. Make room; this lists what takes it."
		f.Commands = []string{"sudo du -xh / | sort -h | tail -20"}
	case errors.Is(err, fs.ErrPermission):
		if os.Geteuid() != 0 {
			f.Verdict, f.Do, f.Commands = Skip, "", nil
			f.Found = "skipped, because this user may not write to " + dir + ": run hodi doctor as root, or as the daemon's user"
			break
		}
		f.Do = "See who owns it, and whether its mount lets anybody write."
		f.Commands = []string{"ls -ld " + dir, "findmnt -T " + dir}
	default:
		f.Do = "Read what the kernel says of this disk."
		f.Commands = []string{"sudo dmesg | tail -50"}
	}
	return f
}

// bare is an error without the path that it repeats.
func bare(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// missing words why a folder cannot be looked at.
func missing(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "is not there yet"
	}
	return "cannot be looked at: " + bare(err)
}
