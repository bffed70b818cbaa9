package secret_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/hodihq/hodi/daemon/secret"
)

func TestAFileThatOthersCanReadIsNoSecret(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such bits")
	}
	path := filepath.Join(t.TempDir(), "key")
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o644: false, 0o620: false} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte("word"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		b, err := secret.Read(path)
		if ok && (err != nil || string(b) != "word") {
			t.Errorf("%v: %q, %v", mode, b, err)
		}
		if !ok && (err == nil || len(b) > 0 || !strings.Contains(err.Error(), "chmod 600 "+path) || strings.Contains(err.Error(), "word")) {
			t.Errorf("%v: %q, %v", mode, b, err)
		}
	}
}

func TestAFolderThatAnybodyMayWriteToIsNoPlaceForKeys(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such bits")
	}
	dir := t.TempDir()
	for mode, ok := range map[os.FileMode]bool{0o700: true, 0o755: true, 0o775: true, 0o777: false, 0o777 | os.ModeSticky: false} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if err := secret.CheckFolder(dir); (err == nil) != ok || !ok && !strings.Contains(err.Error(), "chmod o-w "+dir) {
			t.Errorf("%v: %v", mode, err)
		}
	}
	if secret.CheckFolder(filepath.Join(dir, "none")) == nil {
		t.Error("a folder that is not there is good enough")
	}
}

func TestACredentialOfSystemdIsFoundByItsNameAndTakenAsItIs(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if err := os.WriteFile(filepath.Join(dir, "hodi-passkey"), []byte("word"), 0o440); err != nil {
		t.Fatal(err)
	}
	if b, err := secret.Read(secret.Find("hodi-passkey")); err != nil || string(b) != "word" {
		t.Errorf("%q, %v", b, err)
	}
	if path := secret.Find("hodi-other"); path != "hodi-other" {
		t.Errorf("what is not there is looked for at %s", path)
	}
}
