"""The manifest of a checkpoint: what it says, its seal, and its reading with distrust."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

FORMAT = 2
MAX_HEADER = 4096  # bytes of an array file


MANIFEST = "manifest.json"


_FIELDS = {"format", "step", "versions", "meta", "files"}


_PACKAGES = {"rlzoo": "rlzoo-tf"} | {n: n for n in ("tensorflow", "keras", "gymnasium", "numpy")}


DTYPES = {"|b1", "|i1", "|u1", "<i2", "<i4", "<i8", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8"}


# Python needs up to 25 times the bytes of a JSON text: these keep a hostile one below 200 MB.
MAX_MANIFEST = 8 << 20


_MAX_BRACKETS = 200_000


_MAX_DEPTH = 64


class RefusedError(Exception):
    """A checkpoint that is damaged or hostile: another may be loaded in its place."""


class Entry(NamedTuple):
    """What a manifest says of one array file."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    bytes: int  # of the file
    sha256: str

    @property
    def nbytes(self) -> int:
        """Bytes of the array alone."""
        return math.prod(self.shape) * self.dtype.itemsize


@functools.cache
def versions() -> dict[str, str]:
    """Returns the versions of the packages that a run depends on, as a manifest lists them."""
    found = {}
    for name, package in _PACKAGES.items():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(package)
    return found


def check_name(name: Any) -> None:
    """Refuses a name of an array that is not like a path."""
    parts = name.split("/") if isinstance(name, str) else [""]
    printable = isinstance(name, str) and name.isascii() and name.isprintable()
    if not printable or len(name) > 512 or "\\" in name or {"", ".", ".."} & set(parts):
        raise ValueError(f"array name {brief(name)}: expected one like 'actor/torso/kernel'")


def manifest_of(step: int, meta: Mapping[str, Any], files: list[dict[str, Any]]) -> bytes:
    """Returns the bytes of a manifest, its seal at the end."""
    try:
        text = json.dumps(meta, default=_number)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"meta must be something JSON can hold: {error}.") from error
    body = (
        f'{{"format": {FORMAT},\n"step": {step},\n"versions": {json.dumps(versions())},\n'
        f'"meta": {text},\n"files": [\n' + ",\n".join(map(json.dumps, files)) + "\n]"
    ).encode()
    raw = body + seal(body)
    try:
        parse(raw, step)  # what is written can be read again
    except RefusedError as error:
        raise ValueError(f"{error}. Keep long lists in arrays, not in meta.") from None
    return raw


def seal(body: bytes) -> bytes:
    """Returns the end of a manifest: a checksum of all that comes before."""
    return b',\n"sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def parse(raw: bytes, step: int) -> tuple[dict[str, Any], list[Entry]]:
    """Returns a manifest and its entries; refuses whatever rlzoo would not have written."""
    if len(raw) > MAX_MANIFEST or raw.count(b"[") + raw.count(b"{") > _MAX_BRACKETS:
        refuse(f"{MANIFEST} is too big ({len(raw):,} bytes or more)")
    size = len(seal(b""))
    body = raw[:-size]
    if raw[-size:] != seal(body):
        refuse(f"{MANIFEST} is damaged (its checksum differs)")
    try:
        manifest = json.loads(body + b"}")
    except (ValueError, RecursionError) as error:
        refuse(f"{MANIFEST} is not JSON ({brief(str(error))})")
    if not isinstance(manifest, dict) or _depth(manifest) > _MAX_DEPTH:
        refuse(f"{MANIFEST} is not an object, or is nested too deep")
    if not _is_count(manifest.get("format")):
        refuse(f"{MANIFEST}: format {brief(manifest.get('format'))} is not a number")
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"checkpoint format: expected {FORMAT}, found {manifest['format']} (written by rlzoo "
            f"{brief(manifest.get('versions'))}). Use that version of rlzoo, or train anew."
        )
    if manifest.keys() != _FIELDS:
        refuse(f"{MANIFEST}: fields {brief(sorted(manifest))}, expected {sorted(_FIELDS)}")
    if manifest["step"] != step or not _is_count(manifest["step"]):
        refuse(f"{MANIFEST}: step {brief(manifest['step'])} in a directory of step {step}")
    versions, meta, files = manifest["versions"], manifest["meta"], manifest["files"]
    if not isinstance(meta, dict) or not isinstance(files, list) or not isinstance(versions, dict):
        refuse(f"{MANIFEST}: versions, meta or files has the wrong type")
    if not all(isinstance(version, str) for version in versions.values()):
        refuse(f"{MANIFEST}: versions must be text")
    entries = [_entry(file) for file in files]
    if len({entry.name for entry in entries}) != len(entries):
        refuse(f"{MANIFEST}: an array is listed twice")
    return manifest, entries


def _entry(file: Any) -> Entry:
    if not isinstance(file, dict) or file.keys() != set(Entry._fields):
        refuse(f"{MANIFEST}: a file entry must have {', '.join(Entry._fields)}")
    name, shape, dtype, size, sha256 = (file[field] for field in Entry._fields)
    try:
        check_name(name)
    except ValueError as error:
        refuse(str(error))
    if not isinstance(shape, list) or len(shape) > 32 or not all(map(_is_count, shape)):
        refuse(f"{name}: shape {brief(shape)}")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        refuse(f"{name}: dtype {brief(dtype)} is not a plain number")
    if not _is_count(size) or not isinstance(sha256, str):
        refuse(f"{name}: bytes and sha256 must be a number and a text")
    entry = Entry(name, tuple(shape), np.dtype(dtype), size, sha256)
    if not 0 < entry.bytes - entry.nbytes <= MAX_HEADER:
        refuse(f"{name}: {size} bytes cannot hold {dtype} {brief(shape)}")
    return entry


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62  # a bool is not one


def _depth(value: Any) -> int:
    """Returns how deep a parsed JSON value is nested, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
    return depth


def as_json(value: Any) -> Any:
    """Returns a value as it comes back from JSON."""
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return (type(value), value) if isinstance(value, bool) else value


def _number(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {brief(value)}")


def brief(value: Any) -> str:
    """Returns a value as a message can show it."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def refuse(reason: str) -> NoReturn:
    """Says why a checkpoint is not taken; another one may be."""
    raise RefusedError(reason)
