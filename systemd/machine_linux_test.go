package systemd_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a Debian that systemd has booted, in namespaces of its own: processes, mounts, network, cgroups.
type machine struct {
	*testing.T
	pid   string   // of its systemd, as it is seen from here
	net   *os.File // its network
	http  *http.Client
	posts *load
}

// patience is how long a test waits for what must come: on a machine with twenty at work for each of its processors, too.
const patience = 2 * time.Minute

// enter takes a shell into a cgroup of its own and from there into the namespaces. The hierarchy is mounted anew, because not
// every machine shows it, and not at the same place.
const enter = `
mount -t cgroup2 none "$work/cgroup"
mkdir "$work/cgroup/$group"
echo $$ >"$work/cgroup/$group/cgroup.procs"
exec unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child --propagation private sh -ec "$boot"
`

// boot mounts what a container's manager mounts, and becomes systemd.
const bootScript = `
mount --bind "$root" "$root"
cd "$root"
mount -t proc none proc
mount -t sysfs -o ro none sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
for device in null:3 zero:5 full:7 random:8 urandom:9; do
	mknod -m 666 dev/${device%:*} c 1 ${device#*:}
done
mknod -m 666 dev/tty c 5 0
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 none dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs none dev/shm
mount -t tmpfs -o mode=755 none run
pivot_root . mnt
umount -l /mnt
mount --make-rshared / # else the credentials of a unit, which are a mount, stay with the process that made it
exec env -i container=hodi-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
`

// boot boots the Debian in root. A machine that forbids any of what that takes is named, and the test skipped.
func boot(t *testing.T, root string) *machine {
	t.Helper()
	for _, program := range []string{"unshare", "nsenter", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s on this machine", program)
		}
	}
	work := t.TempDir()
	group := fmt.Sprintf("hodi-test-%d", os.Getpid())
	if err := os.Mkdir(filepath.Join(work, "cgroup"), 0o755); err != nil {
		t.Fatal(err)
	}
	environment := append(os.Environ(), "work="+work, "group="+group, "root="+root, "boot="+bootScript)
	said := new(bytes.Buffer)
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec", enter)
	cmd.Env, cmd.Stdout, cmd.Stderr = environment, said, said
	cmd.WaitDelay = time.Second
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Skipf("this machine makes no namespaces: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill() // and with it all that is in there: --kill-child
		<-ended
		remove := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec",
			`mount -t cgroup2 none "$work/cgroup"; i=0; while [ -d "$work/cgroup/$group" ] && [ $i -lt 100 ]; do find "$work/cgroup/$group" -depth -type d -exec rmdir {} + || sleep 0.1; i=$((i+1)); done`)
		remove.Env = environment
		remove.Run() // an empty cgroup is all that would stay
	})

	m := &machine{T: t}
	for deadline := began.Add(patience); ; time.Sleep(50 * time.Millisecond) {
		select {
		case <-ended:
			t.Skipf("this machine lets no systemd run in namespaces: %s", said)
		default:
		}
		if m.pid = childOf(cmd.Process.Pid); m.pid != "" {
			if state, _ := m.try("systemctl is-system-running --wait"); strings.HasPrefix(state, "running") || strings.HasPrefix(state, "degraded") {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Skipf("systemd does not come up in the namespaces of this machine: %s", said)
		}
	}
	version, _, _ := strings.Cut(m.in("systemctl --version"), "\n")
	t.Logf("%s is up after %v", version, time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		if t.Failed() {
			journal, _ := m.try("journalctl --no-pager -o short-precise -n 300 -u 'hodi-*'; systemctl --no-pager status 'hodi-*'")
			t.Log(journal)
		}
	})

	var err error
	if m.net, err = os.Open("/proc/" + m.pid + "/ns/net"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.net.Close() })
	m.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: m.dial}}
	return m
}

// childOf is the process whose parent is parent; "" if there is none.
func childOf(parent int) string {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ") // after the name: state, parent
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			return filepath.Base(filepath.Dir(path))
		}
	}
	return ""
}

// in runs a script in the machine, which is to succeed, and returns what it prints.
func (m *machine) in(script string) string {
	m.Helper()
	out, err := m.try(script)
	if err != nil {
		m.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

func (m *machine) try(script string) (string, error) {
	cmd := exec.Command("nsenter", "--target", m.pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-ec", script)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ip changes the machine's network.
func (m *machine) ip(arguments ...string) {
	m.Helper()
	run(m.T, nil, "nsenter", append([]string{"--target", m.pid, "--net", "--", "ip"}, arguments...)...)
}

// there runs f on a thread that is in the machine's network, where what f opens stays.
func (m *machine) there(f func()) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this
		err := unix.Setns(int(m.net.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

func (m *machine) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	if e := m.there(func() { c, err = new(net.Dialer).DialContext(ctx, network, address) }); e != nil {
		return nil, e
	}
	return c, err
}

func (m *machine) listen(address string) (l net.Listener) {
	m.Helper()
	var err error
	if e := m.there(func() { l, err = net.Listen("tcp", address) }); e != nil || err != nil {
		m.Fatal(e, err)
	}
	return l
}

// eventually polls across a process boundary, where nothing can be waited on.
func (m *machine) eventually(what string, done func() bool) {
	m.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// show is one property of a unit.
func (m *machine) show(unit, property string) string {
	m.Helper()
	return strings.TrimSpace(m.in("systemctl show --value --property=" + property + " " + unit))
}

// write makes a file in the machine.
func (m *machine) write(path, content, mode string) {
	m.Helper()
	m.in("mkdir -p $(dirname " + path + "); cat >" + path + " <<'END'\n" + strings.TrimSuffix(content, "\n") + "\nEND\nchmod " + mode + " " + path)
}
