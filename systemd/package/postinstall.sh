#!/bin/sh
# After hodi is installed or upgraded, from a .deb or an .rpm. Nothing is started that was not running: an edge needs a name first.
set -e

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers hodi.conf
elif ! getent passwd hodi >/dev/null; then
	useradd --system --user-group --no-create-home --home-dir /var/lib/hodi --shell /usr/sbin/nologin hodi
fi
if command -v systemd-tmpfiles >/dev/null; then
	systemd-tmpfiles --create hodi.conf
else
	install -d -m 0700 /etc/hodi/credentials
	install -d -m 0755 /var/lib/hodi
	install -d -o hodi -g hodi -m 0755 /var/lib/hodi/sidecar
fi

# What runs goes on with the new binary. Sockets that systemd holds keep those who come meanwhile waiting, and refuse nobody.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart hodi-edge.service hodi-sidecar.service 'hodi-sidecar@*.service' ||
		echo "hodi: installed, but not all that ran is up again: systemctl status 'hodi-*' says why"
fi
