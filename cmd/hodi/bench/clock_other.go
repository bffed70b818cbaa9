//go:build !linux

package bench

import "time"

func sharpen() {}

func sleep(d time.Duration) { time.Sleep(d) }
