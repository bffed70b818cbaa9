#!/bin/sh
# After hodi is removed. The state stays, even where all else is purged: it is the shop's books, and the keys to its addresses.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
case "$1" in
remove | 0)
	if [ -d /var/lib/hodi ]; then
		echo "hodi: payments, callbacks and keys stay in /var/lib/hodi"
	fi
	;;
purge)
	if [ -d /etc/hodi ]; then
		rmdir --ignore-fail-on-non-empty /etc/hodi/credentials /etc/hodi
	fi
	;;
esac
