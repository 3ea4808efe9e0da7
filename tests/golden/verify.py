#!/usr/bin/env python3
"""A second implementation of the signed formats, which checks the golden vectors.

Standard library and `cryptography` only. Usage: verify.py [vectors.json]
Prints `N vectors passed`; the first mismatch ends it with status 1.
"""

import base64
import hashlib
import ipaddress
import json
import pathlib
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DEFAULT = pathlib.Path(__file__).parents[2] / "consensus/model/tests/golden/vectors.json"

# --- ed25519, strictly: canonical keys of prime order, S below L, R not of small order -------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
IDENTITY = (0, 1, 1, 0)


def add(a, b):
    """Adds points in extended coordinates."""
    x = (a[1] - a[0]) * (b[1] - b[0]) % P
    y = (a[1] + a[0]) * (b[1] + b[0]) % P
    t = 2 * a[3] * b[3] * D % P
    z = 2 * a[2] * b[2] % P
    e, f, g, h = y - x, z - t, z + t, y + x
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def times(n, point):
    out = IDENTITY
    while n:
        if n & 1:
            out = add(out, point)
        point = add(point, point)
        n >>= 1
    return out


def is_identity(point):
    return point[0] % P == 0 and (point[1] - point[2]) % P == 0


def decompress(encoded):
    """A point, or None for an encoding that is of no point or not the canonical one."""
    value = int.from_bytes(encoded, "little")
    sign, y = value >> 255, value & (2**255 - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, P - 2, P) % P
    x = pow(x, (P + 3) // 8, P)
    if (x * x * v - u) % P:
        x = x * SQRT_M1 % P
    if (x * x * v - u) % P:
        return None
    if x == 0 and sign:
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def key_is_good(key):
    point = decompress(key)
    return point is not None and not is_identity(times(8, point)) and is_identity(times(L, point))


def verify_raw(key, message, sig):
    if len(sig) != 64 or int.from_bytes(sig[32:], "little") >= L:
        return False
    r = decompress(sig[:32])
    if r is None or is_identity(times(8, r)):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(sig, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def verify(keyid, media_type, body, sig):
    """Verifies a signature as it stands in an envelope."""
    kind, _, text = keyid.partition(":")
    key = unbase64url(text, 32)
    if not key_is_good(key):
        return False
    if kind == "ed25519":
        return verify_raw(key, pae(media_type, body), sig)
    if kind == "sk-ed25519":
        if len(sig) != 69 or not sig[0] & 1:
            return False
        application = hashlib.sha256(b"ssh:qb").digest()
        message = application + sig[:5] + hashlib.sha256(pae(media_type, body)).digest()
        return verify_raw(key, message, sig[5:])
    return False


# --- encodings ------------------------------------------------------------------------------------


class Refused(Exception):
    """A text that breaks a rule."""


def need(holds, what):
    if not holds:
        raise Refused(what)


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unbase64url(text, size):
    need(re.fullmatch(r"[A-Za-z0-9_-]*", text), "base64url alphabet")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    need(base64url(data) == text and len(data) == size, "base64url")
    return data


def unbase64(text):
    need(re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", text) and len(text) % 4 == 0, "base64 alphabet")
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "base64 trailing bits")
    return data


def pae(media_type, body):
    kind = media_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def digest(media_type, body):
    return hashlib.sha256(pae(media_type, body)).digest()


def site_text(data):
    """`qb1` and base32 without padding, lower case."""
    return "qb1" + base64.b32encode(data).decode().rstrip("=").lower()


def fingerprint(data):
    value = int.from_bytes(hashlib.sha256(data).digest(), "big") >> 176
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    text = "".join(alphabet[value >> shift & 31] for shift in range(75, -1, -5))
    return "-".join(text[at : at + 4] for at in range(0, 16, 4))


# --- strict JSON ----------------------------------------------------------------------------------

UNSAFE = re.compile("[\x00-\x1f\x7f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def integer(text):
    need(not text.startswith("-"), "negative")
    value = int(text)
    need(value <= 2**53 - 1, "above 2^53-1")
    return value


def refuse(what):
    def stop(_):
        raise Refused(what)

    return stop


def members(pairs):
    need(len({name for name, _ in pairs}) == len(pairs), "duplicate member")
    return dict(pairs)


def walk(value, depth, null):
    """Counts members and elements, and applies the rules for strings, null and depth."""
    if value is None:
        need(null, "null")
    if isinstance(value, str):
        need(not UNSAFE.search(value), "unsafe character")
    if not isinstance(value, (dict, list)):
        return 0
    need(depth <= 8, "depth")
    if isinstance(value, dict):
        for name in value:
            need(not UNSAFE.search(name), "unsafe character in a name")
        value = list(value.values())
    return len(value) + sum(walk(v, depth + 1, null) for v in value)


def strict(data, limit, null=False):
    need(len(data) <= limit, "size")
    need(data[:1] == b"{" and data[-1:] == b"}", "first or last byte")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=members,
            parse_int=integer,
            parse_float=refuse("float"),
            parse_constant=refuse("constant"),
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise Refused(str(error)) from error
    need(walk(value, 1, null) <= 4096, "members")
    return value


def exact(value, required, optional=()):
    need(isinstance(value, dict), "not an object")
    need(set(required) <= set(value) <= set(required) | set(optional), "members of the object")
    return value


def text(value, size):
    need(isinstance(value, str) and len(value.encode()) <= size, "text")


def whole(value):
    need(isinstance(value, int) and not isinstance(value, bool), "integer")


def intent(data):
    value = strict(data, 64 * 1024, null=True)
    names = ["v", "site", "id", "by", "issued_ms", "expires_ms", "anchor", "expect", "action"]
    exact(value, names, ["after", "note"])
    whole(value["v"])
    need(value["v"] == 1, "v")
    need(re.fullmatch("qb1[a-z2-7]{52}", value["site"]), "site")
    need(re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", value["id"]), "id")
    need(re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value["by"]), "by")
    whole(value["issued_ms"])
    whole(value["expires_ms"])
    exact(value["anchor"], ["index", "hash"])
    whole(value["anchor"]["index"])
    unbase64url(value["anchor"]["hash"], 32)
    if "after" in value:
        need(isinstance(value["after"], list) and len(value["after"]) <= 8, "after")
        after = [unbase64url(text, 32) for text in value["after"]]
        need(after == sorted(set(after)), "after is a set")
    if "note" in value:
        text(value["note"], 256)
    need(isinstance(value["expect"], list) and len(value["expect"]) <= 64, "expect")
    for expect in value["expect"]:
        other = "hash" if expect.get("object") == "trust" else "generation"
        exact(expect, ["object", other])
    objects = [expect["object"] for expect in value["expect"]]
    need(objects == sorted(set(objects)), "expect is a set")
    need(isinstance(value["action"], dict) and len(value["action"]) == 1, "action")
    for name, members in SETTLED.items():
        if name in value["action"]:
            action = exact(value["action"][name], members, ["settings"])
            if "settings" in action:
                need(action["driver"] == "kubeadm", "settings of another driver")
                settings(action["settings"])
    return value


SETTLED = {
    "cluster.create": ["cluster", "driver", "version", "bundle"],
    "cluster.upgrade": ["cluster", "driver", "version", "bundle", "batch"],
}
NOT_UNICAST = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"]
OVERLAYS = ["10.245.0.0/16", "100.127.0.0/16", "172.31.0.0/16"]
NAME = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


def network(text, default, least, most):
    """A network of unicast addresses that is not the default; the default where none is written."""
    if text is None:
        return ipaddress.IPv4Network(default)
    need(isinstance(text, str) and text != default, "a network that is the default is left out")
    try:
        found = ipaddress.IPv4Network(text)
    except ValueError:
        raise Refused("network") from None
    need(str(found) == text and least <= found.prefixlen <= most, "form or size of a network")
    need(not any(found.overlaps(ipaddress.IPv4Network(block)) for block in NOT_UNICAST), "unicast")
    return found


def settings(value):
    exact(value, [], ["pods", "services", "endpoints", "port"])
    need(value, "settings that choose nothing are left out")
    need(None not in value.values(), "null in settings")
    pods = network(value.get("pods"), "10.244.0.0/16", 8, 20)
    services = network(value.get("services"), "10.96.0.0/16", 12, 24)
    need(not pods.overlaps(services), "pods and services overlap")
    taken = [pods, services]
    overlays = [ipaddress.IPv4Network(block) for block in OVERLAYS]
    taken.append(next(block for block in overlays if not any(block.overlaps(net) for net in taken)))
    taken += [ipaddress.IPv4Network(block) for block in NOT_UNICAST]
    if "port" in value:
        whole(value["port"])
        need(1 <= value["port"] <= 65535 and value["port"] != 6443 and "endpoints" in value, "port")
    if "endpoints" not in value:
        return
    endpoints = value["endpoints"]
    need(isinstance(endpoints, list) and 1 <= len(endpoints) <= 4, "endpoints")
    for endpoint in endpoints:
        need(isinstance(endpoint, str) and len(endpoint) <= 253, "endpoint")
        if re.fullmatch("[0-9]*", endpoint.split(".")[-1]):
            try:
                address = ipaddress.IPv4Address(endpoint)
            except ValueError:
                raise Refused("address") from None
            need(not any(address in net for net in taken), "an endpoint that nobody reaches")
        else:
            need(all(re.fullmatch(NAME, part) for part in endpoint.split(".")), "endpoint")
    need(len(set(endpoints)) == len(endpoints), "an endpoint stands twice")


JSON_TYPES = "charter intent login grant trust-recover"
BINARY_TYPES = (
    "token-use token-entry knock admit link-agent link-relay tunnel-agent command report clock voters checkpoint receipt"
    " seal-key tls-key gossip"
)
TYPES = {"application/vnd.qb.%s.v1+json" % name for name in JSON_TYPES.split()}
TYPES |= {"application/vnd.qb.%s.v1" % name for name in BINARY_TYPES.split()}
TYPES |= {"application/vnd.qb.bundle.v2+json"}


def envelope(data):
    value = exact(strict(data, 96 * 1024), ["payload", "payloadType", "signatures"])
    need(value["payloadType"] in TYPES, "payload type")
    need(isinstance(value["signatures"], list) and 1 <= len(value["signatures"]) <= 16, "signatures")
    lines = []
    for line in value["signatures"]:
        exact(line, ["keyid", "sig"])
        text(line["keyid"], 128)
        lines.append((line["keyid"], unbase64(line["sig"])))
    return value["payloadType"], unbase64(value["payload"]), lines


# --- the vectors ----------------------------------------------------------------------------------


def signed(vector):
    """Checks an envelope with only valid signatures, and its digest; returns type and payload."""
    kind, payload, lines = envelope(vector["envelope"].encode())
    for keyid, sig in lines:
        need(verify(keyid, kind, payload, sig), "signature by " + keyid)
    if "digest" in vector:
        need(base64url(digest(kind, payload)) == vector["digest"], "digest")
    if "signers" in vector:
        need([keyid for keyid, _ in lines] == vector["signers"], "signers")
    return kind, payload, lines


def check_pae(vector):
    body = base64.b64decode(vector["body"])
    need(pae(vector["type"], body) == base64.b64decode(vector["pae"]), "pae")
    need(base64url(digest(vector["type"], body)) == vector["digest"], "digest")


def check_charter(vector):
    kind, payload, lines = signed(vector)
    need(kind == "application/vnd.qb.charter.v1+json", "type")
    body = strict(payload, 8 * 1024, null=True)
    exact(body, ["v", "name", "nonce", "founders", "recovery", "relays", "issued_ms"])
    keys = set()
    for founder in body["founders"]:
        exact(founder, ["admin", "name", "keys"])
        for key in founder["keys"]:
            exact(key, ["key", "class", "expires_ms"])
            prefix = "sk-ed25519:" if key["class"] == "hardware" else "ed25519:"
            keys.add(prefix + key["key"])
    need(keys <= {keyid for keyid, _ in lines}, "every founder's key signs")
    site = digest(kind, payload)
    need(site_text(site) == vector["site"], "site")
    need(fingerprint(site) == vector["fingerprint"], "fingerprint")


def check_intent(vector):
    kind, payload, _ = signed(vector)
    need(kind == "application/vnd.qb.intent.v1+json", "type")
    intent(payload)


GRANT = ["v", "site", "scope", "target", "admin_key", "client_key", "issued_ms", "expires_ms", "nonce"]


def check_grant(grant, signers):
    exact(grant, GRANT)
    need(grant["v"] == 1 and grant["site"].startswith("qb1"), "version and site")
    need(len(grant["scope"]) == 1 and set(grant["scope"]) <= {"cluster", "node"}, "scope")
    if isinstance(grant["target"], dict):
        need(set(grant["target"]) == {"certificate"}, "target")
        unbase64url(grant["target"]["certificate"], 32)
    else:
        need(grant["target"] in ("apiserver", "agent-portal"), "target")
    need("ed25519:" + grant["admin_key"] in signers, "signed by the key that it names")
    unbase64url(grant["client_key"], 32)
    unbase64url(grant["nonce"], 16)
    life = grant["expires_ms"] - grant["issued_ms"]
    need(0 < life <= 15 * 60 * 1000, "life")


def check_document(vector):
    kind, payload, _ = signed(vector)
    value = strict(payload, 64 * 1024)
    need(kind != "application/vnd.qb.intent.v1+json", "type")
    if kind == "application/vnd.qb.grant.v1+json":
        check_grant(value, vector["signers"])


def check_statement(vector):
    body = base64.b64decode(vector["body"])
    need(body[:1] == b"\x01", "version byte")
    sig = base64.b64decode(vector["sig"])
    need(verify("ed25519:" + vector["key"], vector["type"], body, sig), "signature")
    need(base64url(digest(vector["type"], body)) == vector["digest"], "digest")


def read_entry(text):
    """Voter, node, token and mint of an entry by a join token, both signatures verified."""
    kind, body, lines = envelope(text)
    need(kind == "application/vnd.qb.token-entry.v1" and len(lines) == 1, "type")
    at = 0

    def take(size):
        nonlocal at
        need(at + size <= len(body), "cut")
        at += size
        return body[at - size : at]

    def varint():
        out = shift = 0
        while True:
            byte = take(1)[0]
            out |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return out

    need(take(1) == b"\x01", "version byte")
    site, voter = take(32), take(32)
    used, token, sig = take(varint()), take(32), take(64)
    take(varint()), take(varint()), take(32)
    mint_index, _, mint = varint(), varint(), take(varint())
    need(at == len(body), "trailing bytes")
    need(verify("ed25519:" + base64url(voter), kind, body, lines[0][1]), "voter's signature")
    need(used[:33] == b"\x01" + site and used[65:97] == voter and len(used) == 129, "use")
    need(verify("ed25519:" + base64url(token), "application/vnd.qb.token-use.v1", used, sig), "token's signature")
    minted, payload, _ = envelope(mint)
    return voter, used[33:65], token, digest(minted, payload), mint_index


def check_token_entry(vector):
    try:
        voter, node, token, mint, index = read_entry(vector["envelope"].encode())
    except Refused:
        need(not vector["valid"], "verdict")
        return
    need(vector["valid"], "verdict")
    names = {"voter": voter, "node": node, "token": token, "mint": mint}
    need(all(base64url(held) == vector[name] for name, held in names.items()), "keys")
    need(index == vector["mint_index"], "index")


def check_signature(vector):
    key, sig = unbase64url(vector["key"], 32), base64.b64decode(vector["sig"])
    need(key_is_good(key) == vector["key_ok"], "key")
    body = base64.b64decode(vector["body"])
    need(verify("ed25519:" + vector["key"], vector["type"], body, sig) == vector["valid"], "signature")


def check_json(vector):
    data = base64.b64decode(vector["bytes"])
    try:
        {"intent": intent, "envelope": envelope}[vector["form"]](data)
        valid = True
    except Refused:
        valid = False
    need(valid == vector["valid"], "verdict")


def check_name(vector):
    need(fingerprint(base64.b64decode(vector["bytes"])) == vector["fingerprint"], "fingerprint")


def number(value):
    return value.to_bytes(8, "big")


def check_chain(chain):
    body = base64.b32decode(chain["site"][3:].upper() + "====")
    head, count = body, 0
    for at, record in enumerate(chain["records"], 1):
        need(record["index"] == at, "index")
        data = b"qb/chain/1\0" + head + number(at) + number(record["log_time"])
        data += unbase64url(record["digest"], 32) + bytes([record["outcome"]]) + number(record["generation"])
        head = hashlib.sha256(data).digest()
        need(base64url(head) == record["head"], "head %d" % at)
        count += 1
    return count


def check_trust_log(log):
    kind, payload, _ = envelope(log["charter"].encode())
    head, count = digest(kind, payload), 0
    for entry in log["entries"]:
        need(base64url(head) == entry["parent"], "parent")
        signed({"envelope": entry["envelope"], "digest": entry["digest"]})
        data = b"qb/trust/1\0" + head + unbase64url(entry["digest"], 32)
        data += number(entry["index"]) + number(entry["log_time"])
        head = hashlib.sha256(data).digest()
        need(base64url(head) == entry["head"], "head")
        count += 1
    return count


def main():
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    vectors = json.loads(path.read_text(encoding="utf-8"))
    checks = {
        "pae": check_pae,
        "charters": check_charter,
        "intents": check_intent,
        "documents": check_document,
        "statements": check_statement,
        "token_entries": check_token_entry,
        "signatures": check_signature,
        "json": check_json,
        "names": check_name,
    }
    passed = 0
    for section, check in checks.items():
        for at, vector in enumerate(vectors[section]):
            try:
                check(vector)
            except Exception as error:
                print("%s %d (%s): %r" % (section, at, vector.get("name", ""), error), file=sys.stderr)
                return 1
            passed += 1
    for section, check in {"chain": check_chain, "trust_log": check_trust_log}.items():
        try:
            passed += check(vectors[section])
        except Exception as error:
            print("%s: %r" % (section, error), file=sys.stderr)
            return 1
    if path == DEFAULT:
        # Here, since it builds on this module.
        import attest
        import bundle

        passed += attest.run(attest.DEFAULT)
        passed += bundle.run(bundle.DEFAULT)
    print("%d vectors passed" % passed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
