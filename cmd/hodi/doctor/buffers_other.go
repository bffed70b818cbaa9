//go:build !linux && !darwin && !freebsd

package doctor

var enlarge []string
