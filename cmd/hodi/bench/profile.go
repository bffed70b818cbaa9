package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// profile takes CPU profiles of edge and sidecar while the load runs, for as long as it is expected to, and profiles of
// their memory at the end. What it returns waits for the former and takes the latter.
func (r *run) profile(ctx context.Context) (finish func() error, err error) {
	if r.Profile == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(r.Profile, 0o755); err != nil {
		return nil, fmt.Errorf("bench: profile: %w", err)
	}
	var cpu errgroup.Group
	seconds := max(1, int(r.Duration/time.Second))
	for _, p := range []*process{r.edge, r.sidecar} {
		cpu.Go(func() error { return r.take(ctx, p, "cpu", fmt.Sprintf("profile?seconds=%d", seconds)) })
	}
	return func() error {
		err := cpu.Wait()
		for _, p := range []*process{r.edge, r.sidecar} {
			err = errors.Join(err, r.take(ctx, p, "heap", "heap?gc=1"), r.take(ctx, p, "goroutines", "goroutine"))
		}
		return err
	}, nil
}

// take writes one profile of a daemon into a file.
func (r *run) take(ctx context.Context, p *process, name, what string) error {
	address, err := p.says(ctx, "debug")
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/debug/pprof/"+what, nil)
	if err != nil {
		return fmt.Errorf("bench: profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("bench: profile: %w", err)
	}
	defer response.Body.Close()
	f, err := os.Create(filepath.Join(r.Profile, p.name+"."+name+".pprof"))
	if err != nil {
		return fmt.Errorf("bench: profile: %w", err)
	}
	_, err = io.Copy(f, response.Body)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("bench: profile: %w", err)
	}
	return nil
}
