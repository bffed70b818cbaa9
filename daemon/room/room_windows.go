package room

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// Of is the room where a folder lies.
func Of(dir string) (Room, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return Room{}, fmt.Errorf("room: of %s: %w", dir, err)
	}
	var free, size uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, &size, nil); err != nil {
		return Room{}, fmt.Errorf("room: of %s: %w", dir, err)
	}
	return Room{Free: int64(free), Size: int64(size)}, nil
}
