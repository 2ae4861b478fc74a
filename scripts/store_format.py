#!/usr/bin/env python3
"""A second implementation of docs/store/format.md. Needs the package cryptography.

    store_format.py read --key FILE [--tenant T] [--user U]
        Takes tables as `aws dynamodb scan` prints them, one on each line of standard input. Prints for each, on one
        line, what is in it, or {"refused": code, "why": ..}; exits with 1 if any was refused.
    store_format.py write --key FILE [--tenant T] [--user U]
        Takes {"Items": [..], "partition": "job#j1", "at": time, "put": [{"type", "id", "clear", "status", "payload"}],
        "remove": [[type, id]]} and prints the table with one commit more. Without Items, it sets up a store. With "do":
        "rotate" or "erase" it does that to the partition instead, with "begin_epoch" or "end_epochs" to the store; with
        "export" it prints the partition's "bundle" in hexadecimal, too.
    store_format.py bundle --key FILE [--floor EPOCH]
        Takes a bundle on standard input, and prints what is in it, or {"refused": code, "why": ..} and exits with 1. Keys
        under epochs below the floor are refused.
    store_format.py vectors [--check]
        Makes the vectors of the Rust crate, or compares them; and counts the changed bytes that it refuses.
"""

import argparse
import base64
import datetime
import decimal
import hashlib
import hmac
import json
import os
import pathlib
import re
import struct
import sys
import uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

VECTORS = pathlib.Path(__file__).parent.parent / "crates/blue-encrypted-store/tests/vectors/format_v1.json"
SUITE = 1
# The epoch of a new store, and that of the key that wraps nothing: what outlives the others is under it.
FIRST, OWN = 1, 0
MAX_ENTRIES, MAX_REFERENCES, MAX_RECORDS, MAX_KEYS, MAX_EPOCHS = 64, 8_192, 100_000, 64, 16


class Refused(Exception):
    """A check of the format that failed, by its code."""

    def __init__(self, code: str, why: str):
        super().__init__(f"{code}: {why}")
        self.code, self.why = code, why


def require(holds: bool, code: str, why: str):
    if not holds:
        raise Refused(code, why)


# Section 1: notation.
def lp(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def u64(number: int) -> bytes:
    return struct.pack(">Q", number)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(key: bytes, info: bytes, length: int = 32) -> bytes:
    return HKDFExpand(SHA256(), length, info).derive(key)


# Section 2: names.
SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}", re.A)
ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.A)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", re.A)


def is_id(text: str) -> bool:
    return bool(SLUG.fullmatch(text) or ULID.fullmatch(text))


def is_time(text: str) -> bool:
    if not TIME.fullmatch(text):
        return False
    try:
        datetime.datetime.fromisoformat(text[:19])
    except ValueError:
        return False
    return True


def later(time: str, nanoseconds: int) -> str:
    seconds = datetime.datetime.fromisoformat(time[:19])
    more, fraction = divmod(int(time[20:29]) + nanoseconds, 10**9)
    return f"{(seconds + datetime.timedelta(seconds=more)).isoformat()}.{fraction:09}Z"


def sort_key(sk: str):
    """What a row of a partition is, by its sort key; None for one that no store writes."""
    head, _, rest = sk.partition("#")
    if sk == "meta":
        return ("record", "meta", "", "")
    if sk == "manifest":
        return ("root",)
    if head in ("dek", "manifest"):
        width, largest = (4, 2**32 - 1) if head == "dek" else (2, 2**64 - 1)
        if not re.fullmatch(r"[0-9]{1,20}", rest) or int(rest) > largest or f"{int(rest):0{width}}" != rest:
            return None
        return (head, int(rest))
    time, _, record = rest.partition("#")
    if not SLUG.fullmatch(head) or head == "meta" or not is_time(time) or not is_id(record):
        return None
    return ("record", head, time, record)


# Section 3: attributes. A row is a map from names to (type, value).
def canonical_number(text: str) -> str:
    require(bool(re.fullmatch(r"-?\d+(\.\d*)?([eE][+-]?\d{1,9})?", text, re.A)), "attributes_malformed", "no number")
    mantissa, _, exponent = text.lstrip("-").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if not digits:
        return "0"
    require(len(digits) <= 38 and -130 < point <= 126, "attributes_malformed", "a number out of range")
    sign = "-" if text.startswith("-") else ""
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def from_item(item: dict) -> dict:
    return {name: from_value(value) for name, value in item.items()}


def from_value(value: dict):
    ((kind, content),) = value.items()
    require(kind in ("S", "N", "B", "BOOL", "NULL") and (kind, content) != ("NULL", False),
            "attributes_malformed", f"an attribute of type {kind}")
    if kind == "N":
        return kind, canonical_number(content)
    return kind, base64.b64decode(content) if kind == "B" else content


def to_item(row: dict) -> dict:
    return {
        name: {kind: base64.b64encode(value).decode() if kind == "B" else value}
        for name, (kind, value) in sorted(row.items())
    }


def canonical(row: dict) -> bytes:
    encode = {
        "S": lambda v: (b"S", v.encode()),
        "N": lambda v: (b"N", v.encode()),
        "B": lambda v: (b"B", v),
        "BOOL": lambda v: (b"T", bytes([v])),
        "NULL": lambda v: (b"0", b""),
    }
    out = b""
    for name in sorted(row, key=str.encode):
        if name != "seal":
            tag, value = encode[row[name][0]](row[name][1])
            out += lp(name.encode()) + tag + lp(value)
    return out


def sealed(row: dict, key: bytes) -> dict:
    return {**row, "seal": ("B", mac(key, canonical(row)))}


def check_seal(row: dict, key: bytes):
    good = hmac.compare_digest(get(row, "seal", "B", 32), mac(key, canonical(row)))
    require(good, "seal_mismatch", "its attributes were changed")


def get(row: dict, name: str, kind: str, length=None):
    found, value = row.get(name, (None, None))
    require(found == kind and length in (None, len(value or "")), "attributes_malformed", name)
    return value


def integer(row: dict, name: str, largest: int = 2**64 - 1) -> int:
    text = get(row, name, "N")
    require(text.isdigit() and int(text) <= largest, "attributes_malformed", name)
    return int(text)


def time_of(row: dict, name: str):
    require(is_time(get(row, name, "S")), "attributes_malformed", name)


def only(row: dict, *names: str):
    require(set(row) <= {"pk", "sk", "entity_type", "env", "seal", *names}, "attributes_malformed", "unknown")


def check_suite(row: dict):
    require(integer(row, "env") == SUITE, "attributes_malformed", "an unknown suite")


def new_row(pk: str, sk: str, entity_type: str, **attributes) -> dict:
    return {"pk": ("S", pk), "sk": ("S", sk), "entity_type": ("S", entity_type), "env": ("N", str(SUITE)), **attributes}


# Section 5: keys.
def kek_of(umk: bytes, store: str, tenant: str, user: str, epoch: int) -> bytes:
    message = b"blue/v1/kek" + b"".join(lp(field.encode()) for field in (store, tenant, user)) + u64(epoch)
    key = expand(umk, message)
    assert key == mac(umk, message + b"\x01"), "what a key management service would MAC"
    return key


def kcv(key: bytes) -> bytes:
    return mac(key, b"blue/v1/kcv")[:8]


def umk_kcv(umk: bytes) -> bytes:
    return kcv(kek_of(umk, "", "", "", 0))


def close(key: bytes, info: bytes, nonce: bytes, aad: bytes, plaintext: bytes):
    okm = expand(key, info, 64)
    return AESGCM(okm[:32]).encrypt(nonce, plaintext, aad), okm[32:]


