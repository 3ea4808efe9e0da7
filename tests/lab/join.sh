#!/bin/sh
# Runs a program in control groups: join.sh CGROUP... -- PROGRAM ARGS
set -eu
while [ "$1" != -- ]; do
    echo $$ >"$1/cgroup.procs"
    shift
done
shift
exec "$@"
