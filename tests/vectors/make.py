"""Computes the vectors in this folder, independently of the Rust code.

Run by hand after a change of format, from any folder: `python3 tests/vectors/make.py` (needs
`pip install cryptography`). Everything is written out from the definitions: RFC 6962 section 2.1
for trees, FORMATS.md section 2 for batches, C2SP signed-note for notes. Seeds are fixed.
"""

import base64
import hashlib
import json
import pathlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = pathlib.Path(__file__).parent


def sha(data):
    return hashlib.sha256(data).digest()


def split(n):
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def tree(leaves):
    """MTH, over leaf hashes."""
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha(b"\x01" + tree(leaves[:k]) + tree(leaves[k:]))


def path(m, leaves):
    """PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return path(m, leaves[:k]) + [tree(leaves[k:])]
    return path(m - k, leaves[k:]) + [tree(leaves[:k])]


def proof(m, leaves):
    """PROOF(m, D[n]); nothing to prove from the empty tree."""
    return [] if m == 0 else subproof(m, leaves, True)


def subproof(m, leaves, whole):
    if m == len(leaves):
        return [] if whole else [tree(leaves)]
    k = split(len(leaves))
    if m <= k:
        return subproof(m, leaves[:k], whole) + [tree(leaves[k:])]
    return subproof(m - k, leaves[k:], False) + [tree(leaves[:k])]


def key(seed):
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    public = private.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    return private, public


def hexes(hashes):
    return [h.hex() for h in hashes]


def merkle():
    entries = [b"entry %d" % i for i in range(70)]
    leaves = [sha(b"\x00" + e) for e in entries]
    sizes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 64, 70]
    return {
        "entries": "leaf i holds the text `entry i`",
        "roots": [{"size": n, "root": tree(leaves[:n]).hex()} for n in sizes],
        "inclusion": [
            {"size": n, "index": i, "path": hexes(path(i, leaves[:n]))}
            for n, i in [(1, 0), (2, 1), (3, 2), (7, 3), (7, 6), (8, 0), (11, 10), (64, 63), (70, 5), (70, 68)]
        ],
        "consistency": [
            {"old": m, "new": n, "path": hexes(proof(m, leaves[:n]))}
            for m, n in [(0, 5), (1, 2), (3, 7), (4, 7), (6, 7), (6, 8), (7, 7), (8, 64), (11, 70), (64, 70), (69, 70)]
        ],
    }


def len8(data):
    return bytes([len(data)]) + data


def batch(domain, tag, seed, items):
    private, public = key(seed)
    leaves = [sha(b"\x00" + len8(tag) + item) for item in items]
    root = tree(leaves)
    signed = b"pouch-batch/v1\x0a" + len8(domain) + len8(tag) + len(items).to_bytes(4, "big") + root
    return {
        "trust_domain": domain.decode(),
        "tag": tag.decode(),
        "seed": seed,
        "public_key": public.hex(),
        "items": hexes(items),
        "leaves": hexes(leaves),
        "root": root.hex(),
        "signed": signed.hex(),
        "signature": private.sign(signed).hex(),
        "paths": [hexes(path(i, leaves)) for i in range(len(leaves))],
    }


def batches():
    return [
        batch(b"bloc.example", b"envelope", 1, [b"a header alone"]),
        batch(b"bloc.example", b"receipt", 2, [b"item %d" % i for i in range(3)]),
        batch(b"mod.example", b"enrol-answer", 3, [b"item %d" % i for i in range(11)]),
    ]


def note():
    text = "bloc.example/log\n42\n" + base64.b64encode(sha(b"root")).decode() + "\n"
    name = b"bloc.example/log"
    private, public = key(4)
    typed = b"\x01" + public
    key_id = sha(name + b"\x0a" + typed)[:4]
    blob = base64.b64encode(key_id + private.sign(text.encode())).decode()
    # A cosignature, type 04, over the same checkpoint.
    cosigner, cosigner_public = key(5)
    cosigner_name = b"bloc.example/mission/idn"
    cosigner_typed = b"\x04" + cosigner_public
    cosigner_id = sha(cosigner_name + b"\x0a" + cosigner_typed)[:4]
    time = 1_795_000_000
    cosigned = b"cosignature/v1\ntime %d\n" % time + text.encode()
    cosignature = base64.b64encode(cosigner_id + time.to_bytes(8, "big") + cosigner.sign(cosigned)).decode()

    def vkey(name, key_id, typed):
        return name.decode() + "+" + key_id.hex() + "+" + base64.b64encode(typed).decode()

    return {
        "seed": 4,
        "vkey": vkey(name, key_id, typed),
        "cosigner_seed": 5,
        "cosigner_vkey": vkey(cosigner_name, cosigner_id, cosigner_typed),
        "time": time,
        "text": text,
        "note": text + "\n" + f"\u2014 {name.decode()} {blob}\n" + f"\u2014 {cosigner_name.decode()} {cosignature}\n",
    }


def tile_name(index):
    """<N> of tlog-tiles: groups of three digits, all but the last marked by an x."""
    name = "%03d" % (index % 1000)
    while index >= 1000:
        index //= 1000
        name = "x%03d/%s" % (index % 1000, name)
    return name


def tiles(leaves):
    """Every tile of a log, partial ones too, and its bytes."""
    made = {}
    level, hashes = 0, leaves
    while hashes:
        for first in range(0, len(hashes), 256):
            part = hashes[first : first + 256]
            width = "" if len(part) == 256 else ".p/%d" % len(part)
            made["tile/%d/%s%s" % (level, tile_name(first // 256), width)] = b"".join(part)
        hashes = [tree(hashes[i : i + 256]) for i in range(0, len(hashes) - 255, 256)]
        level += 1
    return made


def bundles(entries):
    made = {}
    for first in range(0, len(entries), 256):
        part = entries[first : first + 256]
        width = "" if len(part) == 256 else ".p/%d" % len(part)
        made["tile/entries/%s%s" % (tile_name(first // 256), width)] = b"".join(
            len(e).to_bytes(2, "big") + e for e in part
        )
    return made


def b64(data):
    return base64.b64encode(data).decode()


def audit():
    """A log of traffic leaves: the one at i opens an envelope named SHA-256("envelope i"), under SHA-256("salt i")."""
    name = b"bloc.example/log"
    private, public = key(4)
    key_id = sha(name + b"\x0a" + b"\x01" + public)[:4]
    openings = [
        b"\x01" + (1_795_000_000_000_000 + i).to_bytes(8, "big") + (3).to_bytes(4, "big") + sha(b"envelope %d" % i)
        for i in range(600)
    ]
    salts = [sha(b"salt %d" % i) for i in range(600)]
    entries = [b"\x01\x01" + sha(b"pouch-opening/v1\x00" + s + o) for s, o in zip(salts, openings)]
    leaves = [sha(b"\x00" + e) for e in entries]

    def checkpoint(size):
        text = "bloc.example/log\n%d\n%s\n" % (size, b64(tree(leaves[:size])))
        return text + "\n\u2014 %s %s\n" % (name.decode(), b64(key_id + private.sign(text.encode())))

    def lines(hashes):
        return "".join(b64(h) + "\n" for h in hashes)

    return {
        "names": [{"index": i, "name": tile_name(i)} for i in [0, 1, 999, 1000, 1234067, 999999, 72057594037927935]],
        "opening": {"index": 7, "salt": salts[7].hex(), "opening": openings[7].hex(), "leaf": entries[7].hex()},
        "logs": [
            {
                "size": n,
                "checkpoint": checkpoint(n),
                "tiles": {path: sha(data).hex() for path, data in tiles(leaves[:n]).items()},
                "bundles": {path: sha(data).hex() for path, data in bundles(entries[:n]).items()},
            }
            for n in [0, 1, 255, 256, 257, 513, 600]
        ],
        "proof": "c2sp.org/tlog-proof@v1\nextra %s\nindex 7\n" % b64(salts[7] + openings[7])
        + lines(path(7, leaves[:600]))
        + "\n"
        + checkpoint(600),
        "add_checkpoint": "old 257\n" + lines(proof(257, leaves[:600])) + "\n" + checkpoint(600),
    }


for file, made in [("audit.json", audit()), ("merkle.json", merkle()), ("batch.json", batches()), ("note.json", note())]:
    (HERE / file).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