def open_committed(key: bytes, info: bytes, nonce: bytes, aad: bytes, ciphertext: bytes, commitment: bytes) -> bytes:
    okm = expand(key, info, 64)
    require(hmac.compare_digest(okm[32:], commitment), "commitment_mismatch", "of another key, or another place")
    try:
        return AESGCM(okm[:32]).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise Refused("tag_mismatch", "the ciphertext was changed") from None


# Section 6: the store's own row.
class Store:
    def __init__(self, umk: bytes, row: dict, tenant: str, user: str):
        only(row, "created_at", "store_id", "tenant", "user", "kek_epoch", "min_kek_epoch", "kcv")
        require(get(row, "entity_type", "S") == "store", "address_mismatch", "no store's row")
        time_of(row, "created_at")
        check_suite(row)
        get(row, "seal", "B", 32)
        self.epoch = integer(row, "kek_epoch")
        self.floor = integer(row, "min_kek_epoch") if "min_kek_epoch" in row else FIRST
        require(1 <= self.floor <= self.epoch < self.floor + MAX_EPOCHS, "attributes_malformed", "kek_epoch")
        self.id, self.row = get(row, "store_id", "S"), row
        owner = get(row, "tenant", "S"), get(row, "user", "S")
        self.kek_of = lambda epoch: kek_of(umk, self.id, tenant, user, epoch)
        self.owner, self.own, key_check = (tenant, user), self.kek_of(OWN), get(row, "kcv", "B", 8)
        try:
            check_seal(row, store_seal_key(self.kek_of(self.epoch)))
        except Refused:
            require(key_check == umk_kcv(umk), "encryption_key_changed", "another key than at set-up")
            check_seal(row, store_seal_key(kek_of(umk, self.id, *owner, self.epoch)))
            raise Refused("store_of_another_owner", "/".join(owner)) from None

    def row_at(self, epoch: int, floor: int) -> dict:
        """Its row with other epochs."""
        kept = {name: value for name, value in self.row.items() if name not in ("min_kek_epoch", "seal")}
        row = {**kept, "kek_epoch": ("N", str(epoch)), **({"min_kek_epoch": ("N", str(floor))} if floor > FIRST else {})}
        return sealed(row, store_seal_key(self.kek_of(epoch)))


def store_seal_key(kek: bytes) -> bytes:
    return expand(kek, b"blue/v1/store")


def store_row(umk: bytes, store: str, tenant: str, user: str, at: str) -> dict:
    row = new_row(
        "store", "meta", "store", created_at=("S", at), store_id=("S", store), tenant=("S", tenant), user=("S", user),
        kek_epoch=("N", str(FIRST)), kcv=("B", umk_kcv(umk)),
    )
    return sealed(row, store_seal_key(kek_of(umk, store, tenant, user, FIRST)))


# Section 7: a wrapped data key.
class DataKey:
    def __init__(self, partition: str, version: int, dek: bytes):
        self.id = f"dek#{partition}#{version}"
        self.version, self.dek = version, dek
        self.seal_key, self.manifest_key, self.nonce_key = (
            expand(dek, b"blue/v1/" + label) for label in (b"seal", b"manifest", b"nonce")
        )


class Place:
    """A partition of a store."""

    def __init__(self, store: Store, kind: str, partition: str):
        self.store, self.kind, self.id, self.pk = store, kind, partition, f"{kind}#{partition}"

    def wrap_info(self, version: int, nonce: bytes) -> bytes:
        fields = lp(self.store.id.encode()) + lp(self.kind.encode()) + lp(self.id.encode())
        return b"blue/v1/wrap" + bytes([SUITE]) + fields + struct.pack(">I", version) + nonce

    def wrap_aad(self, version: int) -> bytes:
        return sha256(f"{self.kind}:{self.id}/dek:{version}".encode())

    def content_info(self, key_id: str, aad: bytes, version: int, nonce: bytes) -> bytes:
        fields = lp(self.store.id.encode()) + lp(key_id.encode())
        return b"blue/v1/content" + bytes([SUITE]) + fields + aad + u64(version) + nonce

    def address(self, entity_type: str, time: str, record: str) -> str:
        subkey = f"{time}#{record}" if entity_type != "meta" else ""
        return f"{self.kind}:{self.id}/entity:{entity_type}/{subkey}"

    def check(self, row: dict, entity_type: str):
        here = get(row, "pk", "S") == self.pk and get(row, "entity_type", "S") == entity_type
        require(here, "address_mismatch", "a row of another place")


def dek_row(place: Place, version: int, dek: bytes, nonce: bytes, at: str, created_at=None, status="active") -> dict:
    """Wrapped under the store's current epoch."""
    kek = place.store.kek_of(place.store.epoch)
    wrapped, commitment = close(kek, place.wrap_info(version, nonce), nonce, place.wrap_aad(version), dek)
    row = new_row(
        place.pk, f"dek#{version:04}", "dek", created_at=("S", created_at or at), updated_at=("S", at),
        wrap_nonce=("B", nonce), wrapped=("B", wrapped), commit=("B", commitment), kcv=("B", kcv(dek)),
        kek_epoch=("N", str(place.store.epoch)), status=("S", status),
    )
    return sealed(row, DataKey(place.id, version, dek).seal_key)


def open_dek(place: Place, version: int, row: dict) -> DataKey:
    only(row, "created_at", "updated_at", "wrap_nonce", "wrapped", "commit", "kcv", "kek_epoch", "status")
    place.check(row, "dek")
    time_of(row, "created_at")
    time_of(row, "updated_at")
    require(get(row, "status", "S") in ("active", "decrypt-only"), "attributes_malformed", "status")
    check_suite(row)
    nonce, wrapped, commitment = get(row, "wrap_nonce", "B", 12), get(row, "wrapped", "B", 48), get(row, "commit", "B", 32)
    key_check = get(row, "kcv", "B", 8)
    epoch = integer(row, "kek_epoch")
    require(epoch <= place.store.epoch, "attributes_malformed", "kek_epoch")
    require(epoch >= place.store.floor, "key_epoch_retired", f"epoch {epoch}")
    info = place.wrap_info(version, nonce)
    dek = open_committed(place.store.kek_of(epoch), info, nonce, place.wrap_aad(version), wrapped, commitment)
    require(hmac.compare_digest(kcv(dek), key_check), "key_check_mismatch", "not the data key that was wrapped")
    key = DataKey(place.id, version, dek)
    check_seal(row, key.seal_key)
    return key


def named_key(place: Place, keys: dict, row: dict) -> DataKey:
    text = get(row, "key_id", "S")
    prefix, _, version = text.rpartition("#")
    good = prefix == f"dek#{place.id}" and re.fullmatch(r"0|[1-9][0-9]{0,9}", version) and int(version) < 2**32
    require(bool(good), "attributes_malformed", "key_id")
    require(int(version) in keys, "key_check_mismatch", f"no data key {version}")
    return keys[int(version)]


# Section 8: a record.
ENVELOPE = (
    "pk sk entity_type created_at updated_at env ver key_id content_encrypted content_nonce commit aad_hash seal".split()
)


def is_field(name: str) -> bool:
    return name not in ENVELOPE and not name.startswith("gsi")


