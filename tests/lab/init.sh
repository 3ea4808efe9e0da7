#!/bin/sh
# PID 1 of a host of the laboratory: makes the host's own control groups writable, where the machine mounts one
# hierarchy for each controller (nspawn leaves them read-only, so that MemoryMax and the like would do
# nothing), then becomes systemd.
for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do
    if [ -d "$dir" ] && [ ! -L "$dir" ] && mountpoint -q "$dir"; then mount -o remount,rw,bind "$dir"; fi
done
# Switches of the one kernel that kubelet sets: a node of Kubernetes gets files of its own in their place.
if [ -n "${LAB_OWN_SWITCHES:-}" ]; then
    mkdir -p /run/lab-switches
    for switch in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
        name="${switch%%=*}"
        file="/run/lab-switches/$(echo "$name" | tr / .)"
        echo "${switch#*=}" >"$file"
        mount --bind "$file" "/proc/sys/$name"
    done
    unset LAB_OWN_SWITCHES
fi
exec /lib/systemd/systemd "$@"
