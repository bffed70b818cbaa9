package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Write writes a backup of the state in dir, whether its daemon runs or not. extra names where the State's Extra files
// are; those that are not in it are left out. by is the version that writes.
func (s State) Write(ctx context.Context, dir string, extra map[string]string, by string, w io.Writer) (About, error) {
	about, err := s.write(ctx, dir, extra, by, w)
	if err != nil {
		return about, fmt.Errorf("backup: %w", err)
	}
	return about, nil
}

func (s State) write(ctx context.Context, dir string, extra map[string]string, by string, w io.Writer) (about About, err error) {
	if !exists(dir, s.Database) {
		return about, fmt.Errorf("no %s keeps its state in %s: there is no %s", s.Of, dir, s.Database)
	}
	about = About{Format: format, Of: s.Of, Made: time.Now().UTC().Truncate(time.Millisecond), By: by}
	about.Host, _ = os.Hostname()
	if about.Dir, err = filepath.Abs(dir); err != nil {
		return about, err
	}
	database, err := takeSnapshot(ctx, filepath.Join(dir, s.Database))
	if err != nil {
		return about, fmt.Errorf("%s: %w", filepath.Join(dir, s.Database), err)
	}
	defer database.release()

	a := &archive{tar: tar.NewWriter(w), made: about.Made}
	said, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return about, err
	}
	if err := a.add(aboutFile, append(said, '\n')); err != nil {
		return about, err
	}
	if err := a.begin(s.Database, database.size, func(w io.Writer) error { return database.write(ctx, w) }); err != nil {
		return about, err
	}
	if err := database.release(); err != nil { // the daemon may wind its WAL back
		return about, err
	}
	for _, name := range s.Files {
		if err := a.addFile(name, filepath.Join(dir, name)); err != nil {
			return about, err
		}
	}
	for _, name := range s.Extra {
		if path := extra[name]; path != "" {
			if err := a.addFile(name, path); err != nil {
				return about, err
			}
		}
	}
	if err := a.add(sumsFile, a.sums.Bytes()); err != nil {
		return about, err
	}
	return about, a.tar.Close()
}

// archive is a tar that keeps the sums of what goes into it.
type archive struct {
	tar  *tar.Writer
	made time.Time
	sums bytes.Buffer
}

func (a *archive) begin(name string, size int64, write func(io.Writer) error) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: a.made.Truncate(time.Second)}
	if err := a.tar.WriteHeader(header); err != nil {
		return err
	}
	sum := sha256.New()
	if err := write(io.MultiWriter(a.tar, sum)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(&a.sums, "%x  %s\n", sum.Sum(nil), name)
	return nil
}

func (a *archive) add(name string, b []byte) error {
	return a.begin(name, int64(len(b)), func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

func (a *archive) addFile(name, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) > smallFile {
		return fmt.Errorf("%s is too large to be a key", path)
	}
	return a.add(name, b)
}
