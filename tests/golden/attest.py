#!/usr/bin/env python3
"""A second implementation of attestations: from the pinned site to what a majority of voters signed.

Standard library and `cryptography` only. Usage: attest.py [attest.json]
"""

import json
import pathlib
import sys

from verify import (
    Refused,
    base64url,
    digest,
    envelope,
    hashlib,
    intent,
    need,
    number,
    site_text,
    strict,
    unbase64,
    unbase64url,
    verify,
)

DEFAULT = pathlib.Path(__file__).parents[2] / "consensus/model/tests/golden/attest.json"
CHARTER = "application/vnd.qb.charter.v1+json"
INTENT = "application/vnd.qb.intent.v1+json"
VOTERS = "application/vnd.qb.voters.v1"
CHECKPOINT = "application/vnd.qb.checkpoint.v1"
STALE_MS = 90_000


class Body:
    """Reads the fields of a postcard body in order."""

    def __init__(self, data):
        need(len(data) <= 512 and data[:1] == b"\x01", "body")
        self.data, self.at = data, 1

    def take(self, count):
        need(self.at + count <= len(self.data), "body is short")
        part = self.data[self.at : self.at + count]
        self.at += count
        return part

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            need(shift < 63 or byte <= 1, "varint")
            value |= (byte & 127) << shift
            if not byte & 128:
                need(byte or not shift, "varint is not the shortest")
                return value
            shift += 7

    def end(self):
        need(self.at == len(self.data), "bytes after the body")


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def voters(data):
    body = Body(data)
    value = {"site": body.take(32), "epoch": body.varint(), "seq": body.varint()}
    value["set"] = [body.take(32) for _ in range(body.varint())]
    value["previous"] = body.take(32)
    body.end()
    need(1 <= len(value["set"]) <= 7 and value["set"] == sorted(set(value["set"])), "set")
    return value


def checkpoint(data):
    body = Body(data)
    value = {"site": body.take(32)}
    for name in ["epoch", "index", "term", "log_time"]:
        value[name] = body.varint()
    for name in ["chain_head", "trust_head", "state_hash"]:
        value[name] = body.take(32)
    value["voters_seq"] = body.varint()
    body.end()
    return value


def majority(kind, line, members):
    """The members that signed; refused if they are not more than half."""
    body, signed = unbase64(line["body"]), set()
    for one in line["signatures"]:
        key = unbase64url(one["key"], 32)
        if key in members and verify("ed25519:" + one["key"], kind, body, unbase64(one["sig"])):
            signed.add(key)
    need(len(signed) > len(members) // 2, "majority")
    return signed


def signed_intent(text, admins):
    """An intent that one of these keys signed."""
    kind, payload, lines = envelope(text.encode())
    need(kind == INTENT, "an intent")
    need(any(k in admins and verify(k, kind, payload, s) for k, s in lines), "an admin's signature")
    return intent(payload)


def authorized(action, name):
    need(list(action) == [name], "action")
    return {unbase64url(node["node"], 32) for node in action[name]["nodes"]}


def check(document, pinned):
    """What the document proves of the pinned site, or Refused.

    Admins are followed only as far as the vectors go: founders, and keys that `admin.add` brings.
    """
    need(document["v"] == 1, "version")
    kind, payload, lines = envelope(document["charter"].encode())
    need(kind == CHARTER and site_text(digest(kind, payload)) == pinned, "site")
    site, charter = digest(kind, payload), strict(payload, 8 * 1024, null=True)
    owners = {"ed25519:" + k["key"] for f in charter["founders"] for k in f["keys"]}
    valid = {k for k, s in lines if verify(k, kind, payload, s)}
    need(owners <= valid, "every founder's key signs")

    admins, head, heads = set(owners), site, [site]
    for entry in document["trust"]:
        action = signed_intent(entry["envelope"], admins)["action"]
        kind, payload, _ = envelope(entry["envelope"].encode())
        data = b"qb/trust/1\0" + head + digest(kind, payload)
        head = hashlib.sha256(data + number(entry["index"]) + number(entry["log_time"])).digest()
        heads.append(head)
        for key in action.get("admin.add", {"keys": []})["keys"]:
            admins.add("ed25519:" + key["key"])

    founding = signed_intent(document["founding"], owners)
    need(founding["site"] == pinned, "founding of this site")
    known = authorized(founding["action"], "site.found")
    members = sorted(known)
    body = b"\x01" + site + varint(0) + varint(0) + varint(len(members)) + b"".join(members) + site
    at = {"epoch": 0, "seq": 0, "digest": digest(VOTERS, body)}
    for link in document["voters"]:
        data = unbase64(link["body"])
        following = voters(data)
        need(following["site"] == site and following["epoch"] == at["epoch"], "link of this site")
        need(following["seq"] == at["seq"] + 1 and following["previous"] == at["digest"], "link follows")
        majority(VOTERS, link, members)
        members = following["set"]
        at = {"epoch": following["epoch"], "seq": following["seq"], "digest": digest(VOTERS, data)}
    for entry in document["roster"]:
        known |= authorized(signed_intent(entry["envelope"], admins)["action"], "node.authorize")
    need(set(members) <= known, "every voter is authorized")

    seen = checkpoint(unbase64(document["checkpoint"]["body"]))
    need(seen["site"] == site and seen["epoch"] == at["epoch"], "checkpoint of this site")
    need(seen["voters_seq"] == at["seq"], "checkpoint of this set")
    signed = majority(CHECKPOINT, document["checkpoint"], members)
    need(seen["trust_head"] in heads, "trust head")
    return seen, members, signed


def check_vector(vector):
    verdict = vector["verdict"]
    try:
        seen, members, signed = check(vector["document"], vector["site"])
    except Refused as why:
        need("unverified" in verdict, "verified elsewhere, refused here: %s" % why)
        return
    need("attested" in verdict, "refused elsewhere, verified here")
    for name, value in verdict["attested"].items():
        have = seen[name]
        need((base64url(have) if isinstance(have, bytes) else have) == value, name)
    need([base64url(m) for m in members] == verdict["voters"], "voters")
    need(sorted(base64url(s) for s in signed) == sorted(verdict["signed"]), "signed")
    age = max(0, vector["now_ms"] - seen["log_time"])
    judged = {"stale_since_ms": seen["log_time"]} if age > STALE_MS else {"verified_age_ms": age}
    need(judged == verdict["judged"], "age")


def run(path):
    """How many vectors passed; raises at the first that does not."""
    vectors = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["vectors"]
    for vector in vectors:
        try:
            check_vector(vector)
        except Exception as error:
            raise RuntimeError("attest %s: %r" % (vector["name"], error)) from error
    return len(vectors)


def main():
    print("%d vectors of attestations passed" % run(sys.argv[1] if len(sys.argv) > 1 else DEFAULT))


if __name__ == "__main__":
    main()