class Record:
    """A row whose seal holds."""

    def __init__(self, place: Place, keys: dict, row: dict):
        _, self.type, self.time, self.id = sort_key(get(row, "sk", "S"))
        place.check(row, self.type)
        time_of(row, "created_at")
        time_of(row, "updated_at")
        check_suite(row)
        self.place, self.row, self.version = place, row, integer(row, "ver")
        self.nonce, self.commitment = get(row, "content_nonce", "B", 12), get(row, "commit", "B", 32)
        self.ciphertext = get(row, "content_encrypted", "B")
        get(row, "aad_hash", "S")
        require(self.version > 0 and len(self.ciphertext) >= 16, "attributes_malformed", "ver or content_encrypted")
        self.key = named_key(place, keys, row)
        check_seal(row, self.key.seal_key)

    def payload(self) -> bytes:
        aad = sha256(self.place.address(self.type, self.time, self.id).encode())
        info = self.place.content_info(self.key.id, aad, self.version, self.nonce)
        return open_committed(self.key.dek, info, self.nonce, aad, self.ciphertext, self.commitment)

    def shown(self) -> dict:
        fields = {name: to_json(*value) for name, value in self.row.items() if is_field(name)}
        status = self.row.get("gsi1pk", ("S", "status#"))[1].removeprefix("status#")
        return {
            "type": self.type, "id": self.id, "version": self.version, "status": status or None,
            "created_at": self.row["created_at"][1], "updated_at": self.row["updated_at"][1],
            "clear": fields, "payload": json.loads(self.payload()),
        }


def record_row(place, key, entity_type, record, *, at, created_at, updated_at, version, random, payload, fields, status):
    address = place.address(entity_type, at, record)
    aad = sha256(address.encode())
    nonce = mac(key.nonce_key, random + aad + u64(version) + payload)[:12]
    ciphertext, commitment = close(key.dek, place.content_info(key.id, aad, version, nonce), nonce, aad, payload)
    listed = {"gsi1pk": ("S", f"status#{status}"), "gsi1sk": ("S", f"{updated_at}#{place.id}")} if status else {}
    row = new_row(
        place.pk, f"{entity_type}#{at}#{record}" if record else entity_type, entity_type,
        created_at=("S", created_at), updated_at=("S", updated_at), ver=("N", str(version)), key_id=("S", key.id),
        content_encrypted=("B", ciphertext), content_nonce=("B", nonce), commit=("B", commitment),
        aad_hash=("S", aad.hex()), **listed, **fields,
    )
    return sealed(row, key.seal_key)


def to_json(kind: str, value):
    if kind != "N":
        return None if kind == "NULL" else value
    whole = re.fullmatch(r"-?\d+", value) and -(2**63) <= int(value) < 2**64
    return int(value) if whole else float(value)


def to_attribute(value):
    if value is None or isinstance(value, bool):
        return ("NULL", True) if value is None else ("BOOL", value)
    return ("S", value) if isinstance(value, str) else ("N", canonical_number(json_number(value)))


