#!/bin/sh
# PID 1 of a host of the laboratory: makes the host's own control groups writable, where the machine mounts one
# hierarchy for each controller (nspawn leaves them read-only, so that MemoryMax and the like would do
# nothing), then becomes systemd.
for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do
    if [ -d "$dir" ] && [ ! -L "$dir" ] && mountpoint -q "$dir"; then mount -o remount,rw,bind "$dir"; fi
done
exec /lib/systemd/systemd "$@"
