//go:build unix

package main

import "golang.org/x/sys/unix"

// kernel is the version of the system's; "" if it does not say.
func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// openFiles is how many files this user's processes may have open, and how many they may ask for.
func openFiles() (now, most uint64) {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return 0, 0
	}
	return uint64(r.Cur), uint64(r.Max)
}