def canonical_json(value) -> str:
    """RFC 8785."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        return "{" + ",".join(f"{canonical_json(name)}:{canonical_json(value)}" for name, value in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical_json, value)) + "]"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return json_number(value)
    return json.dumps(value, ensure_ascii=False)


def json_number(value) -> str:
    """As ECMAScript prints it."""
    sign, digits, exponent = decimal.Decimal(repr(value)).normalize().as_tuple()
    digits = "".join(map(str, digits))
    if not value:
        return "0"
    point = len(digits) + exponent
    if -6 < point <= 21:
        return canonical_number(repr(value))
    fraction = f".{digits[1:]}" if digits[1:] else ""
    return f"{'-' * sign}{digits[0]}{fraction}e{point - 1:+}"


# Section 9: the manifest.
def entry(row: dict) -> bytes:
    return lp(row["sk"][1].encode()) + u64(int(row["ver"][1])) + row["seal"][1][:16]


class Reader:
    def __init__(self, data: bytes):
        self.rest = data

    def take(self, count: int) -> bytes:
        require(len(self.rest) >= count, "manifest_mismatch", "a list that ends too soon")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken


def entries_of(row: dict) -> dict:
    """Sort key -> (version, first half of the seal)."""
    found, reader, last = {}, Reader(get(row, "entries", "B")), None
    while reader.rest:
        sk = reader.take(int.from_bytes(reader.take(4), "big"))
        require(last is None or last < sk, "manifest_mismatch", "entries out of order")
        last = sk
        try:
            name = sk.decode()
        except UnicodeDecodeError:
            raise Refused("manifest_mismatch", "a sort key that is no text") from None
        found[name] = (int.from_bytes(reader.take(8), "big"), reader.take(16))
    require(len(found) <= MAX_ENTRIES, "manifest_mismatch", "too many entries")
    return found


def references_of(row: dict) -> dict:
    """Number -> first half of the seal."""
    found, reader, last = {}, Reader(get(row, "chunks", "B")), 0
    while reader.rest:
        number = int.from_bytes(reader.take(8), "big")
        require(number > last, "manifest_mismatch", "references out of order")
        last = number
        found[number] = reader.take(16)
    require(len(found) <= MAX_REFERENCES, "manifest_mismatch", "too many references")
    return found


def manifest_row(place: Place, key: DataKey, sk: str, at: str, entries: list, **attributes) -> dict:
    listed = ("B", b"".join(sorted(entries, key=lambda entry: entry[4:])))
    row = new_row(place.pk, sk, "manifest", updated_at=("S", at), key_id=("S", key.id), entries=listed, **attributes)
    return sealed(row, key.manifest_key)


def root_row(
    place: Place, key: DataKey, at: str, version: int, entries: list, chunks: dict, floor: int = 1, encryptions: int = 0
) -> dict:
    references = b"".join(u64(number) + row["seal"][1][:16] for number, row in sorted(chunks.items()))
    counted = {"encryptions": ("N", str(encryptions))} if encryptions else {}
    return manifest_row(
        place, key, "manifest", at, entries, partition_version=("N", str(version)), min_env=("N", str(SUITE)),
        min_dek=("N", str(floor)), chunks=("B", references), **counted,
    )


def check_manifest_row(place: Place, keys: dict, row: dict, *names: str) -> DataKey:
    only(row, "updated_at", "key_id", "entries", *names)
    place.check(row, "manifest")
    check_suite(row)
    time_of(row, "updated_at")
    get(row, "entries", "B")
    key = named_key(place, keys, row)
    check_seal(row, key.manifest_key)
    return key


# Section 10: reading a partition.
class Partition:
    def __init__(self, place: Place, rows: dict):
        self.place, self.rows = place, rows
        kinds = {sk: sort_key(sk) for sk in rows}
        if erased_at := erasure_of(place, rows.get("manifest", {})):
            raise Refused("partition_erased", erased_at)
        names = {kind[1]: sk for sk, kind in kinds.items() if kind and kind[0] == "dek"}
        require(len(names) <= MAX_KEYS, "attributes_malformed", "too many data keys")
        self.keys = {version: open_dek(place, version, rows[sk]) for version, sk in names.items()}
        self.active, self.needed = max(self.keys, default=None), set()
        self.version, self.encryptions, self.inline, self.chunks, self.records = 0, 0, {}, {}, {}
        if "manifest" in rows:
            self.read(rows["manifest"])
        chunk_names = {f"manifest#{number:02}" for number in self.chunks}
        live = {record.row["sk"][1] for record in self.records.values()}
        used = {sk for version, sk in names.items() if version not in self.unneeded()}
        self.uncommitted = sorted(set(rows) - {"manifest"} - used - chunk_names - live)

    def unneeded(self) -> list:
        """Data keys that were replaced and that neither a record nor a chunk is under."""
        return [version for version in self.keys if version < self.active and version not in self.needed]

    def read(self, root: dict):
        names = "partition_version", "min_env", "min_dek", "encryptions", "chunks"
        key = check_manifest_row(self.place, self.keys, root, *names)
        self.version, floor = integer(root, "partition_version"), integer(root, "min_dek", 2**32 - 1)
        require(integer(root, "min_env") == SUITE, "attributes_malformed", "min_env")
        require(key.version >= floor, "manifest_mismatch", "a root below its own floor")
        self.active, self.encryptions = key.version, integer(root, "encryptions") if "encryptions" in root else 0
        references, self.inline = references_of(root), entries_of(root)
        listed = list(self.inline.items())
        for number, seal in references.items():
            row = self.rows.get(f"manifest#{number:02}")
            require(row is not None, "manifest_mismatch", f"chunk {number} is missing")
            under = check_manifest_row(self.place, self.keys, row)
            require(under.version >= floor, "manifest_mismatch", f"chunk {number} is below the floor")
            self.needed.add(under.version)
            require(row["seal"][1][:16] == seal, "manifest_mismatch", f"chunk {number} is another")
            self.chunks[number] = entries_of(row)
            listed += self.chunks[number].items()
        require(len(dict(listed)) == len(listed) <= MAX_RECORDS, "manifest_mismatch", "listed twice, or too many")
        for sk, said in listed:
            self.add(sk, said, floor)

    def add(self, sk: str, said: tuple, floor: int):
        kind = sort_key(sk)
        present = sk in self.rows and kind is not None and kind[0] == "record"
        require(present, "manifest_mismatch", f"{sk} is missing")
        record = Record(self.place, self.keys, self.rows[sk])
        current = (record.version, record.row["seal"][1][:16]) == said and record.key.version >= floor
        require(current, "manifest_mismatch", f"{sk} is not the current version")
        require((record.type, record.id) not in self.records, "manifest_mismatch", f"{sk} is listed twice")
        self.records[record.type, record.id] = record
        self.needed.add(record.key.version)

    def shown(self) -> dict:
        records = [self.records[name].shown() for name in sorted(self.records)]
        return {"version": self.version, "records": records, "uncommitted": self.uncommitted}


class Table:
    def __init__(self, items: list, umk: bytes, tenant: str, user: str):
        self.rows = {}
        for row in map(from_item, items):
            self.rows.setdefault(get(row, "pk", "S"), {})[get(row, "sk", "S")] = row
        own = self.rows.get("store", {}).get("meta")
        require(own is not None, "manifest_mismatch", "the store's own row is missing")
        self.store, self.principal = Store(umk, own, tenant, user), f"{tenant}/{user}"
        audits = [pk for pk in self.rows if pk.startswith("audit#")]
        require(all(re.fullmatch("audit#0[0-7]", pk) for pk in audits), "audit_chain_broken", "an unknown lane")
        for number in range(8):
            self.lane(number)

    def lane(self, number: int):
        return Lane(self.store, number, self.rows.setdefault(f"audit#{number:02}", {}))

    def place(self, pk: str) -> Place:
        kind, _, name = pk.partition("#")
        require(bool(SLUG.fullmatch(kind)) and kind != "audit" and is_id(name), "address_mismatch", f"{pk} is no partition")
        return Place(self.store, kind, name)

    def partition(self, pk: str) -> Partition:
        return Partition(self.place(pk), self.rows.get(pk, {}))

    def shown(self) -> dict:
        names = sorted(pk for pk in self.rows if pk != "store" and not pk.startswith("audit#"))
        events = sum(self.lane(number).seq for number in range(8))
        return {"store": self.store.id, "events": events, "partitions": {pk: self.shown_partition(pk) for pk in names}}

    def shown_partition(self, pk: str) -> dict:
        try:
            return self.partition(pk).shown()
        except Refused as refused:
            if refused.code != "partition_erased":
                raise
            return {"erased": refused.why}

    def record(self, lane: int, at: str, operation: str, key_id: str, count: int):
        self.lane(lane).append(at, new_event_id(), operation, key_id, self.principal, count)

    def items(self) -> list:
        return [to_item(row) for _, rows in sorted(self.rows.items()) for _, row in sorted(rows.items())]


# Section 11: writing a partition. The whole table is in memory, so everything fits into the flip.
class Commit:
    def __init__(self, table: Table, pk: str, at: str):
        self.table, self.partition, self.at, self.ticks, self.changes = table, table.partition(pk), at, 0, 0
        self.place, self.rows = self.partition.place, table.rows.setdefault(pk, {})
        self.dirty = set()
        if self.partition.active is None:
            row = dek_row(self.place, 1, os.urandom(32), os.urandom(12), self.tick())
            self.rows[row["sk"][1]] = row
            self.partition = table.partition(pk)
        self.key = self.partition.keys[self.partition.active]

    def tick(self) -> str:
        self.ticks += 1
        return later(self.at, self.ticks)

    def list_of(self, sk: str):
        """The root's entries or a chunk's: whichever lists the row, the root's if none does."""
        for number, entries in self.partition.chunks.items():
            if sk in entries:
                self.dirty.add(number)
                return entries
        return self.partition.inline

    def put(self, type, id, payload, clear=None, status=None):
        self.changes += 1
        now, old = self.tick(), self.partition.records.get((type, id))
        row = record_row(
            self.place, self.key, type, id, at=old.time if old else now,
            created_at=old.row["created_at"][1] if old else now, updated_at=now,
            version=old.version + 1 if old else 1, random=os.urandom(32), payload=canonical_json(payload).encode(),
            fields={name: to_attribute(value) for name, value in (clear or {}).items()}, status=status,
        )
        sk = row["sk"][1]
        self.rows[sk] = row
        self.partition.encryptions += 1
        self.list_of(sk)[sk] = (int(row["ver"][1]), row["seal"][1][:16])

    def remove(self, type, id):
        self.changes += 1
        sk = self.partition.records[type, id].row["sk"][1]
        del self.rows[sk], self.list_of(sk)[sk]

    def rotate(self):
        """Another data key, and the version that says so."""
        old, dek = self.key, os.urandom(32)
        require(len(self.partition.keys) < MAX_KEYS, "too_many_data_keys", "write the oldest records again")
        version, now = max(self.partition.keys) + 1, self.tick()
        fresh = dek_row(self.place, version, dek, os.urandom(12), now)
        self.rows[fresh["sk"][1]] = fresh
        self.wrap_anew(old, "decrypt-only")
        self.key = self.partition.keys[version] = DataKey(self.place.id, version, dek)
        self.partition.encryptions, self.changes = 0, 1
        self.flip("Rotate")

    def wrap_anew(self, key: DataKey, status=None):
        """Under the store's current epoch."""
        sk = f"dek#{key.version:04}"
        old = self.rows[sk]
        created_at, status = old["created_at"][1], status or old["status"][1]
        self.rows[sk] = dek_row(self.place, key.version, key.dek, os.urandom(12), self.tick(), created_at, status)

    def follow_epoch(self) -> int:
        """Wraps anew what is wrapped under an older epoch; says how many keys that were."""
        def is_old(key):
            return integer(self.rows[f"dek#{key.version:04}"], "kek_epoch") < self.place.store.epoch

        old = [key for key in self.partition.keys.values() if is_old(key)]
        for key in old:
            self.wrap_anew(key)
        return len(old)

    def flip(self, operation="Encrypt"):
        self.follow_epoch()
        inline, chunks = self.partition.inline, self.partition.chunks
        while len(inline) > MAX_ENTRIES:
            number = next(n for n in range(1, MAX_REFERENCES) if f"manifest#{n:02}" not in self.rows and n not in chunks)
            chunks[number] = {sk: inline.pop(sk) for sk in sorted(inline, key=str.encode)[:MAX_ENTRIES]}
            self.dirty.add(number)
        now = self.tick()
        for number in self.dirty:
            sk = f"manifest#{number:02}"
            self.rows[sk] = manifest_row(self.place, self.key, sk, now, encoded(chunks[number]))
        referred = {number: self.rows[f"manifest#{number:02}"] for number in chunks}
        version = self.partition.version + 1
        lane = lane_of(self.place)
        self.table.record(lane, now, operation, f"dek#{self.place.pk}#{self.key.version}", self.changes)
        listed = [sk for entries in (inline, *chunks.values()) for sk in entries]
        under = [named_key(self.place, self.partition.keys, row) for row in (*referred.values(), *map(self.rows.get, listed))]
        self.rows["manifest"] = root_row(
            self.place, self.key, now, version, encoded(inline), referred,
            min([self.key.version, *(key.version for key in under)]), self.partition.encryptions,
        )
        for version in Partition(self.place, self.rows).unneeded():
            del self.rows[f"dek#{version:04}"]
            self.table.record(lane, now, "Erase", f"dek#{self.place.pk}#{version}", 1)


