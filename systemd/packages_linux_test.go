package systemd_test

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The packages are built and installed for real, which takes minutes and a mirror of Debian: `make packages-test`.
func needsPackages(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getenv("HODI_PACKAGES") == "" {
		t.Skip("takes minutes: make packages-test has it")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s on this machine", program)
		}
	}
	if out, err := exec.Command("git", "rev-parse", "--verify", "HEAD").CombinedOutput(); err != nil {
		t.Skipf("a package is of a commit, and here git knows of none: %v\n%s", err, out)
	}
}

// built is what the build makes of a commit, in a clone of its own.
func built(t *testing.T, commit, clone string, environment ...string) string {
	t.Helper()
	return builtAs(t, "", commit, clone, environment...)
}

// builtAs is the same of another version ("": that which the commit is).
func builtAs(t *testing.T, version, commit, clone string, environment ...string) string {
	t.Helper()
	clones := []string{"clone", "--quiet", "--no-checkout"}
	if version != "" {
		clones = append(clones, "--no-tags") // or a commit that is a version already would stay that
	}
	run(t, nil, "git", append(clones, "..", clone)...)
	run(t, nil, "git", "-C", clone, "checkout", "--quiet", "--detach", commit)
	if version != "" {
		run(t, nil, "git", "-C", clone, "tag", "v"+version)
	}
	dist := filepath.Join(clone, "dist")
	run(t, append(environment, "ARCHES=amd64"), filepath.Join(clone, "systemd/package/build"), dist)
	return dist
}

func head(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(run(t, nil, "git", "rev-parse", "HEAD"))
}

func run(t *testing.T, environment []string, name string, arguments ...string) string {
	t.Helper()
	cmd := exec.Command(name, arguments...)
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

func TestPackages(t *testing.T) {
	needsPackages(t, "git")
	commit := head(t)
	dist := built(t, commit, filepath.Join(t.TempDir(), "a"), "TZ=Africa/Nairobi", "LC_ALL=C.UTF-8")
	t.Run("two builds are the same", func(t *testing.T) {
		t.Parallel()
		testTwoBuilds(t, commit, dist)
	})
	t.Run("the deb comes and goes in a fresh Debian", func(t *testing.T) {
		t.Parallel()
		distNewer := builtAs(t, newer, commit, filepath.Join(t.TempDir(), "newer"))
		testFreshDebian(t, dist, distNewer)
	})
}

// What `make systemd-test` has: systemd before and after 253, from which on it knows notify-reload, and a long time without an uplink.
func TestPackagesLiveUnderSystemd(t *testing.T) {
	if os.Getenv("HODI_SYSTEMD") == "" {
		t.Skip("takes minutes: make systemd-test has it; make packages-test has a part of it")
	}
	needsPackages(t, "git")
	commit := head(t)
	dist := built(t, commit, filepath.Join(t.TempDir(), "a"))
	distNewer := builtAs(t, newer, commit, filepath.Join(t.TempDir(), "newer"))
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			testLife(t, freshDebian(t, dist, distNewer, release, "systemd-sysv", "rpm"), true)
		})
	}
}

