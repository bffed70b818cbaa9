package main

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// kernel is the version of the system's.
func kernel() string {
	v := windows.RtlGetVersion()
	return fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber)
}

// openFiles is not limited here.
func openFiles() (now, most uint64) { return 0, 0 }
