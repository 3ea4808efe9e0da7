#!/bin/sh
# Becomes the supervisor of one host of the laboratory; runs in a mount namespace of its own, so that every
# mount made here vanishes with the host. tests/src/lab decides everything and passes it:
#   boot.sh HOST NETNS LOWER DISK INIT CGROUP... -- [OPTION]...
# HOST name, NETNS path, LOWER root tree, DISK folder with upper/ work/ root/, INIT the file that becomes
# PID 1, CGROUP one folder of every hierarchy, OPTION more options of systemd-nspawn.
set -eu
host=$1 net=$2 lower=$3 disk=$4 init=$5
shift 5

# Before nspawn: the host's own cgroup namespace begins where nspawn is.
while [ "$1" != -- ]; do
    echo $$ >"$1/cgroup.procs"
    shift
done
shift

mount -t overlay overlay -o "lowerdir=$lower,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"

# SYSTEMD_SECCOMP: nspawn's own filter would hide system calls that a real machine has.
# API_VFS_WRITABLE=network: a host sets switches of its own network, and none of the kernel's.
# --register, --keep-unit: the machine may have no systemd.
SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network exec systemd-nspawn --quiet \
    --directory="$disk/root" --machine="$host" --register=no --keep-unit --kill-signal=SIGRTMIN+3 \
    --network-namespace-path="$net" --capability=all --resolv-conf=off --timezone=off --link-journal=no \
    --console=pipe --bind-ro="$init:/run/lab-init" "$@" /run/lab-init
