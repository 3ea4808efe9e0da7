#!/usr/bin/env python3
"""Asserts how the workspace is built: which crate may know what, and where the system is touched.

Standard library and cargo only. Changes nothing. Prints one line for each rule that is broken and
ends with status 1, or `layers: N rules hold`. The rules and their reasons are in ARCHITECTURE.md.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What a crate never has in its tree, at any depth. A word matches a whole crate name, and a word
# that ends in * its beginning.
ASYNC = ["tokio*", "mio", "socket2", "async-io", "smol", "futures*"]
SYSTEM = ["rustix*", "libc", "nix", "getrandom", "rand", "rand_core", "tempfile"]
NETWORK = ["libp2p*", "axum*", "hyper*", "rustls*", "reqwest"]
RAFT = ["openraft*"]
PURE = ASYNC + SYSTEM + NETWORK + RAFT

NEVER = {
    "qb-model": PURE + ["qb-*"],
    "qb-queue": PURE + ["qb-*"],
    "qb-drivers": ASYNC + NETWORK + RAFT + ["nix", "getrandom", "rand", "rand_core", "tempfile"]
    + ["qb-queue", "qb-consensus", "qb-mesh", "qb-exec", "qb-portal"],
    "qb-consensus": ["libp2p*", "axum*", "hyper*", "qb-mesh", "qb-drivers", "qb-exec", "qb-portal"],
    "qb-mesh": RAFT + ["axum*", "qb-consensus", "qb-queue", "qb-drivers", "qb-exec", "qb-portal"],
    "qb-portal": RAFT + ["libp2p*", "qb-mesh", "qb-consensus", "qb-queue", "qb-drivers", "qb-exec"],
    "qb-link": RAFT + ["libp2p*", "axum*", "qb-mesh", "qb-consensus", "qb-queue", "qb-drivers", "qb-exec"]
    + ["qb-portal", "qb-agent", "qb-relay"],
    "qb-relay": RAFT + ["libp2p*", "qb-mesh", "qb-consensus", "qb-queue", "qb-drivers", "qb-exec"]
    + ["qb-agent"],
    # Its program names clap, which asks rustix for the width of a terminal; the library has no IO (PLACES).
    "qb-package": ASYNC + NETWORK + RAFT + ["nix", "getrandom", "rand", "rand_core", "tempfile", "qb-*"],
    "qb-service": NETWORK + RAFT + ["qb-*"],
    "qb-exec": RAFT + ["libp2p*", "qb-mesh", "qb-consensus", "qb-queue", "qb-portal"],
    "qb-cli": RAFT + ["libp2p*", "qb-mesh", "qb-consensus", "qb-queue", "qb-exec", "qb-agent"]
    + ["qb-relay"],
    "qb-agent": ["qb-relay", "qb-cli"],
    "qb-tests": RAFT + ["libp2p*"],
}

# Libraries that only one crate of ours may name in its manifest: one place knows each of them.
ONLY = {"openraft": "qb-consensus", "sd-notify": "qb-service", "tracing-journald": "qb-service", "libp2p": "qb-mesh", "utoipa": "qb-portal"}

# Words that may stand only in these files of a crate (tests aside). Comments do not count.
PLACES = [
    ("a pure crate touches no system", "consensus/model/src", r"\bstd::(fs|env|process|thread|os)\b", set()),
    ("a pure crate touches no system", "agent/drivers/src", r"\bstd::(fs|env|process|thread|os)\b", set()),
    ("the package builder touches no system outside its program", "packaging/src",
     r"\bstd::(fs|env|process|thread|os|net|time)\b", {"bin/qb-package.rs"}),
    (
        "the agent's files are touched through files.rs and what keeps one kind of file",
        "agent/src",
        r"\b(std|tokio|rustix)::fs\b",
        {"files.rs", "identity.rs", "blobs.rs", "blobs/held.rs", "bundles.rs", "bundles/origin.rs", "daemon.rs", "host/mod.rs", "knock/client.rs"},
    ),
    ("the agent learns of its machine in host/ only", "agent/src", r'"/(proc|sys)/', {"host/mod.rs"}),
    ("the agent starts no process", "agent/src", r"\bprocess::Command\b|\btokio::process\b", set()),
    (
        "one file starts processes",
        "agent/exec/src",
        r"\bprocess::Command\b|\btokio::process\b|\bCommand::new\b",
        {"supervisor/process.rs", "host/run.rs"},
    ),
    ("the relay makes packages by Vendor and SitePackage alone, of an enrolment file and nothing else", "relay/src",
     r"\bqb_package\b(?!::(\{(Arch, Format, Vendor|SitePackage, digest)\};|digest\())", set()),
    ("one place of the relay puts a file into a package", "relay/src", r"\.with_site\(|from_vendor\(", {"packages.rs"}),
    ("lease reads are banned", "consensus/src", r"\bLeaseRead\b", set()),
    ("the log and the state are the only files of consensus", "consensus/src", r"\bstd::fs\b",
     {"log/disk.rs", "seat.rs", "state/file.rs"}),
    ("the mesh touches no file", "mesh/src", r"\b(std|tokio|rustix)::fs\b", set()),
    ("the portal touches no file and no process", "relay/portal/src",
     r"\b(std|tokio|rustix)::(fs|process)\b", set()),
    ("signatures are verified strictly, in one place", "consensus/model/src", r"\.verify_strict\(", {"dsse.rs"}),
]


def cargo(*args):
    out = subprocess.run(["cargo", "--quiet", *args], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if out.returncode != 0:
        sys.exit(f"layers: cargo {' '.join(args)} failed")
    return out.stdout


def matches(name, words):
    return any(name == w or (w.endswith("*") and name.startswith(w[:-1])) for w in words)


def tree(crate):
    """Every crate below this one that ends up in its program, and what leads to it."""
    out = cargo("tree", "--locked", "-p", crate, "-e", "normal,no-proc-macro", "--prefix", "depth", "-f", " {p}")
    path, found = [], {}
    for line in out.splitlines():
        depth, name = line.split()[:2]
        del path[int(depth):]
        path.append(name)
        found.setdefault(name, " > ".join(path))
    found.pop(crate, None)
    return found


def code(path):
    """A file's code: without comments, and without the tests at its end."""
    text = path.read_text(encoding="utf-8").split("\n#[cfg(test)]\nmod ")[0]
    return re.sub(r"(?m)^\s*//.*$|\s//.*$", "", text)