def encoded(entries: dict) -> list:
    return [lp(sk.encode()) + u64(version) + seal for sk, (version, seal) in entries.items()]


def write(request: dict, umk: bytes, tenant: str, user: str) -> dict:
    items = request.get("Items") or [to_item(store_row(umk, os.urandom(16).hex(), tenant, user, request["at"]))]
    table, at = Table(items, umk, tenant, user), request["at"]
    match request.get("do"):
        case "begin_epoch":
            begin_epoch(table, umk, at)
        case "end_epochs":
            end_epochs(table, umk, at)
        case "rotate":
            Commit(table, request["partition"], at).rotate()
        case "export":
            bundle = export(table, request["partition"], at)
            return {"bundle": bundle.hex(), "Items": table.items()}
        case "erase":
            return {"certificate": erase(table, request["partition"], at), "Items": table.items()}
        case None:
            change(table, request)
    return {"Items": table.items()}


def change(table: Table, request: dict):
    commit = Commit(table, request["partition"], request["at"])
    for record in request.get("put", []):
        commit.put(**record)
    for type, id in request.get("remove", []):
        commit.remove(type, id)
    commit.flip()


# Section 6: epochs.
def begin_epoch(table: Table, umk: bytes, at: str):
    store = table.store
    require(store.epoch + 1 < store.floor + MAX_EPOCHS, "too_many_key_epochs", "end the old ones first")
    set_epochs(table, umk, store.epoch + 1, store.floor)
    table.record(0, at, "Rotate", f"kek#{store.epoch + 1}", 1)


def end_epochs(table: Table, umk: bytes, at: str):
    store = table.store
    for pk in [pk for pk in table.rows if pk != "store" and not pk.startswith("audit#")]:
        if erasure_of(Place(store, *pk.split("#")), table.rows[pk].get("manifest", {})) is None:
            Commit(table, pk, at).follow_epoch()
    set_epochs(table, umk, store.epoch, store.epoch)
    table.record(0, at, "Erase", f"kek#{store.epoch - 1}", store.epoch - store.floor)


def set_epochs(table: Table, umk: bytes, epoch: int, floor: int):
    row = table.rows["store"]["meta"] = table.store.row_at(epoch, floor)
    table.store = Store(umk, row, *table.store.owner)


# Section 15: a tombstone.
def tombstone_row(place: Place, at: str) -> dict:
    row = new_row(place.pk, "manifest", "tombstone", updated_at=("S", at))
    return sealed(row, expand(place.store.own, b"blue/v1/tombstone"))


def erasure_of(place: Place, row: dict):
    """When the partition was erased, out of its tombstone; None if the row is none."""
    if row.get("entity_type") != ("S", "tombstone"):
        return None
    only(row, "updated_at")
    place.check(row, "tombstone")
    check_suite(row)
    time_of(row, "updated_at")
    check_seal(row, expand(place.store.own, b"blue/v1/tombstone"))
    return row["updated_at"][1]


def erase(table: Table, pk: str, at: str) -> dict:
    place, rows = table.place(pk), table.rows.setdefault(pk, {})
    keys = sum(sk.startswith("dek#") for sk in rows)
    others = len(rows) - keys - ("manifest" in rows)
    rows.clear()
    rows["manifest"] = tombstone_row(place, at)
    table.record(lane_of(place), at, "Erase", f"dek#{pk}", keys)
    return certificate(place, rows["manifest"], table.lane(lane_of(place)), keys, others)


def certificate(place: Place, tombstone: dict, lane: "Lane", keys: int, others: int) -> dict:
    """Of the erasure that is the lane's last event."""
    tenant, user = place.store.owner
    event = dict(lane=lane.number, seq=lane.seq, hash=lane.hash.hex())
    erasure = dict(
        format="blue/v1/erasure", store=place.store.id, tenant=tenant, user=user, partition=place.pk,
        erased_at=tombstone["updated_at"][1], tombstone=tombstone["seal"][1].hex(), event=event, data_keys_destroyed=keys,
        rows_deleted=others, residual_copies=[{"place": "backups of the table", "until": "they expire"}],
    )
    key = expand(place.store.own, b"blue/v1/erasure")
    return {"erasure": erasure, "mac": mac(key, canonical_json(erasure).encode()).hex()}


# Section 17: bundles.
BUNDLE = b"blue/v1/bundle\n"
MAX_BUNDLE_BYTES, MAX_ROW_BYTES, MAX_NAME_BYTES = 16 << 30, 512 << 10, 257
MAX_ROWS = MAX_KEYS + 1 + MAX_REFERENCES + MAX_RECORDS


class Origin:
    """The store that a bundle is from, as far as the bundle tells."""

    def __init__(self, umk: bytes, id: str, tenant: str, user: str, epoch: int, floor: int):
        self.id, self.owner, self.epoch, self.floor = id, (tenant, user), epoch, floor
        self.kek_of = lambda epoch: kek_of(umk, id, tenant, user, epoch)
        self.own = self.kek_of(OWN)


def bundle_key(store) -> bytes:
    return expand(store.own, b"blue/v1/bundle")


def in_order(partition: Partition) -> list:
    """The sort keys of its rows, as they stand in a bundle."""
    live = [record.row["sk"][1] for record in partition.records.values()]
    keys = [f"dek#{version:04}" for version in partition.keys]
    chunks = [f"manifest#{number:02}" for number in sorted(partition.chunks)]
    return [*sorted(keys, key=str.encode), "manifest", *chunks, *sorted(live, key=str.encode)]


def bundle_of(partition: Partition, at: str) -> bytes:
    place, rows = partition.place, [partition.rows[sk] for sk in in_order(partition)]
    store, key = place.store, bundle_key(place.store)
    names = b"".join(lp(name.encode()) for name in (store.id, *store.owner))
    header = BUNDLE + names + u64(store.epoch) + kcv(key) + lp(place.pk.encode())
    header += u64(partition.version) + lp(at.encode()) + u64(len(rows))
    body = header + b"".join(lp(canonical(row) + row["seal"][1]) for row in rows)
    return body + mac(key, body)


