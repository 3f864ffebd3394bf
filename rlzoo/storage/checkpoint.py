"""Checkpoints: a directory of plain arrays and a manifest, written whole and read with distrust.

    checkpoints/step-000012345/manifest.json   format, step, versions, meta, one entry per array
                              /0000.npy ...    array i of the manifest

A checkpoint is written beside its final place, forced to the disk and renamed, so that a process
killed at any moment leaves the old one or the new one, never a mix. Everything read is checked
before it is used: nothing in a checkpoint names a path, a class or a function, arrays are plain
numbers, and every byte is under a checksum (which guards against damage; against a forger stand
the checks themselves). No array is allocated before its file has the size its shape predicts.
"""

import contextlib
import fcntl
import hashlib
import io
import os
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rlzoo.storage.files import fsync, lock, remove_temporaries, temporary_path
from rlzoo.storage.manifest import (
    DTYPES,
    MANIFEST,
    MAX_HEADER,
    MAX_MANIFEST,
    Entry,
    RefusedError,
    as_json,
    brief,
    check_name,
    manifest_of,
    parse,
    refuse,
)

__all__ = ["checkpoints", "describe_mismatch", "load", "lock", "save", "step_of"]

Template = Mapping[str, tuple[Sequence[int], Any]]  # name -> (shape, dtype)

ANY_NUMBER = ("state/", "loop/")  # only under these names may NaN or infinity mean something

_NAME = re.compile(r"step-(\d{9,18})(?:\.(\d{1,9}))?")
_BEST_NAME = re.compile(r"best-(\d{9,18})(?:\.(\d{1,9}))?")
_PIECE = 1 << 20


def save(
    directory: Path,
    step: int,
    arrays: Mapping[str, Any],
    meta: Mapping[str, Any],
    *,
    keep: int = 2,
    best: bool = False,
) -> Path:
    """Writes a checkpoint wholly or not at all, then removes those it supersedes.

    Of the others, the `keep - 1` newest before `step` stay. Later ones go: a run that saves at
    `step` went back to before them. Checkpoints that are being read, and those of the other
    kind, stay. Only one process may save to a directory (`lock` sees to it).

    Args:
        directory: where checkpoints live.
        step: environment steps taken.
        arrays: name -> array, names like `actor/torso/dense/kernel`; bools, integers or floats.
        meta: anything that JSON can hold: spaces, resolved config, loop state.
        keep: checkpoints to keep, the new one included.
        best: write the best checkpoint so far (`best-...`), of which one is kept.

    Returns:
        The new checkpoint's directory.

    Raises:
        ValueError: an array or `meta` cannot be stored.
        FloatingPointError: an array holds NaN or infinity.
        OSError: the disk is full or not writable; older checkpoints are intact.
    """
    directory = Path(directory)
    if step < 0 or keep < 1:
        raise ValueError(f"step must be >= 0 and keep >= 1, got step={step} and keep={keep}.")
    plain = {name: _plain_array(name, array) for name, array in arrays.items()}
    size = sum(array.nbytes for array in plain.values())
    temporary = temporary_path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_temporaries(directory)
        temporary.mkdir()
        files = [
            _write_array(temporary / _file_name(i), name, array)
            for i, (name, array) in enumerate(plain.items())
        ]
        (temporary / MANIFEST).write_bytes(manifest_of(step, meta, files))
        for path in temporary.iterdir():  # after all are written: the disk works in parallel
            fsync(path)
        fsync(temporary)
        final = _free_path(directory, step, best)
        os.rename(temporary, final)
        fsync(directory)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            error.errno,
            f"cannot save a checkpoint of {size:,} bytes in {directory} "
            f"({_free_space(directory)}): {error.strerror}. Older checkpoints are intact",
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _remove_superseded(directory, final, 1 if best else keep, best)
    return final


