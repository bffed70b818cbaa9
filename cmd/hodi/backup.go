package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hodihq/hodi/daemon/backup"
	"github.com/hodihq/hodi/daemon/edge"
	"github.com/hodihq/hodi/daemon/salvage"
	"github.com/hodihq/hodi/daemon/sidecar"
	"github.com/urfave/cli/v2"
)

// backupCommands are backup and restore of one of the daemons.
func backupCommands(of string, flags []cli.Flag, back, restore cli.ActionFunc) []*cli.Command {
	call := "hodi " + of
	return []*cli.Command{
		{
			Name: "backup", Usage: "write all that this " + of + " must not lose into one file, while it runs or not", ArgsUsage: "FILE",
			Description: "FILE may be a folder: the copy is then named after the time. It may be - for standard output, to be " +
				"encrypted or carried on: " + call + " backup - | age -r KEY > FILE. It is there whole or not at all, and the keys are in it.",
			Flags:  append(flags[:len(flags):len(flags)], &cli.BoolFlag{Name: "overwrite", Usage: "write over a FILE that is there"}),
			Action: taking(1, "where to: "+call+" backup FILE", back),
		},
		{
			Name: "restore", Usage: "put a backup back, where no " + of + " runs", ArgsUsage: "FILE",
			Description: "Reads all of FILE (- for standard input) and touches nothing unless it is whole. What came after the " +
				"backup was made is not skipped: the history gets a new epoch, at which the other end sees that it has to look again.",
			Flags:  append(flags[:1:1], &cli.BoolFlag{Name: "replace", Usage: "move the state that is there aside, into a folder beside it"}),
			Action: taking(1, "where from: "+call+" restore FILE", restore),
		},
	}
}

func backupEdge(c *cli.Context) error {
	s, err := edgeConfig(c)
	if err != nil {
		return err
	}
	return writeBackup(c, "edge", func(w io.Writer) (backup.About, error) {
		return edge.Backup(c.Context, s.Data, operator(), c.App.Version, w)
	})
}

func backupSidecar(c *cli.Context) error {
	s, err := sidecarConfig(c)
	if err != nil {
		return err
	}
	return writeBackup(c, "sidecar", func(w io.Writer) (backup.About, error) {
		return sidecar.Backup(c.Context, s.Data, operator(), c.App.Version, w)
	})
}

// writeBackup writes a backup to where the argument says: to a file that is there whole or not at all.
func writeBackup(c *cli.Context, of string, write func(io.Writer) (backup.About, error)) (err error) {
	path := c.Args().First()
	if path == "-" {
		if f, ok := c.App.Writer.(*os.File); ok && isTerminal(f) {
			return fmt.Errorf("%s backup: standard output is this terminal: say where to (%s backup - > FILE)", of, of)
		}
		_, err := write(c.App.Writer)
		return err
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, fmt.Sprintf("hodi-%s-%s.tar", of, time.Now().UTC().Format("20060102T150405Z")))
	}
	if _, err := os.Lstat(path); err == nil && !c.Bool("overwrite") {
		return fmt.Errorf("%s backup: %s is there already: name another, or say --overwrite", of, path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // which makes it 0600
	if wrong := (*fs.PathError)(nil); errors.As(err, &wrong) {                // of a name that nobody gave
		return fmt.Errorf("%s backup: %s cannot be made: %w", of, path, wrong.Err)
	}
	if err != nil {
		return fmt.Errorf("%s backup: %w", of, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := write(f); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = salvage.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("%s backup: %w", of, err)
	}
	fmt.Fprintf(c.App.Writer, "%s  %s  (a secret: the keys are in it)\n", path, bytesText(size))
	return nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// bytesText is a size for people.
func bytesText(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", (n+1023)>>10)
}

func restoreEdge(c *cli.Context) error {
	s, err := edgeConfig(c)
	if err != nil {
		return err
	}
	done, err := restoreFrom(c, s.Data, func(r io.Reader) (backup.Restored, error) {
		return edge.Restore(c.Context, s.Data, operator(), r, c.Bool("replace"))
	})
	if err != nil {
		return err
	}
	said(c.App.Writer, s.Data, done)
	fmt.Fprint(c.App.Writer, `
Start the edge (hodi edge), and only this one: if the machine that the backup is
from still runs an edge, end that one. Sidecars that had heard more than this
edge now knows miss nothing that comes from now on. What is gone:
  callbacks that no sidecar had fetched, and that came after the backup
  endpoints and keys that were added after it: add them anew
  shops that joined after it: invite them anew
  that a shop was revoked after it: revoke it again at once
`)
	return nil
}

func restoreSidecar(c *cli.Context) error {
	s, err := sidecarConfig(c)
	if err != nil {
		return err
	}
	done, err := restoreFrom(c, s.Data, func(r io.Reader) (backup.Restored, error) {
		return sidecar.Restore(c.Context, s.Data, operator(), r, c.Bool("replace"))
	})
	if err != nil {
		return err
	}
	said(c.App.Writer, s.Data, done)
	if len(done.Extra) == 0 {
		fmt.Fprintf(c.App.Writer, "%-10s not in it: that sidecar had joined no edge (hodi join)\n", "identity")
	}
	fmt.Fprint(c.App.Writer, `
Start the sidecar (hodi sidecar), and only this one: if the machine that the
backup is from still runs a sidecar, end that one. It fetches the callbacks that
came after the backup, if the edge still has them (7 days). What is gone:
  sessions that began after the backup, and payments, until their callback comes
hodi.toml and the files of Safaricom's keys were never in it: carry them too.
`)
	return nil
}

func restoreFrom(c *cli.Context, dir string, restore func(io.Reader) (backup.Restored, error)) (backup.Restored, error) {
	in := os.Stdin
	if path := c.Args().First(); path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return backup.Restored{}, fmt.Errorf("restore: %w", err)
		}
		defer f.Close()
		in = f
	}
	done, err := restore(in)
	if errors.Is(err, backup.ErrOccupied) {
		err = fmt.Errorf("%w (--replace moves it aside, into a folder in %s)", err, dir)
	}
	return done, err
}

// said says what was restored.
func said(w io.Writer, dir string, done backup.Restored) {
	about := done.About
	fmt.Fprintf(w, "restored   the %s of %s, as it was at %s (%s ago)\n", about.Of, about.Host,
		about.Made.Local().Format("2006-01-02 15:04:05"), ago(time.Since(about.Made)))
	fmt.Fprintf(w, "data       %s\n", dir)
	if done.Aside != "" {
		fmt.Fprintf(w, "before     %s (what was there; remove it when all is well)\n", done.Aside)
	}
}

// ago is a time for people: two units of it at most.
func ago(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return strings.TrimSuffix(fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second), " 0 s")
	case d < 48*time.Hour:
		return strings.TrimSuffix(fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute), " 0 min")
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
