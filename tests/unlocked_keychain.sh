#!/bin/sh
# Run a command beside a Secret Service of its own, within dbus-run-session.
set -eu
# Its sockets' paths have to be short; it needs the directory no longer than it takes to come up.
runtime=$(mktemp -d /tmp/keychain.XXXXXX)
printf 'ci\n' | XDG_RUNTIME_DIR=$runtime gnome-keyring-daemon --unlock --components=secrets >/dev/null
# Who asked before it has its name would have the bus start another, which is locked.
waited=0
until dbus-send --session --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus \
  org.freedesktop.DBus.NameHasOwner string:org.freedesktop.secrets | grep -q 'boolean true'; do
  waited=$((waited + 1))
  [ "$waited" -lt 300 ] || { echo "error: the keychain doesn't come up" >&2; exit 1; }
  sleep 0.1
done
rm -r "$runtime"
exec "$@"