func testTwoBuilds(t *testing.T, commit, one string) {
	two := built(t, commit, filepath.Join(t.TempDir(), "another-folder"), "TZ=America/Los_Angeles", "HOSTNAME=elsewhere", "USER=somebody")
	files, err := os.ReadDir(one)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		a, err := os.ReadFile(filepath.Join(one, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(two, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(a) != sha256.Sum256(b) {
			t.Errorf("%s is not the same twice", file.Name())
		}
	}
	for _, form := range []string{"hodi-*-linux-amd64", "hodi-*.cdx.json", "hodi_*_amd64.deb", "hodi-*.x86_64.rpm", "SHA256SUMS"} {
		if found, _ := filepath.Glob(filepath.Join(one, form)); len(found) != 1 {
			t.Errorf("there are %d files %s", len(found), form)
		}
	}
	sums := exec.Command("sha256sum", "--check", "--quiet", "SHA256SUMS")
	sums.Dir = one
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("the sums are not those of the files: %v\n%s", err, out)
	}
}

// freshDebian makes a Debian of a release ("": this machine's) in a folder, with a few more packages in it, and ours in its root.
func freshDebian(t *testing.T, dist, distNewer, release string, more ...string) string {
	t.Helper()
	needsPackages(t, "debootstrap", "chroot", "dpkg-deb")
	if os.Geteuid() != 0 {
		t.Skip("only root may change its root")
	}
	site := "http://deb.debian.org/debian"
	if out, err := exec.Command("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages").Output(); err == nil {
		first, _, _ := strings.Cut(string(out), "\n")
		if s, r, ok := strings.Cut(first, " "); ok { // the mirror that this machine has its packages from
			site, release = s, cmp.Or(release, r)
		}
	}
	root := filepath.Join(t.TempDir(), "debian")
	arguments := []string{"--variant=minbase", "--include=" + strings.Join(more, ","), cmp.Or(release, "bookworm"), root, site}
	if len(more) == 0 {
		arguments = slices.Delete(arguments, 1, 2)
	}
	if out, err := exec.Command("debootstrap", arguments...).CombinedOutput(); err != nil {
		t.Skipf("this machine makes no fresh Debian of %s: %v\n%s", site, err, out)
	}
	for name, dist := range map[string]string{"hodi": dist, "newer": distNewer} {
		for _, form := range []string{".deb", ".rpm"} {
			found, _ := filepath.Glob(filepath.Join(dist, "*"+form))
			if len(found) != 1 {
				t.Fatalf("there are %d packages in %s", len(found), dist)
			}
			run(t, nil, "cp", found[0], filepath.Join(root, name+form))
		}
	}
	return root
}

func testFreshDebian(t *testing.T, dist, distNewer string) {
	root := freshDebian(t, dist, distNewer, "")
	in := func(script string) string { return run(t, nil, "chroot", root, "/bin/sh", "-ec", script) }
	before := files(t, root)

	in("dpkg -i /hodi.deb")
	if said := in("hodi --version"); !strings.HasPrefix(said, "hodi version 0.") {
		t.Errorf("hodi says %q", said)
	}
	in("dpkg --verify hodi")
	if modes := in("stat -c '%U %a' /var/lib/hodi/sidecar /etc/hodi/credentials"); modes != "hodi 755\nroot 700\n" {
		t.Errorf("the folders are of %q", modes)
	}
	for _, file := range []string{
		"/usr/lib/systemd/system/hodi-edge.service", "/usr/lib/systemd/system/hodi-edge.socket", "/usr/lib/systemd/system/hodi-sidecar@.service",
		"/usr/lib/sysusers.d/hodi.conf", "/usr/lib/tmpfiles.d/hodi.conf", "/etc/hodi/edge.toml", "/etc/hodi/sidecar.toml",
		"/usr/share/man/man1/hodi-edge-invite.1.gz", "/usr/share/bash-completion/completions/hodi",
	} {
		in("test -s " + file)
	}
	// What the shop wrote stays through an upgrade and a removal, and its books even through a purge.
	in("echo '# ours' >> /etc/hodi/edge.toml; touch /var/lib/hodi/books")
	in("dpkg -i /hodi.deb; grep -q ours /etc/hodi/edge.toml")
	if said := in("dpkg -r hodi"); !strings.Contains(said, "stay in /var/lib/hodi") {
		t.Errorf("removing says %q", said)
	}
	in("! command -v hodi; grep -q ours /etc/hodi/edge.toml; test -e /var/lib/hodi/books")
	in("dpkg -P hodi; test -e /var/lib/hodi/books")

	var left []string
	for _, file := range files(t, root) {
		if _, was := slices.BinarySearch(before, file); !was && !strings.HasPrefix(file, "/var/lib/hodi") && !strings.HasPrefix(file, "/var/lib/dpkg/") && !strings.HasPrefix(file, "/var/log/") {
			left = append(left, file)
		}
	}
	// The user stays, because files of his do; these are the copies that its making left.
	left = slices.DeleteFunc(left, func(file string) bool { return strings.HasPrefix(file, "/etc/") && strings.HasSuffix(file, "-") })
	if len(left) > 0 {
		t.Errorf("a purged package leaves %q", left)
	}

	in("rm -r /var/lib/hodi")
	t.Run("and lives under systemd", func(t *testing.T) {
		more := "apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends systemd-sysv rpm"
		if out, err := exec.Command("chroot", root, "/bin/sh", "-ec", more).CombinedOutput(); err != nil {
			t.Skipf("the fresh Debian cannot be given systemd and rpm: %v\n%s", err, out)
		}
		testLife(t, root, false)
	})
}

// files are the names of all files below a root, in order.
func files(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, strings.TrimPrefix(path, root))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}