def is_test(path):
    return path.name == "tests.rs" or path.name.endswith("_tests.rs") or "tests" in path.parts


def main():
    broken, rules = [], 0
    packages = {p["name"]: p for p in json.loads(cargo("metadata", "--locked", "--no-deps", "--format-version", "1"))["packages"]}

    for name in sorted(packages.keys() | NEVER.keys()):
        rules += 2
        if name not in NEVER:
            broken.append(f"{name} is in the workspace, and .ci/layers.py has no rule for it")
        elif name not in packages:
            broken.append(f"{name} has a rule, and is not in the workspace")
        else:
            for below, way in tree(name).items():
                if matches(below, NEVER[name]):
                    broken.append(f"{name} must never import {below}: {way}")

    for name, package in packages.items():
        rules += 1
        if package["license"] != "Apache-2.0":
            broken.append(f"{name}: its manifest must say license Apache-2.0")
        for dependency in package["dependencies"]:
            owner = ONLY.get(dependency["name"], name)
            if owner != name:
                broken.append(f"{name} names {dependency['name']}, which only {owner} may")
    rules += len(ONLY)

    for why, folder, pattern, allowed in PLACES:
        rules += 1
        for path in sorted((ROOT / folder).rglob("*.rs")):
            local = path.relative_to(ROOT / folder)
            if str(local) in allowed or is_test(local):
                continue
            for found in re.finditer(pattern, code(path)):
                broken.append(f"{folder}/{local}: {found.group(0)}: {why}")

    for line in broken:
        print(f"layers: {line}", file=sys.stderr)
    if broken:
        sys.exit(1)
    print(f"layers: {rules} rules hold")


if __name__ == "__main__":
    main()
