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
