#!/usr/bin/env python3
"""Vectors of envelope v1, made without any code of this crate.

    pip install cryptography && python3 envelope_v1.py

writes envelope_v1.json beside this script, with the SHA-256 of this script in it. Bytes are in hex; a row is a map from
attribute names to {"S": text}, {"N": decimal}, {"B": hex}, {"BOOL": bool} or {"NULL": true}.
"""

import hashlib
import hmac
import json
import pathlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HERE = pathlib.Path(__file__)
SUITE = 1


def lp(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def expand(key: bytes, info: bytes, length: int = 32) -> bytes:
    return HKDFExpand(SHA256(), length, info).derive(key)


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def u64(number: int) -> bytes:
    return struct.pack(">Q", number)


def canonical(row: dict) -> bytes:
    out = b""
    for name in sorted(row, key=lambda name: name.encode()):
        if name == "seal":
            continue
        ((kind, value),) = row[name].items()
        tag, data = {
            "S": lambda v: (b"S", v.encode()),
            "N": lambda v: (b"N", v.encode()),
            "B": lambda v: (b"B", bytes.fromhex(v)),
            "BOOL": lambda v: (b"T", bytes([v])),
            "NULL": lambda v: (b"0", b""),
        }[kind](value)
        out += lp(name.encode()) + tag + lp(data)
    return out


def sealed(row: dict, key: bytes) -> dict:
    return {**row, "seal": {"B": mac(key, canonical(row)).hex()}}


def row(pk: str, sk: str, entity_type: str, **attributes) -> dict:
    return {"pk": {"S": pk}, "sk": {"S": sk}, "entity_type": {"S": entity_type}, **attributes}


def committed(key: bytes, info: bytes, nonce: bytes, plaintext: bytes, aad: bytes):
    okm = expand(key, info, 64)
    return AESGCM(okm[:32]).encrypt(nonce, plaintext, aad), okm[32:]


def content(dek, store, key_id, aad, version, random, plaintext):
    nonce_key = expand(dek, b"blue/v1/nonce")
    nonce = mac(nonce_key, random + aad + u64(version) + plaintext)[:12]
    info = b"blue/v1/content" + bytes([SUITE]) + lp(store.encode()) + lp(key_id.encode())
    info += aad + u64(version) + nonce
    ciphertext, commitment = committed(dek, info, nonce, plaintext, aad)
    return dict(nonce=nonce, ciphertext=ciphertext, commitment=commitment)


STORE, TENANT, USER, EPOCH = "00112233445566778899aabbccddeeff", "acme", "ada", 1
UMK = bytes(range(32))
KIND, ID = "job", "01J9ZC3F5V7K8M0N1P2Q3R4S5T"
PK = f"{KIND}#{ID}"
AT = "2026-01-02T03:04:05.000000006Z"
LATER = "2026-01-02T03:04:05.000000007Z"

kek_message = b"blue/v1/kek" + lp(STORE.encode()) + lp(TENANT.encode()) + lp(USER.encode()) + u64(EPOCH)
KEK = expand(UMK, kek_message)
assert KEK == mac(UMK, kek_message + b"\x01"), "what a key management service would MAC"

# The store's own row.
nowhere = expand(UMK, b"blue/v1/kek" + lp(b"") * 3 + u64(0))
store_row = sealed(
    row(
        "store", "meta", "store", created_at={"S": AT}, store_id={"S": STORE}, tenant={"S": TENANT}, user={"S": USER},
        kek_epoch={"N": str(EPOCH)}, env={"N": str(SUITE)}, kcv={"B": mac(nowhere, b"blue/v1/kcv")[:8].hex()},
    ),
    expand(KEK, b"blue/v1/store"),
)

# The wrapped data key.
DEK, DEK_VERSION, WRAP_NONCE = bytes([0x42] * 32), 1, bytes(range(100, 112))
wrap_info = b"blue/v1/wrap" + bytes([SUITE]) + lp(STORE.encode()) + lp(KIND.encode()) + lp(ID.encode())
wrap_info += struct.pack(">I", DEK_VERSION) + WRAP_NONCE
wrapped, wrap_commitment = committed(KEK, wrap_info, WRAP_NONCE, DEK, sha256(f"{KIND}:{ID}/dek:{DEK_VERSION}".encode()))
SEAL_KEY, MANIFEST_KEY = expand(DEK, b"blue/v1/seal"), expand(DEK, b"blue/v1/manifest")
dek_row = sealed(
    row(
        PK, f"dek#{DEK_VERSION:04}", "dek", created_at={"S": AT}, updated_at={"S": AT}, env={"N": str(SUITE)},
        wrap_nonce={"B": WRAP_NONCE.hex()}, wrapped={"B": wrapped.hex()}, commit={"B": wrap_commitment.hex()},
        kcv={"B": mac(DEK, b"blue/v1/kcv")[:8].hex()}, kek_epoch={"N": str(EPOCH)}, status={"S": "active"},
    ),
    SEAL_KEY,
)

# A record.
KEY_ID = f"dek#{ID}#{DEK_VERSION}"
SUBKEY = f"{AT}#t1"
ADDRESS = f"{KIND}:{ID}/entity:task/{SUBKEY}"
AAD = sha256(ADDRESS.encode())
PAYLOAD = b'{"argv":["a","b"],"secret":"\xc3\xa9"}'
RANDOM = bytes(range(200, 232))
cipher = content(DEK, STORE, KEY_ID, AAD, 3, RANDOM, PAYLOAD)
record_row = sealed(
    row(
        PK, f"task#{SUBKEY}", "task", created_at={"S": AT}, updated_at={"S": LATER},
        key_id={"S": KEY_ID}, aad_hash={"S": AAD.hex()}, env={"N": str(SUITE)}, ver={"N": "3"},
        content_encrypted={"B": cipher["ciphertext"].hex()}, content_nonce={"B": cipher["nonce"].hex()},
        commit={"B": cipher["commitment"].hex()}, gsi1pk={"S": "status#open"}, gsi1sk={"S": f"{LATER}#{ID}"},
        attempts={"N": "7"}, paused={"BOOL": True}, reason={"NULL": True}, score={"N": "0.85"}, status={"S": "open"},
    ),
    SEAL_KEY,
)


# The manifest: one chunk, and a root with one entry of its own.
def entry(sk: str, version: int, seal: bytes) -> bytes:
    return lp(sk.encode()) + u64(version) + seal[:16]


def manifest_row(sk: str, **attributes) -> dict:
    return sealed(
        row(PK, sk, "manifest", updated_at={"S": LATER}, env={"N": str(SUITE)}, key_id={"S": KEY_ID}, **attributes),
        MANIFEST_KEY,
    )


record_seal = bytes.fromhex(record_row["seal"]["B"])
chunk_row = manifest_row("manifest#07", entries={"B": entry(f"task#{SUBKEY}", 3, record_seal).hex()})
chunk_seal = bytes.fromhex(chunk_row["seal"]["B"])
root_row = manifest_row(
    "manifest", partition_version={"N": "9"}, min_env={"N": "1"}, min_dek={"N": "1"},
    entries={"B": entry("meta", 1, bytes([0xAA] * 32)).hex()}, chunks={"B": (u64(7) + chunk_seal[:16]).hex()},
)

# The score of the contract, with its key.
score_plaintext, score_dek = b"alignment_score:0.85", bytes([1] * 32)
score = content(score_dek, STORE, KEY_ID, AAD, 1, bytes(32), score_plaintext)

vectors = dict(
    script_sha256=sha256(HERE.read_bytes()).hex(),
    store=STORE, tenant=TENANT, user=USER, epoch=EPOCH, kind=KIND, id=ID, created_at=AT, updated_at=LATER,
    umk=UMK.hex(), kek=KEK.hex(), store_row=store_row,
    dek=DEK.hex(), wrap_nonce=WRAP_NONCE.hex(), dek_row=dek_row,
    address=ADDRESS, aad=AAD.hex(), random=RANDOM.hex(), payload=PAYLOAD.decode(), record_row=record_row,
    canonical=canonical(record_row).hex(), chunk_row=chunk_row, root_row=root_row,
    score={
        "dek": score_dek.hex(), "key_id": KEY_ID, "plaintext": score_plaintext.decode(), "version": 1,
        "random": bytes(32).hex(), **{name: value.hex() for name, value in score.items()},
    },
)
HERE.with_suffix(".json").write_text(json.dumps(vectors, indent=1, sort_keys=True) + "\n")