def load(
    directory: Path,
    template: Template | Callable[[dict[str, Any]], Template] | None = None,
    *,
    best: bool = False,
    only: str | tuple[str, ...] = "",
) -> tuple[dict[str, np.ndarray], dict[str, Any], Path]:
    """Reads the newest good checkpoint; warns where a newer one is damaged.

    Args:
        directory: where checkpoints live.
        template: name -> (shape, dtype) of every array wanted, or a function of `meta` that
            returns it (and may raise a `ValueError` of its own). It is checked before any
            array is read. None takes all as they are, however big.
        best: read the best checkpoint instead, or the newest where no best one is good.
        only: leave out arrays whose names do not start so: `"actor/"` to act, not to learn.

    Returns:
        The arrays by name; `meta` as saved, with `versions` of the packages that wrote it; the
        checkpoint's directory.

    Raises:
        ValueError: there is no good checkpoint, it is of a newer format, or it does not fit
            the template. The message lists the reasons.
    """
    directory = Path(directory)
    refused: dict[Path, str] = {}
    while True:
        # Looked up anew each time: a running trainer may have put newer ones in their place.
        found = checkpoints(directory, best=True) if best else []
        found += checkpoints(directory)
        path = next((p for p in found if p not in refused), None)
        if path is None:
            break
        try:
            arrays, meta = _read(path, template, only)
        except (RefusedError, OSError) as error:
            refused[path] = str(error) if path.exists() else "removed while it was being read"
            continue
        if refused:
            older = "" if best else "the older "
            warnings.warn(f"{_listed(refused)}. Loaded {older}{path.name} instead.", stacklevel=2)
        return arrays, meta, path
    if refused:
        raise ValueError(f"no good checkpoint in {directory}: {_listed(refused)}.")
    raise ValueError(f"no checkpoint in {directory}. Give the folder of a run that has saved one.")


def checkpoints(directory: Path, *, best: bool = False) -> list[Path]:
    """Lists the checkpoints in `directory`, newest first, without looking inside."""
    directory = Path(directory)
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    found = [(order, directory / name) for name in names if (order := _order(name, best))]
    return [path for _, path in sorted(found, reverse=True)]


def step_of(path: Path) -> int:
    """Returns the step of a checkpoint, from its name."""
    order = _order(path.name, False) or _order(path.name, True)
    return order[0] if order else 0


