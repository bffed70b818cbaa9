package main

import (
	"slices"
	"strings"

	"github.com/hodihq/hodi/daemon/reload"
)

// unread says that the file of settings cannot be read: once, whoever else wants to read it.
func (h *health) unread(err error) {
	if text := err.Error() + ": mend it, for with it no daemon starts"; !slices.Contains(h.Problems, text) {
		h.wrong("%s", text)
	}
}

// settings says what is not well with the settings that a daemon was told to read again.
func (h *health) settings(of string, o *reload.Outcome) {
	if o != nil && o.Error != "" {
		h.wrong("the settings that the %s was told to read at %s are not good, and those from before are in use: %s. Mend them, and tell it again (systemctl reload, or SIGHUP)",
			of, o.Time.Local().Format("2006-01-02 15:04"), plain(o.Error))
	}
}

// settingsItem is the line of a daemon whose settings are not all in use.
func settingsItem(o *reload.Outcome) (text string, some bool) {
	switch {
	case o == nil:
		return "", false
	case o.Error != "":
		return "those on disk are not good; those from before are in use", true
	case len(o.Later) > 0:
		return "take effect at the next start: " + strings.Join(o.Later, ", "), true
	}
	return "", false
}
