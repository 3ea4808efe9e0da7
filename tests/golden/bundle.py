#!/usr/bin/env python3
"""A second implementation of the bundle format: manifest, table of chunks, artifacts.

Standard library and `cryptography` only. Usage: bundle.py [bundle-v2.json]
"""

import hashlib
import json
import pathlib
import re
import sys

from verify import Refused, base64url, digest, envelope, exact, need, strict, text, unbase64url, verify

DEFAULT = pathlib.Path(__file__).parents[2] / "agent/drivers/tests/golden/bundle-v2.json"
TYPE = "application/vnd.qb.bundle.v2+json"
CHUNK = 1 << 20
LIMIT = 2 << 30
MEMBERS = "v name driver version channel arch created_ms min_agent chunks artifacts".split()


def place(value):
    exact(value, ["path", "executable"])
    need(isinstance(value["executable"], bool), "executable")
    parts = value["path"].split("/")
    need(len(value["path"]) <= 255 and len(parts) <= 8, "path length")
    need(all(re.fullmatch(r"[A-Za-z0-9._-]+", p) and p not in (".", "..") for p in parts), "path")


def manifest(payload):
    """The manifest in these bytes, its rules checked."""
    body = exact(strict(payload, 64 * 1024), MEMBERS)
    need(body["v"] == 2, "version")
    need(body["arch"] in ("any", "x86_64", "aarch64"), "arch")
    need(1 <= len(body["artifacts"]) <= 256, "artifacts")
    need(len({a["name"] for a in body["artifacts"]}) == len(body["artifacts"]), "names")
    total = unpacked = 0
    places = []
    for artifact in body["artifacts"]:
        exact(artifact, ["name", "kind", "sha256", "size", "unpacked"])
        text(artifact["name"], 63)
        kind = artifact["kind"]
        if isinstance(kind, dict):
            place(exact(kind, ["file"])["file"])
            places.append(kind["file"]["path"].lower())
            need(artifact["size"] == artifact["unpacked"], "sizes of a file")
        else:
            need(kind in ("tar", "program"), "kind")
        need(artifact["unpacked"] <= 100 * artifact["size"], "ratio")
        total += artifact["size"]
        unpacked += artifact["unpacked"]
    need(total <= LIMIT and unpacked <= 2 * LIMIT, "size")
    need(len(set(places)) == len(places), "places")
    need(not any(b.startswith(a + "/") for a in places for b in places), "a file is a folder")
    exact(body["chunks"], ["size", "sha256"])
    need(body["chunks"]["size"] == -(-total // CHUNK) * 32, "size of the table")
    return body


def verify_bundle(data, publisher):
    """Verifies a whole bundle; returns the digest of its manifest and its artifacts."""
    length = int.from_bytes(data[:4], "big")
    need(length <= 96 * 1024 and len(data) >= 4 + length, "envelope")
    kind, payload, lines = envelope(data[4 : 4 + length])
    need(kind == TYPE, "type")
    need(any(verify("ed25519:" + publisher, kind, payload, sig) for _, sig in lines), "publisher")
    body = manifest(payload)
    start = 4 + length + body["chunks"]["size"]
    table = data[4 + length : start]
    need(hashlib.sha256(table).digest() == unbase64url(body["chunks"]["sha256"], 32), "table")
    rest = data[start:]
    need(len(rest) == sum(a["size"] for a in body["artifacts"]), "size of the artifacts")
    for at in range(0, len(rest), CHUNK):
        line = table[at // CHUNK * 32 :][:32]
        need(hashlib.sha256(rest[at : at + CHUNK]).digest() == line, "chunk %d" % (at // CHUNK))
    artifacts = []
    for artifact in body["artifacts"]:
        content, rest = rest[: artifact["size"]], rest[artifact["size"] :]
        need(hashlib.sha256(content).digest() == unbase64url(artifact["sha256"], 32), artifact["name"])
        artifacts.append((artifact, content))
    return digest(kind, payload), artifacts


def run(path):
    """How many vectors passed; raises at the first that does not."""
    vector = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    noise = bytes((n ^ n >> 8 ^ n >> 16) & 255 for n in range(CHUNK + 300))
    contents = [b"a program", noise, bytes.fromhex(vector["settings"])]
    data = bytes.fromhex(vector["head"]) + b"".join(contents)
    name, artifacts = verify_bundle(data, vector["publisher"])
    need(base64url(name) == vector["digest"], "digest")
    need("sha256-" + name.hex() == vector["directory"], "directory")
    need([content for _, content in artifacts] == contents, "contents")
    need(-(-sum(map(len, contents)) // CHUNK) == vector["chunks"], "chunks")
    head = len(data) - sum(map(len, contents))
    passed = 1
    # A bit changed in the signed manifest, in the table, in a chunk; an end that is missing or too long.
    for at in (head // 4, head - 1, head + 3, len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 1
        passed += refuses(bytes(changed), vector["publisher"])
    return passed + refuses(data[:-1], vector["publisher"]) + refuses(data + b"\0", vector["publisher"])


def refuses(data, publisher):
    try:
        verify_bundle(data, publisher)
    except (Refused, ValueError):
        return 1
    raise Refused("a changed bundle was taken")


def main():
    print("%d vectors of bundles passed" % run(sys.argv[1] if len(sys.argv) > 1 else DEFAULT))


if __name__ == "__main__":
    main()
