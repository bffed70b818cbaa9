#!/bin/sh
# Before hodi is removed; not before an upgrade, which a .deb names "upgrade" and an .rpm 1.
set -e

case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl stop hodi-edge.socket hodi-edge.service hodi-sidecar.socket hodi-sidecar.service 'hodi-sidecar@*.service'
		systemctl disable hodi-edge.socket hodi-edge.service hodi-sidecar.socket hodi-sidecar.service
	fi
	;;
esac
