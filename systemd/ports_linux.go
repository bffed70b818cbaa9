package systemd

import (
	"net"
	"os"
	"syscall"
	"time"
)

// heardWithin is how long systemd may take to hear what it was told.
const heardWithin = 5 * time.Second

// sendFile tells systemd something, and gives it a file.
func sendFile(state string, f *os.File) error {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"}) // of no name; not dialled, for then it would take no files
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := f.SyscallConn() // Fd would have it, and its every copy, block
	if err != nil {
		return err
	}
	to := &net.UnixAddr{Name: os.Getenv("NOTIFY_SOCKET"), Net: "unixgram"}
	var told error
	if err := raw.Control(func(fd uintptr) { _, _, told = c.WriteMsgUnix([]byte(state), syscall.UnixRights(int(fd)), to) }); err != nil {
		return err
	}
	return told
}

// barrier waits until systemd has heard all that it was told: it closes the file that it is given then (sd_notify_barrier(3)).
func barrier() {
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	defer r.Close()
	err = sendFile("BARRIER=1", w)
	w.Close()
	if err != nil {
		return
	}
	r.SetReadDeadline(time.Now().Add(heardWithin))
	_, _ = r.Read(make([]byte, 1))
}
