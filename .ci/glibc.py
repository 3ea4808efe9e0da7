#!/usr/bin/env python3
"""Asserts that programs run on every supported system: which symbols of glibc and which libraries they need.

    .ci/glibc.py [--most 2.28] PROGRAM...

Reads the ELF files itself (64-bit, little-endian), since a system that builds may lack binutils. Prints one line
for each program; ends with status 1 if one needs a newer glibc, an unknown library, or none of glibc at all.
"""

import argparse
import pathlib
import struct
import sys

# What glibc itself consists of before and after 2.34, and its loaders. A library of anybody else would be
# one more thing that a distribution may lack.
LIBRARIES = {
    "libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2",
    "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
}
SHT_DYNAMIC, SHT_VERNEED, DT_NEEDED = 6, 0x6FFFFFFE, 1


class Broken(Exception):
    """The file is no program that this can read."""


def text(table, at):
    end = table.index(b"\0", at)
    return table[at:end].decode("ascii")


def sections(data):
    """Type, bytes, number of entries and linked section of every section."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise Broken("no 64-bit little-endian ELF file")
    offset, = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    found = []
    for at in range(offset, offset + size * count, size):
        kind, = struct.unpack_from("<I", data, at + 4)
        start, length = struct.unpack_from("<QQ", data, at + 24)
        link, info = struct.unpack_from("<II", data, at + 40)
        found.append((kind, data[start:start + length], info, link))
    return found


def needs(data):
    """Libraries, and versions of symbols as (library, version)."""
    all_sections = sections(data)
    libraries, versions = [], []
    for kind, body, info, link in all_sections:
        if kind == SHT_DYNAMIC:
            names = all_sections[link][1]
            libraries += [text(names, value) for tag, value in struct.iter_unpack("<qQ", body) if tag == DT_NEEDED]
        if kind == SHT_VERNEED:
            names, at = all_sections[link][1], 0
            for _ in range(info):
                _, count, file, first, following = struct.unpack_from("<HHIII", body, at)
                each = at + first
                for _ in range(count):
                    _, _, _, name, step = struct.unpack_from("<IHHII", body, each)
                    versions.append((text(names, file), text(names, name)))
                    each += step
                at += following
    return libraries, versions


def number(version):
    return tuple(int(part) for part in version.split("."))


def judge(data, most):
    """The newest glibc that is needed, and what is wrong."""
    libraries, versions = needs(data)
    wrong = [f"needs {library}" for library in libraries if library not in LIBRARIES]
    newest = (0,)
    for library, version in versions:
        name, _, value = version.partition("_")
        if name != "GLIBC" or not value[:1].isdigit():
            wrong.append(f"needs {version} of {library}")
        else:
            newest = max(newest, number(value))
    if newest == (0,):
        wrong.append("needs no glibc: it is not what packages hold")
    if newest > number(most):
        wrong.append(f"needs glibc {'.'.join(map(str, newest))}, and {most} is the oldest that is supported")
    return ".".join(map(str, newest)), wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", default="2.28", metavar="VERSION")
    parser.add_argument("programs", nargs="+", type=pathlib.Path, metavar="PROGRAM")
    options = parser.parse_args()
    failed = False
    for program in options.programs:
        try:
            newest, wrong = judge(program.read_bytes(), options.most)
        except (OSError, Broken, ValueError, struct.error) as why:
            newest, wrong = "", [str(why)]
        for line in wrong:
            print(f"glibc: {program}: {line}", file=sys.stderr)
        if not wrong:
            print(f"glibc: {program} runs on glibc {newest} and newer")
        failed = failed or bool(wrong)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
