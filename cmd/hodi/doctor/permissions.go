package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hodihq/hodi/daemon/secret"
)

// Secret is a file that a setting names.
type Secret struct{ Setting, Path string }

// permissions looks whether the daemon can read what is its own, and whether others can. The daemon is whoever owns the data
// folder: systemd sees to that, and hodi join.
func permissions(dir string, secrets []Secret) check {
	return func(_ context.Context, say func(Finding)) {
		f := Finding{Check: "permissions", Verdict: OK}
		info, err := os.Stat(dir)
		if err != nil {
			say(skipped(f.Check, dir+" "+missing(err)))
			return
		}
		owner, whose := ownerOf(info)
		f.Found = fmt.Sprintf("%s is %s (%04o)", dir, orSomebody(whose), info.Mode().Perm())
		if err := secret.CheckFolder(dir); err != nil {
			say(refused(f, "Anybody may write to it, and so put keys of their own there. Look at what is in it, and close it.", "ls -la "+dir, "chmod o-w "+dir))
			return
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			say(unreadable(f, err))
			return
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".hodi-doctor-") { // another check's, or gone by now
				continue
			}
			path := filepath.Join(dir, e.Name())
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				say(unreadable(f, err))
				return
			}
			if isSecret(e.Name()) {
				if err := secret.Check(path, info); err != nil {
					f.Found = path + " can be read by others than its owner"
					say(refused(f, "It may be known to them. If nobody has seen it, close it; else have another made (docs/operate.md).", "chmod 600 "+path))
					return
				}
			}
			if by, name := ownerOf(info); by != owner {
				f.Found = fmt.Sprintf("%s is %s, and its folder is %s: the daemon may not be able to use it", path, orSomebody(name), orSomebody(whose))
				say(refused(f, "Give the folder and all in it to one user, that of the daemon.", fmt.Sprintf("sudo chown -R %s: %s", plainOwner(owner, whose), dir)))
				return
			}
		}
		for _, s := range secrets {
			if g, wrong := secretFile(f, s, owner, whose); wrong {
				say(g)
				return
			}
		}
		f.Found += fmt.Sprintf(", and so is all in it; secrets are closed to others (files: %d)", len(secrets)+countSecrets(entries))
		say(f)
	}
}

// secretFile looks at one that the settings name. What systemd loads for a unit is root's.
func secretFile(f Finding, s Secret, owner int, whose string) (Finding, bool) {
	f.Found = fmt.Sprintf("%s: %s", s.Setting, s.Path)
	info, err := os.Stat(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Found += " is not there"
		return refused(f, "Write the secret into that file, so that only its owner can read it. Paste it, Enter, then Ctrl-D.", "sudo install -m 600 /dev/stdin "+s.Path), true
	case err != nil:
		f.Found += " cannot be looked at: " + bare(err)
		return unreadable(f, err), true
	}
	if err := secret.Check(s.Path, info); err != nil {
		f.Found += " can be read by others than its owner"
		return refused(f, "It may be known to them. If nobody has seen it, close it; else get another from Safaricom.", "sudo chmod 600 "+s.Path), true
	}
	loaded := strings.Contains(filepath.ToSlash(s.Path), "/credentials/") // by systemd, which hands a copy to the daemon
	if by, name := ownerOf(info); by != owner && !loaded && owner != 0 {
		f.Found += fmt.Sprintf(" is %s, and the daemon is %s: it cannot read it", orSomebody(name), orSomebody(whose))
		return refused(f, "Give it to the daemon's user.", fmt.Sprintf("sudo chown %s: %s", plainOwner(owner, whose), s.Path)), true
	}
	return f, false
}

func refused(f Finding, do string, commands ...string) Finding {
	f.Verdict, f.Do, f.Commands = Fail, do, commands
	return f
}

func unreadable(f Finding, err error) Finding {
	if hidden(err) {
		f.Verdict, f.Found = Fail, f.Found+", and this user may not look into it"
		f.Do, f.Commands = "Run it as root, or as the daemon's user.", []string{"sudo hodi doctor"}
		return f
	}
	f.Found += ": " + bare(err)
	return refused(f, "Read what the kernel says of this disk.", "sudo dmesg | tail -50")
}

// hidden reports whether root could see what we may not.
func hidden(err error) bool { return errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 }

func isSecret(name string) bool {
	return strings.HasSuffix(name, ".key") || name == "identity.json" || strings.HasSuffix(name, ".secret")
}

func countSecrets(entries []fs.DirEntry) (n int) {
	for _, e := range entries {
		if isSecret(e.Name()) {
			n++
		}
	}
	return n
}

func orSomebody(whose string) string {
	if whose == "" {
		return "somebody's"
	}
	return whose + "'s"
}

func plainOwner(owner int, whose string) string {
	if whose == "" {
		return fmt.Sprint(owner)
	}
	return whose
}

// database reads the first bytes of a file of SQLite: whether it is one, and in what form. It takes no lock, and so cannot
// be in the way of a daemon that runs. Opens says why the daemon would not open it in that form.
func database(dir, name string, opens func(dir string) error) check {
	return func(_ context.Context, say func(Finding)) {
		f := Finding{Check: "database", Verdict: OK}
		path := filepath.Join(dir, name)
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			say(skipped(f.Check, path+" is not there yet: the daemon makes it at its first start"))
			return
		}
		if err != nil {
			f.Found = path
			say(unreadable(f, err))
			return
		}
		defer file.Close()
		const magic = "SQLite format 3\x00"
		var head [100]byte
		n, err := io.ReadFull(file, head[:])
		switch info, statErr := file.Stat(); {
		case n == 0 && errors.Is(err, io.EOF):
			say(skipped(f.Check, path+" is still empty"))
		case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
			f.Found = path + " cannot be read: " + bare(err)
			say(refused(f, "The disk has failed. Read what the kernel says of it, and put a backup back on another (docs/operate.md).", "sudo dmesg | tail -50"))
		case string(head[:len(magic)]) != magic:
			f.Found = path + " is not a database, or is damaged"
			say(refused(f, "Start the daemon: it saves what can be read, and says what became of it. If it does not start, put a backup back (docs/operate.md)."))
		default:
			form := binary.BigEndian.Uint32(head[60:64])
			f.Found = path + " can be read"
			switch ours, others := form&0xffff, form>>16; { // package form; of a new one it is still in the log beside it
			case others > 0:
				f.Found += fmt.Sprintf("; forms %d and %d", ours, others)
			case ours > 0:
				f.Found += fmt.Sprintf("; form %d", ours)
			}
			f.Figures = map[string]float64{"userVersion": float64(form)}
			if statErr == nil {
				f.Found += ", " + size(info.Size())
				f.Figures["bytes"] = float64(info.Size())
			}
			if opens != nil && opens(dir) != nil {
				f.Found += ": a newer hodi has used it, and this one does not open it"
				f = refused(f, "Install the newer hodi again; or put back a backup that was made before (docs/operate.md).")
			}
			say(f)
		}
	}
}
