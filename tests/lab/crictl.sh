#!/bin/sh
# What kubeadm asks of crictl, answered by the ctr beside this file: Debian 12 has no crictl.
#   crictl [-r SOCKET] info | inspecti IMAGE | pull IMAGE | pods -q | stopp ID... | rmp ID... | ps ...
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
socket=/run/containerd/containerd.sock
while [ $# -gt 0 ]; do
    case "$1" in
        -r | --runtime-endpoint) socket="${2#unix://}"; shift 2 ;;
        -i | --image-endpoint) shift 2 ;;
        --runtime-endpoint=*) socket="${1#*=}"; socket="${socket#unix://}"; shift ;;
        -*) shift ;;
        *) break ;;
    esac
done
ctr() { "$here/ctr" --address "$socket" --namespace k8s.io "$@"; }
verb="${1:-}"
[ $# -eq 0 ] || shift

# The containers of a pod, by the pod's id as its sandbox carries it; the sandbox is last.
of_pod() {
    uid="$(ctr containers info "$1" | sed -n 's/.*"io.kubernetes.pod.uid": "\([^"]*\)".*/\1/p' | head -n 1)"
    [ -z "$uid" ] || ctr containers list --quiet "labels.\"io.kubernetes.pod.uid\"==$uid" | grep -vxF "$1" || true
    echo "$1"
}

case "$verb" in
    info) ctr version >/dev/null ;;
    inspecti | pull)
        for word; do image="$word"; done
        ctr images list --quiet | grep -qxF "${image:?no image}" && exit 0
        echo "crictl: there is no image $image here, and nothing is pulled" >&2
        exit 1
        ;;
    pods) ctr containers list --quiet 'labels."io.cri-containerd.kind"==sandbox' ;;
    stopp | rmp)
        for pod; do
            for id in $(of_pod "$pod"); do
                ctr tasks kill --signal SIGKILL "$id" >/dev/null 2>&1 || true
                # Ended or not, a task is removed with force.
                ctr tasks delete --force "$id" >/dev/null 2>&1 || true
                [ "$verb" = stopp ] || ctr containers delete "$id" >/dev/null 2>&1 || true
            done
        done
        ;;
    ps) ctr tasks list ;;
    *)
        echo "crictl: there is no verb $verb here" >&2
        exit 1
        ;;
esac