def describe_mismatch(
    expected: Mapping[str, Any], found: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Lists where two nested dicts differ, one line per field: `env.id: expected ..., found ...`.

    Lists and tuples with the same items count as equal, as JSON knows only lists.
    """
    lines = []
    for key in [*expected, *(key for key in found if key not in expected)]:
        field = f"{prefix}{key}"
        if key not in found:
            lines.append(f"{field}: missing, expected {brief(expected[key])}")
        elif key not in expected:
            lines.append(f"{field}: not expected, found {brief(found[key])}")
        elif isinstance(expected[key], Mapping) and isinstance(found[key], Mapping):
            lines += describe_mismatch(expected[key], found[key], f"{field}.")
        elif as_json(expected[key]) != as_json(found[key]):
            lines.append(f"{field}: expected {brief(expected[key])}, found {brief(found[key])}")
    return lines


# --- names ---


def _file_name(index: int) -> str:
    return f"{index:04d}.npy"


def _order(name: str, best: bool) -> tuple[int, int] | None:
    """Returns the step of a checkpoint and its revision (a step can be saved more than once)."""
    match = (_BEST_NAME if best else _NAME).fullmatch(name)
    return (int(match[1]), int(match[2] or 0)) if match else None


def _free_path(directory: Path, step: int, best: bool) -> Path:
    orders = (_order(name, best) for name in os.listdir(directory))
    revisions = [order[1] for order in orders if order and order[0] == step]
    name = f"{'best' if best else 'step'}-{step:09d}"
    return directory / (f"{name}.{max(revisions) + 1}" if revisions else name)


# --- writing ---


def _plain_array(name: str, value: Any) -> np.ndarray:
    check_name(name)
    array = np.asarray(value)
    array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    if array.dtype.str not in DTYPES:
        raise ValueError(f"{name}: expected bools, integers or floats, got {array.dtype}.")
    if not name.startswith(ANY_NUMBER) and not _is_finite(array):
        raise FloatingPointError(
            f"{name} holds NaN or infinity: training has diverged. No checkpoint was written; the "
            "last one is good. A lower learning_rate, or rewards of a smaller scale, may help."
        )
    return array


def _write_array(path: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    digest = hashlib.sha256(header.getvalue())
    with open(path, "wb") as file:
        file.write(header.getvalue())
        for piece in _pieces(array):
            file.write(piece)
            digest.update(piece)
    return {
        "name": name,
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "bytes": len(header.getvalue()) + array.nbytes,
        "sha256": digest.hexdigest(),
    }


def _remove_superseded(directory: Path, newest: Path, keep: int, best: bool) -> None:
    kept_steps: list[int] = []
    step, _ = _order(newest.name, best) or (0, 0)
    for path in checkpoints(directory, best=best):
        order = _order(path.name, best)
        if path == newest or order is None:
            continue
        if order[0] < step and order[0] not in kept_steps and len(kept_steps) < keep - 1:
            kept_steps.append(order[0])
        else:
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            file = stack.enter_context(open(path / MANIFEST, "rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while a reader holds it
        hidden = temporary_path(path.parent)
        os.rename(path, hidden)  # gone at once, not file by file
        remove_temporaries(path.parent)


def _free_space(directory: Path) -> str:
    try:
        return f"{shutil.disk_usage(directory).free:,} bytes free there"
    except OSError:
        return "free space unknown"


# --- reading ---


def _read(
    path: Path, template: Template | Callable[[dict[str, Any]], Template] | None, only: Any
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with _directory(path) as folder, _regular_file(MANIFEST, folder) as file:
        with contextlib.suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # against removal meanwhile
        raw = file.read(MAX_MANIFEST + 1)
        manifest, entries = parse(raw, step_of(path))
        meta = {**manifest["meta"], "versions": manifest["versions"]}
        wanted = {i: entry for i, entry in enumerate(entries) if entry.name.startswith(only)}
        if template is not None:
            _check_template(path, template(meta) if callable(template) else template, wanted, only)
        size = sum(entry.nbytes for entry in wanted.values())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if size > memory:
            refuse(f"its arrays need {size:,} bytes, more than the memory here ({memory:,})")
        arrays = {entry.name: _read_array(i, entry, folder) for i, entry in wanted.items()}
    return arrays, meta


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _regular_file(name: str, folder: int) -> BinaryIO:
    # Without O_NONBLOCK, opening a named pipe would wait for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.fdopen(os.open(name, flags, dir_fd=folder), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        refuse(f"{name} is not a regular file")
    return file


def _read_array(index: int, entry: Entry, folder: int) -> np.ndarray:
    with _regular_file(_file_name(index), folder) as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry.bytes:
            refuse(f"{entry.name}: its file has {size} bytes, expected {entry.bytes}")
        header = file.read(entry.bytes - entry.nbytes)
        _check_header(header, entry)
        digest = hashlib.sha256(header)
        try:
            array = np.empty(entry.shape, entry.dtype)
        except (ValueError, MemoryError) as error:
            raise RefusedError(f"{entry.name}: {error}") from None
        for piece in _pieces(array):
            if file.readinto(piece) != len(piece):  # pyright: ignore[reportAttributeAccessIssue]
                refuse(f"{entry.name}: its file ends too early")
            digest.update(piece)
    if digest.hexdigest() != entry.sha256:
        refuse(f"{entry.name}: damaged (its checksum differs)")
    if not entry.name.startswith(ANY_NUMBER) and not _is_finite(array):
        refuse(f"{entry.name}: holds NaN or infinity")
    return array


def _check_header(header: bytes, entry: Entry) -> None:
    stream = io.BytesIO(header)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("unknown version")
        found = np.lib.format.read_array_header_1_0(stream, max_header_size=MAX_HEADER)
    except Exception as error:  # whatever a hostile header makes NumPy's parser raise
        raise RefusedError(f"{entry.name}: not a plain array file ({brief(str(error))})") from None
    if found != (entry.shape, False, entry.dtype) or stream.tell() != len(header):
        refuse(f"{entry.name}: its file holds another shape or dtype than the manifest says")


def _check_template(path: Path, template: Template, wanted: dict[int, Entry], only: Any) -> None:
    mismatches = describe_mismatch(
        {
            name: {"shape": list(shape), "dtype": np.dtype(dtype).name}
            for name, (shape, dtype) in template.items()
            if name.startswith(only)
        },
        {e.name: {"shape": list(e.shape), "dtype": e.dtype.name} for e in wanted.values()},
    )
    if mismatches:
        more = f"; and {len(mismatches) - 20} more" if len(mismatches) > 20 else ""
        raise ValueError(
            f"checkpoint {path.name} does not fit this agent, network or environment: "
            f"{'; '.join(mismatches[:20])}{more}."
        )


# --- small things ---


def _pieces(array: np.ndarray) -> Iterator[memoryview]:
    view = array.reshape(-1).view(np.uint8).data
    return (view[i : i + _PIECE] for i in range(0, len(view), _PIECE))


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _listed(refused: Mapping[Path, str]) -> str:
    return "; ".join(f"{path.name}: {reason}" for path, reason in refused.items())