def export(table: Table, pk: str, at: str) -> bytes:
    partition = table.partition(pk)
    require(partition.version > 0, "partition_not_found", pk)
    bundle, records = bundle_of(partition, at), len(partition.records)
    key_id = f"export#{pk}#{partition.version}#{bundle[-32:].hex()}"
    table.record(lane_of(partition.place), at, "Boundary", key_id, records)
    return bundle


class Cut:
    """Bytes that are taken one piece after another."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        require(self.at <= len(self.data), "bundle_malformed", "it ends too early")
        return self.data[self.at - count : self.at]

    def integer(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def field(self, most: int) -> bytes:
        length = int.from_bytes(self.take(4), "big")
        require(length <= most, "bundle_malformed", "a name or a row is too long")
        return self.take(length)

    def text(self, most: int) -> str:
        try:
            return self.field(most).decode()
        except UnicodeDecodeError:
            raise Refused("bundle_malformed", "no UTF-8") from None

    def ended(self) -> bool:
        return self.at == len(self.data)


def decoded_row(data: bytes) -> dict:
    """The row of its canonical encoding and seal: in its only spelling, or refused."""
    require(len(data) >= 32, "bundle_malformed", "a row without a seal")
    cut, row = Cut(data[:-32]), {}
    while not cut.ended():
        name, tag = cut.text(MAX_ROW_BYTES), cut.take(1)
        row[name] = attribute_of(tag, cut.field(MAX_ROW_BYTES))
    row["seal"] = ("B", data[-32:])
    require(canonical(row) == data[:-32], "bundle_malformed", "a row in another spelling")
    return row


def attribute_of(tag: bytes, value: bytes):
    if tag == b"B":
        return "B", value
    if tag in (b"T", b"0"):
        require(value in ((b"\0", b"\1") if tag == b"T" else (b"",)), "bundle_malformed", "a value that is none")
        return ("BOOL", value == b"\1") if tag == b"T" else ("NULL", True)
    require(tag in (b"S", b"N"), "bundle_malformed", "an unknown type")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Refused("bundle_malformed", "no UTF-8") from None
    require(tag == b"S" or text == canonical_number(text), "bundle_malformed", "a number in another spelling")
    return tag.decode(), text


def read_bundle(data: bytes, umk: bytes, floor: int = FIRST) -> dict:
    require(len(data) <= MAX_BUNDLE_BYTES, "bundle_too_large", f"{len(data)} bytes")
    cut = Cut(data)
    require(cut.take(len(BUNDLE)) == BUNDLE, "bundle_malformed", "another beginning")
    owner = [cut.text(MAX_NAME_BYTES) for _ in range(3)]
    epoch, check = cut.integer(), cut.take(8)
    kind, _, id = cut.text(MAX_NAME_BYTES).partition("#")
    version, created_at, count = cut.integer(), cut.text(MAX_NAME_BYTES), cut.integer()
    named = all(map(is_id, (*owner, id))) and SLUG.fullmatch(kind) and kind != "audit" and is_time(created_at)
    require(bool(named) and version > 0 and count <= MAX_ROWS, "bundle_malformed", "a header of nothing")
    rows = [decoded_row(cut.field(MAX_ROW_BYTES)) for _ in range(count)]
    covered, seal = data[: cut.at], cut.take(32)
    require(cut.ended(), "bundle_malformed", "more bytes after the MAC")
    place = Place(Origin(umk, *owner, epoch, floor), kind, id)
    key = bundle_key(place.store)
    require(hmac.compare_digest(check, kcv(key)), "bundle_of_another_key", "its check value is of another key")
    require(hmac.compare_digest(seal, mac(key, covered)), "bundle_seal_mismatch", "it was changed")
    names = [get(row, "sk", "S") for row in rows]
    partition = Partition(place, dict(zip(names, rows)))
    require(names == in_order(partition), "bundle_malformed", "other rows, or another order")
    require(partition.version == version, "bundle_malformed", "the root is of another version")
    return {"store": place.store.id, "partition": place.pk, "created_at": created_at, **partition.shown()}


# Section 14: the audit.
EVENT = dict(
    event_id="S", timestamp="S", trace_id="S", span_id="S", operation="S", key_id="S", principal="S", outcome="S",
    count="N", kek_epoch="N", seq="N", previous_hash="B", event_hash="B", event_mac="B",
)
OPERATIONS = "Encrypt Decrypt DeriveKek GenerateDek WrapDek UnwrapDek Rotate Erase KcvCheck Boundary".split()
OUTCOMES = ["success", "failure", "denied"]
HEAD = dict(updated_at="S", kek_epoch="N", seq="N", event_hash="B", seal="B")


def lane_of(place: Place) -> int:
    return sha256(f"{place.kind}:{place.id}".encode())[0] % 8


class Lane:
    """One chain of events, verified from its first to its head."""

    def __init__(self, store: Store, number: int, rows: dict):
        self.store, self.number, self.rows, self.pk = store, number, rows, f"audit#{number:02}"
        self.event_key, self.head_key = (expand(store.own, b"blue/v1/audit" + label) for label in (b"", b"/head"))
        self.seq, self.hash = 0, sha256(b"blue/v1/audit/genesis" + lp(store.id.encode()) + lp(bytes([number])))
        while (sk := f"event#{self.seq + 1:020}") in rows:
            self.follow(rows[sk], self.seq + 1)
        if rows:
            self.check_head()
        broken = len(rows) != self.seq + bool(rows)
        require(not broken, "audit_chain_broken", f"{self.pk} has rows that are no events, or a gap")

    def check_row(self, row: dict, entity_type: str, attributes: dict):
        require(set(row) == {"pk", "sk", "entity_type", *attributes}, "audit_chain_broken", "attributes")
        require(all(row[name][0] == kind for name, kind in attributes.items()), "audit_chain_broken", "types")
        require(row["pk"] == ("S", self.pk) and row["entity_type"] == ("S", entity_type), "audit_chain_broken", "place")
        require(integer(row, "kek_epoch") == OWN, "audit_chain_broken", "kek_epoch")

    def follow(self, row: dict, seq: int):
        self.check_row(row, "audit_event", EVENT)
        value = {name: row[name][1] for name in EVENT}
        spelled = is_time(value["timestamp"]) and value["operation"] in OPERATIONS and value["outcome"] in OUTCOMES
        require(spelled and integer(row, "seq") == seq, "audit_chain_broken", f"event {seq} is misspelled")
        require(value["previous_hash"] == self.hash, "audit_chain_broken", f"event {seq} follows another")
        self.seq, self.hash = seq, self.event_hash(value)
        require(value["event_hash"] == self.hash, "audit_chain_broken", f"event {seq} was changed")
        good = hmac.compare_digest(mac(self.event_key, self.hash), value["event_mac"])
        require(good, "audit_chain_broken", f"event {seq} is not of this store")

    def event_hash(self, value: dict) -> bytes:
        try:
            binary = uuid.UUID(value["event_id"]).bytes, *(bytes.fromhex(value[n]) for n in ("trace_id", "span_id"))
        except ValueError:
            raise Refused("audit_chain_broken", "an id that is none") from None
        spelled = str(uuid.UUID(bytes=binary[0])), binary[1].hex(), binary[2].hex()
        good = spelled == (value["event_id"], value["trace_id"], value["span_id"]) and list(map(len, binary)) == [16, 16, 8]
        require(good, "audit_chain_broken", "an id in another spelling")
        fields = [
            self.store.id.encode(), bytes([self.number]), u64(int(value["seq"])), u64(int(value["kek_epoch"])), binary[0],
            value["timestamp"].encode(), *binary[1:], *(value[n].encode() for n in ("operation", "key_id", "principal", "outcome")),
            u64(int(value["count"])), value["previous_hash"],
        ]
        return sha256(b"blue/v1/audit/event" + b"".join(map(lp, fields)))

    def check_head(self):
        require("head" in self.rows, "audit_chain_broken", f"{self.pk} has no head")
        head = self.rows["head"]
        self.check_row(head, "audit_head", HEAD)
        check_seal(head, self.head_key)
        time_of(head, "updated_at")
        end = integer(head, "seq"), get(head, "event_hash", "B", 32)
        require(end == (self.seq, self.hash), "audit_chain_broken", f"{self.pk} ends elsewhere")

    def append(self, at: str, event_id: uuid.UUID, operation: str, key_id: str, principal: str, count: int):
        value = dict(
            event_id=str(event_id), timestamp=at, trace_id="0" * 32, span_id="0" * 16, operation=operation, key_id=key_id,
            principal=principal, outcome="success", count=str(count), kek_epoch=str(OWN), seq=str(self.seq + 1),
            previous_hash=self.hash,
        )
        self.seq, self.hash = self.seq + 1, self.event_hash(value)
        value.update(event_hash=self.hash, event_mac=mac(self.event_key, self.hash))
        place = {"pk": ("S", self.pk), "sk": ("S", f"event#{self.seq:020}"), "entity_type": ("S", "audit_event")}
        self.rows[place["sk"][1]] = {**place, **{name: (EVENT[name], value[name]) for name in EVENT}}
        end = {"updated_at": ("S", at), "kek_epoch": ("N", str(OWN)), "seq": ("N", str(self.seq)), "event_hash": ("B", self.hash)}
        head = {**place, "sk": ("S", "head"), "entity_type": ("S", "audit_head"), **end}
        self.rows["head"] = sealed(head, self.head_key)


def new_event_id() -> uuid.UUID:
    """Version 7, RFC 9562."""
    milliseconds = int(datetime.datetime.now().timestamp() * 1000)
    random = int.from_bytes(os.urandom(10), "big")
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62 | random & (2**62 - 1))


# Section 13: vectors.
def vectors() -> dict:
    umk, store, tenant, user = bytes(range(32)), "00112233445566778899aabbccddeeff", "acme", "ada"
    at, updated_at = "2026-01-02T03:04:05.000000006Z", "2026-01-02T03:04:05.000000007Z"
    own = store_row(umk, store, tenant, user, at)
    place = Place(Store(umk, own, tenant, user), "job", "01J9ZC3F5V7K8M0N1P2Q3R4S5T")
    dek, wrap_nonce, random = bytes([0x42] * 32), bytes(range(100, 112)), bytes(range(200, 232))
    key = DataKey(place.id, 1, dek)
    wrapped = dek_row(place, 1, dek, wrap_nonce, at)
    common = dict(at=at, created_at=at, updated_at=updated_at, random=random)
    clear = {"attempts": 7, "paused": True, "reason": None, "score": 0.85, "status": "open"}
    payload = canonical_json({"secret": "\u00e9", "argv": ["a", "b"]}).encode()
    task = record_row(
        place, key, "task", "t1", version=3, payload=payload, status="open",
        fields={name: to_attribute(value) for name, value in clear.items()}, **common,
    )
    meta = record_row(
        place, key, "meta", "", version=1, payload=canonical_json({"name": "analysis"}).encode(), status=None,
        fields={}, **common,
    )
    # Names whose order by UTF-8 is not their order by UTF-16.
    odd = {"\ufffd": -12.5, "\U0001f600": 1e-7, "z": 2**53 - 1}
    other = record_row(
        place, key, "task", "01J9ZC3F5V7K8M0N1P2Q3R4S5V", version=1, payload=canonical_json(odd).encode(), status=None,
        fields={name: to_attribute(value) for name, value in odd.items()}, **common,
    )
    chunk = manifest_row(place, key, "manifest#07", updated_at, [entry(task)])
    root = root_row(place, key, updated_at, 9, [entry(meta), entry(other)], {7: chunk})
    lane = Lane(place.store, lane_of(place), {})
    event_id = uuid.UUID("019b7c8d-0000-7000-8000-000000000001")
    lane.append(at, event_id, "Encrypt", f"dek#{place.pk}#1", f"{tenant}/{user}", 3)
    rows = dict(
        store_row=own, dek_row=wrapped, record_row=task, meta_row=meta, other_row=other, chunk_row=chunk, root_row=root,
        event_row=lane.rows[f"event#{1:020}"], head_row=lane.rows["head"],
    )
    return dict(
        script_sha256=sha256(pathlib.Path(__file__).read_bytes()).hex(), store=store, tenant=tenant, user=user, epoch=FIRST, kind=place.kind, id=place.id, created_at=at,
        updated_at=updated_at, umk=umk.hex(), kek=place.store.kek_of(FIRST).hex(),
        store_seal_key=store_seal_key(place.store.kek_of(FIRST)).hex(),
        dek=dek.hex(), wrap_nonce=wrap_nonce.hex(), wrap_info=place.wrap_info(1, wrap_nonce).hex(),
        wrap_aad=place.wrap_aad(1).hex(), seal_key=key.seal_key.hex(), manifest_key=key.manifest_key.hex(),
        nonce_key=key.nonce_key.hex(), address=place.address("task", at, "t1"), aad=task["aad_hash"][1],
        random=random.hex(), payload=payload.decode(),
        content_info=place.content_info(key.id, bytes.fromhex(task["aad_hash"][1]), 3, task["content_nonce"][1]).hex(),
        canonical=canonical(task).hex(), score=score_vector(place), **{name: row["sk"][1] for name, row in rows.items()},
        Items=[to_item(row) for row in rows.values()], later=later_vectors(umk, own, updated_at),
    )


def later_vectors(umk: bytes, own: dict, at: str) -> dict:
    """The same store at its third epoch, the first retired: one partition under two data keys, one erased."""
    owner = own["tenant"][1], own["user"][1]
    second = Store(umk, Store(umk, own, *owner).row_at(2, 1), *owner)
    own = second.row_at(3, 2)
    store = Store(umk, own, *owner)
    old, new = Place(second, "job", "j1"), Place(store, "job", "j1")
    deks, nonces = (bytes([0x51] * 32), bytes([0x52] * 32)), (bytes(range(12)), bytes(range(12, 24)))
    keys = [DataKey("j1", version, dek) for version, dek in enumerate(deks, 1)]
    wrapped = [dek_row(old, 1, deks[0], nonces[0], at, own["created_at"][1], "decrypt-only"), dek_row(new, 2, deks[1], nonces[1], at)]
    records = [
        record_row(
            new, key, "task", f"t{key.version}", at=at, created_at=at, updated_at=at, version=1, random=bytes(32),
            payload=canonical_json(f"under key {key.version}").encode(), fields={}, status=None,
        )
        for key in keys
    ]
    chunk = manifest_row(new, keys[0], "manifest#01", at, [entry(records[0])])
    root = root_row(new, keys[1], at, 3, [entry(records[1])], {1: chunk}, 1, 1)
    whole = [*wrapped, *records, chunk, root]
    bundle = bundle_of(Partition(new, {row["sk"][1]: row for row in whole}), at)
    erased = Place(store, "job", "j2")
    tombstone = tombstone_row(erased, at)
    events = [
        (0, "Rotate", "kek#2", 1), (0, "Rotate", "kek#3", 1), (0, "Erase", "kek#1", 1),
        (lane_of(new), "Encrypt", "dek#job#j1#1", 1), (lane_of(new), "Rotate", "dek#job#j1#2", 1),
        (lane_of(new), "Encrypt", "dek#job#j1#2", 1), (lane_of(erased), "Erase", "dek#job#j2", 1),
    ]
    lanes = {number: Lane(store, number, {}) for number, *_ in events}
    for count, (number, operation, key_id, times) in enumerate(events, 1):
        event_id = uuid.UUID(f"019b7c8d-0000-7000-8000-0000000000{count:02}")
        lanes[number].append(at, event_id, operation, key_id, "/".join(owner), times)
    audit = [row for number in sorted(lanes) for _, row in sorted(lanes[number].rows.items())]
    rows = [own, *whole, tombstone, *audit]
    return dict(
        Items=[to_item(row) for row in rows], deks=[dek.hex() for dek in deks], wrap_nonces=[nonce.hex() for nonce in nonces],
        certificate=certificate(erased, tombstone, lanes[lane_of(erased)], 1, 2), bundle=bundle.hex(),
        bundle_sha256=sha256(bundle).hex(),
    )


def score_vector(place: Place) -> dict:
    """The score of the contract, with its key, at the place of the task and under its names."""
    key, plaintext, random, version = DataKey(place.id, 1, bytes([1] * 32)), b"alignment_score:0.85", bytes(32), 1
    aad = sha256(place.address("task", "2026-01-02T03:04:05.000000006Z", "t1").encode())
    nonce = mac(key.nonce_key, random + aad + u64(version) + plaintext)[:12]
    ciphertext, commitment = close(key.dek, place.content_info(key.id, aad, version, nonce), nonce, aad, plaintext)
    return dict(
        dek=key.dek.hex(), key_id=key.id, plaintext=plaintext.decode(), version=version, random=random.hex(),
        aad=aad.hex(), nonce=nonce.hex(), ciphertext=ciphertext.hex(), commitment=commitment.hex(),
    )


def changed_bytes(items: list):
    """Every table in which one byte of one attribute is another."""
    for number, item in enumerate(items):
        for name, value in item.items():
            ((kind, content),) = value.items()
            data = base64.b64decode(content) if kind == "B" else str(content).encode()
            for at in range(len(data) if kind in ("S", "N", "B") else 1):
                if kind in ("BOOL", "NULL"):
                    other = {"BOOL": not content}
                elif kind == "B":
                    other = {kind: base64.b64encode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).decode()}
                elif kind == "N":
                    other = {kind: content[:at] + ("8" if content[at] == "9" else "9") + content[at + 1 :]}
                else:
                    other = {kind: (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).decode(errors="replace")}
                yield f"{item['sk']['S']}.{name}", items[:number] + [{**item, name: other}] + items[number + 1 :]


def read(items: list, umk: bytes, tenant: str, user: str) -> dict:
    return or_refused(lambda: Table(items, umk, tenant, user).shown())


def or_refused(show) -> dict:
    try:
        return show()
    except Refused as refused:
        return {"refused": refused.code, "why": refused.why}


def check_vectors(made: dict) -> int:
    tables = made["Items"], made["later"]["Items"]
    owner = bytes.fromhex(made["umk"]), made["tenant"], made["user"]
    good = [shown for table in tables for shown in read(table, *owner).get("partitions", {}).values()]
    records = sum(len(shown.get("records", [])) for shown in good)
    outcomes = [(place, is_believed(place, read(items, *owner))) for table in tables for place, items in changed_bytes(table)]
    accepted = [place for place, believed in outcomes if believed]
    print(f"{records} records read; {len(outcomes)} changed bytes, {len(accepted)} accepted {accepted}")
    holds = records == 5 and {"erased": made["updated_at"]} in good and not accepted
    return 0 if holds and check_bundle(bytes.fromhex(made["later"]["bundle"]), owner[0]) else 1


def check_bundle(bundle: bytes, umk: bytes) -> bool:
    """Reads the bundle; then with each byte changed, with each cut, and with what somebody with the key makes of its rows."""
    changed = [bundle[:at] + bytes([bundle[at] ^ 1]) + bundle[at + 1 :] for at in range(len(bundle))]
    cuts = [bundle[:end] for end in range(len(bundle))] + [bundle + b"\0"]
    forged = list(forgeries(bundle, umk))
    accepted = [sum(is_read(other, umk) for other in others) for others in (changed, cuts, forged)]
    retired = is_read(bundle, umk, 3)
    print(f"a bundle: {len(changed)} changed bytes, {len(cuts)} cuts, {len(forged)} forgeries, {accepted} accepted")
    return is_read(bundle, umk) and accepted == [0, 0, 0] and not retired


def is_read(bundle: bytes, umk: bytes, floor: int = FIRST) -> bool:
    try:
        return bool(read_bundle(bundle, umk, floor))
    except Refused:
        return False


def forgeries(bundle: bytes, umk: bytes):
    """Rows left out, twice, and in each other's place, under a MAC that holds."""
    cut = Cut(bundle)
    cut.take(len(BUNDLE))
    key = bundle_key(Origin(umk, *(cut.text(MAX_NAME_BYTES) for _ in range(3)), FIRST, FIRST))
    cut.take(16), cut.field(MAX_NAME_BYTES), cut.take(8), cut.field(MAX_NAME_BYTES)
    header, count = bundle[: cut.at], cut.integer()
    rows = [lp(cut.field(MAX_ROW_BYTES)) for _ in range(count)]
    lists = [rows[:at] + rows[at + 1 :] for at in range(count)] + [rows[: at + 1] + rows[at:] for at in range(count)]
    lists += [rows[:at] + [rows[at + 1], rows[at]] + rows[at + 2 :] for at in range(count - 1)]
    for forged in lists:
        body = header + u64(len(forged)) + b"".join(forged)
        yield body + mac(key, body)


