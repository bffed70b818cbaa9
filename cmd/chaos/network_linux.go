package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A network is one namespace for the edge and one for each shop, each with a single TUN device, whose other end is the
// router. The namespaces have no names: they end with the last process in them.
type network struct {
	edge   host
	shops  []*lane
	tuns   []*os.File
	queues []*slowly
	home   *os.File
	names  []*os.File
	router sync.WaitGroup // reads the tuns
	slow   sync.WaitGroup // empties the queues
}

// newNetwork makes it. The error says why this machine does not allow it.
func newNetwork(shops int, seed uint64) (_ *network, err error) {
	n := &network{}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.home, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return nil, fmt.Errorf("there are no network namespaces: %w", err)
	}
	var wire *os.File
	if n.edge, wire, err = n.namespace(edgeAddress); err != nil {
		return nil, err
	}
	for i := range shops {
		l := &lane{number: i, edge: wire, in: inside(i, 0), out: outside(i, 0), rng: rand.New(rand.NewPCG(seed, uint64(100+i)))}
		l.now.Store(&weather{})
		var tun *os.File
		if l.host, tun, err = n.namespace(l.in); err != nil {
			return nil, err
		}
		l.shop = tun
		l.address = func(to netip.Addr) error { return l.host.in(func() error { return setAddress("wire", to) }) }
		l.there, l.hereabouts = n.slowly(wire), n.slowly(tun)
		n.shops = append(n.shops, l)
	}
	n.router.Go(func() { distribute(wire, n.shops) })
	for _, l := range n.shops {
		n.router.Go(l.collect)
	}
	return n, nil
}

func (n *network) slowly(to *os.File) *slowly {
	s := &slowly{to: to, waiting: make(chan parcel, 1<<14)}
	n.queues = append(n.queues, s)
	n.slow.Go(s.run)
	return s
}

// close ends the router; the namespaces end by themselves.
func (n *network) close() {
	for _, f := range n.tuns {
		f.Close()
	}
	n.router.Wait()
	for _, q := range n.queues {
		close(q.waiting)
	}
	n.slow.Wait()
	for _, f := range append(n.names, n.home) {
		if f != nil {
			f.Close()
		}
	}
}

// namespace makes a namespace with a loopback and a wire, and returns the wire's other end.
func (n *network) namespace(address netip.Addr) (h host, tun *os.File, err error) {
	runtime.LockOSThread() // which is given back only when it is at home again
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return h, nil, fmt.Errorf("network namespaces cannot be made: %w", err)
	}
	name, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		n.names = append(n.names, name)
		if err = raise("lo"); err == nil {
			tun, err = newTUN("wire")
		}
	}
	if err == nil {
		n.tuns = append(n.tuns, tun)
		if err = setAddress("wire", address); err == nil {
			err = raise("wire")
		}
	}
	if back := unix.Setns(int(n.home.Fd()), unix.CLONE_NEWNET); back != nil {
		return h, nil, errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return h, nil, fmt.Errorf("a network namespace cannot be furnished: %w", err)
	}
	return host{in: func(f func() error) error { return n.in(name, f) }}, tun, nil
}

// in runs a function in a namespace: what it dials or starts is there.
func (n *network) in(name *os.File, f func() error) error {
	runtime.LockOSThread()
	if err := unix.Setns(int(name.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("chaos: enter a namespace: %w", err)
	}
	err := f()
	if back := unix.Setns(int(n.home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("chaos: leave a namespace: %w", back)) // the thread ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// newTUN makes a device in the present namespace. It carries IPv4 packets, one for each read and write.
func newTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), "tun"), nil
}

// setAddress gives a device its only address. All others of 10.0.0.0/8 are reached over it.
func setAddress(device string, address netip.Addr) error {
	if err := configure(device, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(address.AsSlice()) }); err != nil {
		return err
	}
	return configure(device, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 0, 0, 0}) })
}

func raise(device string) error {
	return configure(device, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
}

func configure(device string, what uint, fill func(*unix.Ifreq) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("configure %s: %w", device, err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(device)
	if err == nil {
		if err = fill(request); err == nil {
			err = unix.IoctlIfreq(fd, what, request)
		}
	}
	if err != nil {
		return fmt.Errorf("configure %s: %w", device, err)
	}
	return nil
}

// leash lets a process end with us, however we end, but not at once by a signal that is meant for us.
func leash(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// asRoot starts this program again where it may make namespaces, if it may not now: as root of a user namespace of its
// own. It reports whether it did, and how that ended.
func asRoot() (done bool, err error) {
	if os.Geteuid() == 0 || os.Getenv(inNamespace) != "" {
		return false, nil
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGTERM,
	}
	if err := cmd.Start(); err != nil {
		return false, nil // then on loopback, and the report says so
	}
	signal.Ignore(os.Interrupt) // which the one that was started gets too, and ends by; it has a report to write
	return true, cmd.Wait()
}

const inNamespace = "HODI_CHAOS_IN_NAMESPACE"
