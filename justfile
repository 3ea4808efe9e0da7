# `just` lists the recipes. They need sh, cargo and python3; `.ci/setup` installs what is missing,
# and the recipes that build programs ask it for Node.js.

set shell := ["sh", "-euc"]

export RUST_BACKTRACE := env("RUST_BACKTRACE", "1")

_list:
    @just --list --unsorted

# Builds qb and runs a whole site with its relay and portal on this machine; --populated fills it
demo *ARGS: web
    cargo build --locked -p qb-agent -p qb-exec -p qb-cli -p qb-relay -p qb-tests --bins
    target/debug/qb-demo {{ ARGS }}

# All tests: Rust, the queue's loom model, the golden vectors in a second language
test: test-rust test-loom test-golden

# Unit and integration tests of every crate, those of the pages in a real browser too
test-rust: build
    @.ci/setup browser package
    @if command -v cargo-nextest >/dev/null; then \
        cargo nextest run --locked --workspace --no-fail-fast; \
    else \
        cargo test --locked --workspace --all-targets --no-fail-fast; \
    fi

# Every interleaving of the durable queue, checked by loom
test-loom:
    CARGO_TARGET_DIR=target/loom RUSTFLAGS="--cfg loom" cargo test --locked -p qb-queue --release --lib

# The signed formats in Python, against the vectors that the Rust tests pin
test-golden:
    @.ci/setup python
    @py=python3; $py -c 'import cryptography' 2>/dev/null || py=target/venv/bin/python; \
        $py tests/golden/verify.py

# A whole site from founding to detach, checked, on the binaries that the tests use
smoke: build
    target/debug/qb-smoke

# A laboratory of hosts with systemd on this machine, as root: just lab up -n 5; just lab --help
[positional-arguments]
lab *ARGS:
    @cargo build --locked --quiet -p qb-tests --bin qb-lab
    @target/debug/qb-lab "$@"

# Tests of the laboratory and in it, as root; makes root trees and packages the first time, which takes minutes
test-lab: web
    @.ci/setup lab package zig
    @.ci/packages
    cargo build --locked -p qb-tests --bins
    target/debug/qb-lab prepare bookworm bullseye trixie >/dev/null
    target/debug/qb-lab prepare bookworm --include libfaketime >/dev/null
    @if command -v cargo-nextest >/dev/null; then \
        QB_BIN_DIR="$PWD/target/portable" cargo nextest run --locked -p qb-tests --features lab --test lab --no-fail-fast; \
    else \
        QB_BIN_DIR="$PWD/target/portable" cargo test --locked -p qb-tests --features lab --test lab --no-fail-fast -- --test-threads=1; \
    fi

# A real cluster's whole life in the laboratory, as root; compiles Kubernetes the first time, which takes ten minutes
test-kubernetes: web
    @.ci/setup lab package zig kubernetes
    @.ci/packages
    cargo build --locked -p qb-tests -p qb-cli --bins
    target/debug/qb-lab kubernetes --version v1.20.2 >/dev/null
    target/debug/qb-lab kubernetes --version v1.20.3 >/dev/null
    QB_BIN_DIR="$PWD/target/portable" cargo test --locked -p qb-tests --features lab --test kubernetes --no-fail-fast -- --test-threads=1 --nocapture

# Figures of the packages on hosts of the laboratory, as JSON lines, as root
bench-lab: web
    @.ci/setup lab package zig
    @.ci/packages
    cargo build --locked -p qb-tests --bins
    QB_BIN_DIR="$PWD/target/portable" target/debug/qb-bench --lab

# Figures of real Kubernetes on hosts of the laboratory, as JSON lines, as root; a minute for each loss
bench-kubernetes RUNS="10": web
    @.ci/setup lab package zig kubernetes
    @.ci/packages
    cargo build --locked -p qb-tests -p qb-cli --bins
    target/debug/qb-lab kubernetes --version v1.20.2 >/dev/null
    QB_BIN_DIR="$PWD/target/portable" target/debug/qb-bench --kubernetes {{ RUNS }}

# Figures as JSON lines, on release binaries; --builds measures cold and incremental builds, too
bench *ARGS: web
    cargo build --locked --release -p qb-agent -p qb-exec -p qb-cli -p qb-relay -p qb-tests --bins
    target/release/qb-bench {{ ARGS }}

# Everything that CI asks of the text; edits nothing
check: check-fmt layers deny clippy

# Formatting; edits nothing
check-fmt:
    cargo fmt --all --check

# Lints of all code, tests too
clippy:
    cargo clippy --locked --workspace --all-targets --features qb-tests/lab -- -D warnings

# Which crate may know what, where the system is touched, the licence of every crate
layers:
    python3 .ci/layers.py

# Licences, bans and sources of dependencies; advisories where their database can be reached
deny:
    .ci/deny

# The web portal's pages, which every program embeds: types, tests, bundle. Nothing if none changed
web:
    @.ci/web

# Formats all code
fmt:
    cargo fmt --all

# Formats, and takes the lints' own corrections
fix: fmt
    cargo clippy --locked --workspace --all-targets --fix --allow-dirty --allow-staged
    cargo fmt --all

# What CI runs, as root: the laboratory needs that
ci: check build test smoke test-lab

# Builds everything, tests too
build: web
    cargo build --locked --workspace --all-targets

# Builds the programs as packages ship them, for this machine only
release: web
    cargo build --locked --profile dist -p qb-agent -p qb-exec -p qb-cli -p qb-relay --bins
    @ls -l target/dist/qb-agent target/dist/qb target/dist/qb-relay

# Programs that run on glibc 2.28 and newer, in target/portable; MACHINE is x86_64 or aarch64
portable MACHINE="x86_64": web
    @.ci/setup zig
    @packaging/portable {{ MACHINE }}

# Packages of agent, relay and command line, deb and rpm, in target/packages
package: portable
    @packaging/texts target/portable target/package-gen
    cargo run --locked --quiet -p qb-package -- build --bin target/portable --gen target/package-gen --out target/packages