def is_believed(place: str, found: dict) -> bool:
    """Without its root a partition is as it was before the first commit: only who remembers it knows better."""
    unwritten = {"version": 0, "records": []}
    partitions = [{name: shown.get(name) for name in unwritten} for shown in found.get("partitions", {}).values()]
    return "refused" not in found and not (place in ("manifest.pk", "manifest.sk") and unwritten in partitions)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("read", "write"):
        command = commands.add_parser(name)
        command.add_argument("--key", required=True, type=pathlib.Path)
        command.add_argument("--tenant", default="local")
        command.add_argument("--user", default="local")
    command = commands.add_parser("bundle")
    command.add_argument("--key", required=True, type=pathlib.Path)
    command.add_argument("--floor", default=FIRST, type=int)
    commands.add_parser("vectors").add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.command == "vectors":
        made = vectors()
        text = json.dumps(made, indent=1, sort_keys=True) + "\n"
        if not options.check:
            VECTORS.write_text(text)
        elif VECTORS.read_text() != text:
            print(f"{VECTORS} is not what this program makes", file=sys.stderr)
            return 1
        return check_vectors(made)
    if options.command == "bundle":
        shown = or_refused(lambda: read_bundle(sys.stdin.buffer.read(), options.key.read_bytes(), options.floor))
        print(json.dumps(shown))
        return int("refused" in shown)
    owner = options.key.read_bytes(), options.tenant, options.user
    if options.command == "write":
        print(json.dumps(write(json.load(sys.stdin), *owner)))
        return 0
    answers = [read(json.loads(line)["Items"], *owner) for line in sys.stdin]
    for answer in answers:
        print(json.dumps(answer))
    return int(any("refused" in answer for answer in answers))


if __name__ == "__main__":
    sys.exit(main())
