"""Checkpoints against crashes, damage, forgery, full disks and second runs."""

import errno
import fcntl
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlzoo.storage import checkpoint, files
from rlzoo.storage.manifest import seal as seal_of

ARRAYS = {
    "network/dense/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "optimizer/iterations": np.int64(7),
    "replay/obs": np.arange(64, dtype=np.uint8).reshape(8, 2, 4),
    "replay/last": np.array([True, False, True]),
    "envs/actions": np.zeros((0, 2), np.int32),
}
META = {"agent": "dqn", "env": {"id": "CartPole-v1", "num_actions": 2}, "best": float("-inf")}
TEMPLATE = {name: (array.shape, array.dtype) for name, array in ARRAYS.items()}


def run_python(code, *args, **kwargs):
    """Runs a script in a process of its own, which has not loaded TensorFlow."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=False, **kwargs
    )


def start_python(code, *args):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def tree(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


@pytest.fixture
def no_fsync(monkeypatch):
    monkeypatch.setattr(checkpoint, "fsync", lambda path: None)


# --- what is saved is loaded ---


def test_round_trip(tmp_path):
    path = checkpoint.save(tmp_path, 12345, ARRAYS, META)
    assert path == tmp_path / "step-000012345"
    assert tree(tmp_path) == sorted(
        [path.name, f"{path.name}/manifest.json"] + [f"{path.name}/000{i}.npy" for i in range(5)]
    )
    arrays, meta, found = checkpoint.load(tmp_path, TEMPLATE)
    assert found == path
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert arrays["network/dense/kernel"].flags.writeable
    assert meta.pop("versions").keys() == {"rlzoo", "tensorflow", "keras", "gymnasium", "numpy"}
    assert meta == META


def test_any_layout_and_byte_order_are_stored_alike(tmp_path):
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    checkpoint.save(
        tmp_path, 1, {"a": matrix.T, "b": matrix[:, ::2], "c": matrix.astype(">f4")}, {}
    )
    arrays, _, _ = checkpoint.load(
        tmp_path, {"a": ((4, 3), "float32"), "b": ((3, 2), "float32"), "c": ((3, 4), "float32")}
    )
    np.testing.assert_array_equal(arrays["a"], matrix.T)
    np.testing.assert_array_equal(arrays["b"], matrix[:, ::2])
    np.testing.assert_array_equal(arrays["c"], matrix)


def test_files_are_plain_numpy(tmp_path):
    path = checkpoint.save(tmp_path, 1, ARRAYS, META)
    manifest = json.loads((path / "manifest.json").read_text())
    for i, entry in enumerate(manifest["files"]):
        array = np.load(path / f"{i:04d}.npy", allow_pickle=False)
        np.testing.assert_array_equal(array, ARRAYS[entry["name"]])


def test_template_may_depend_on_meta(tmp_path):
    checkpoint.save(tmp_path, 1, {"counts": np.zeros(2, np.int32)}, META)
    arrays, _, _ = checkpoint.load(
        tmp_path, lambda meta: {"counts": ((meta["env"]["num_actions"],), "int32")}
    )
    assert arrays["counts"].shape == (2,)


def test_only_a_part(tmp_path):
    path = checkpoint.save(tmp_path, 1, ARRAYS, META)
    (path / "0002.npy").unlink()  # the replay is not even opened
    template = {name: TEMPLATE[name] for name in ("network/dense/kernel",)}
    arrays, _, _ = checkpoint.load(tmp_path, template, only="network/")
    assert arrays.keys() == {"network/dense/kernel"}
    arrays, _, _ = checkpoint.load(tmp_path, only=("network/", "optimizer/"))
    assert arrays.keys() == {"network/dense/kernel", "optimizer/iterations"}


def test_same_step_twice(tmp_path):
    checkpoint.save(tmp_path, 5, {"x": np.int64(1)}, {})
    for value in (2, 3):
        checkpoint.save(tmp_path, 5, {"x": np.int64(value)}, {}, keep=1)
        arrays, _, _ = checkpoint.load(tmp_path)
        assert arrays["x"] == value
        assert len(os.listdir(tmp_path)) == 1


def test_best_and_newest_are_apart(tmp_path):
    checkpoint.save(tmp_path, 10, {"x": np.int64(10)}, {}, best=True)
    for step in (20, 30, 40):
        checkpoint.save(tmp_path, step, {"x": np.int64(step)}, {})
    assert checkpoint.load(tmp_path)[0]["x"] == 40
    assert checkpoint.load(tmp_path, best=True)[0]["x"] == 10
    checkpoint.save(tmp_path, 40, {"x": np.int64(41)}, {}, best=True)
    assert checkpoint.load(tmp_path, best=True)[0]["x"] == 41
    assert sorted(os.listdir(tmp_path)) == ["best-000000040", "step-000000030", "step-000000040"]


def test_where_no_best_is_good_the_newest_stands_in(tmp_path, no_fsync):
    checkpoint.save(tmp_path, 20, {"x": np.int64(20)}, {})
    assert checkpoint.load(tmp_path, best=True)[0]["x"] == 20
    best = checkpoint.save(tmp_path, 10, {"x": np.int64(10)}, {}, best=True)
    with open(best / "0000.npy", "ab") as file:
        file.write(b"x")
    with pytest.warns(UserWarning, match=r"best-0+10: x: its file .*Loaded step-0+20 instead"):
        arrays, _, path = checkpoint.load(tmp_path, best=True)
    assert arrays["x"] == checkpoint.step_of(path) == 20
    assert checkpoint.step_of(best) == 10


def test_steps_beyond_nine_digits_stay_in_order(tmp_path):
    for step in (999_999_999, 1_000_000_000):
        checkpoint.save(tmp_path, step, {}, {})
    assert checkpoint.load(tmp_path)[2].name == "step-1000000000"


def test_a_checkpoint_of_this_format_stays_loadable():
    arrays, meta, _ = checkpoint.load(Path(__file__).parent / "golden" / "format-2")
    np.testing.assert_array_equal(
        arrays["network/dense/kernel"], np.arange(6, dtype=np.float32).reshape(2, 3)
    )
    assert arrays["replay/obs"].dtype == np.uint8
    assert meta["agent"] == "dqn"


@pytest.mark.parametrize(
    ("arrays", "meta", "words"),
    [
        ({"x": np.array([object()])}, {}, "x: expected bools, integers or floats, got object"),
        ({"x": np.array(["a"])}, {}, "got <U1"),
        ({"x": np.zeros(2, [("a", "f4")])}, {}, "expected bools"),
        ({"x": np.zeros(2, np.complex64)}, {}, "complex64"),
        ({"../x": np.zeros(2)}, {}, "array name '../x'"),
        ({"/x": np.zeros(2)}, {}, "array name"),
        ({"a//b": np.zeros(2)}, {}, "array name"),
        ({"": np.zeros(2)}, {}, "array name"),
        ({}, {"f": print}, "meta must be something JSON can hold"),
        ({}, {"long": [[1]] * 300_000}, "Keep long lists in arrays"),
    ],
)
def test_what_cannot_be_saved(tmp_path, arrays, meta, words):
    checkpoint.save(tmp_path, 1, {}, {})
    with pytest.raises(ValueError, match=re.escape(words)):
        checkpoint.save(tmp_path, 2, arrays, meta, keep=1)
    assert os.listdir(tmp_path) == ["step-000000001"]


@pytest.mark.parametrize("name", ["network/w", "value_network/w", "optimizer/m", "replay/obs"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_has_diverged_is_not_saved(tmp_path, name, bad):
    checkpoint.save(tmp_path, 1, {"state/exploration": np.array([np.inf])}, {})
    with pytest.raises(FloatingPointError, match=f"{name} holds NaN or infinity: training has div"):
        checkpoint.save(tmp_path, 2, {name: np.array([1, bad], np.float32)}, {}, keep=1)
    assert os.listdir(tmp_path) == ["step-000000001"]
    assert checkpoint.load(tmp_path)[0]["state/exploration"] == np.inf


def test_bad_step_or_keep(tmp_path):
    with pytest.raises(ValueError, match="keep >= 1"):
        checkpoint.save(tmp_path, 1, {}, {}, keep=0)
    with pytest.raises(ValueError, match="step must be >= 0"):
        checkpoint.save(tmp_path, -1, {}, {})


def test_nothing_there(tmp_path):
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"no checkpoint in .*Give the folder"):
            checkpoint.load(directory)
        with pytest.raises(ValueError, match="no checkpoint in"):
            checkpoint.load(directory, best=True)


# --- mismatches are named ---


def mismatch(directory, template):
    with pytest.raises(ValueError, match="does not fit") as error:
        checkpoint.load(directory, template)
    return str(error.value)


def test_array_mismatches_are_named(tmp_path):
    checkpoint.save(tmp_path, 1, ARRAYS, META)
    kernel = "network/dense/kernel"
    cases = [
        ({**TEMPLATE, kernel: ((3, 5), "float32")}, f"{kernel}.shape: expected [3, 5], found [3"),
        ({**TEMPLATE, kernel: ((3, 4), "float64")}, f"{kernel}.dtype: expected 'float64', found"),
        ({**TEMPLATE, "target/w": ((3,), "float32")}, "target/w: missing, expected {'shape': [3]"),
        ({k: v for k, v in TEMPLATE.items() if k != kernel}, f"{kernel}: not expected, found {{"),
        ({**TEMPLATE, "replay/obs": ((8, 2, 3), "uint8")}, "replay/obs.shape: expected [8, 2, 3]"),
        ({**TEMPLATE, "replay/last": ((3,), "uint8")}, "replay/last.dtype: expected 'uint8'"),
    ]
    for template, words in cases:
        assert words in mismatch(tmp_path, template)
    many = {f"extra/{i}": ((1,), "float32") for i in range(50)}
    assert "and 30 more" in mismatch(tmp_path, {**TEMPLATE, **many})


def test_fields_that_differ_are_named():
    expected = {
        "agent": "dqn",
        "env": {"id": "CartPole-v1", "obs_shape": (4,), "obs_dtype": "float32", "num_actions": 2},
        "torso": {"name": "dense", "sizes": [64, 64], "norm": False},
        "num_envs": 1,
        "seed": 0,
    }
    found = {
        "agent": "reinforce",
        "env": {"id": "Acrobot-v1", "obs_shape": [6], "obs_dtype": "float64", "num_actions": 3},
        "torso": {"name": "lstm", "units": 32, "norm": 0},
        "num_envs": 8,
    }
    assert checkpoint.describe_mismatch(expected, found) == [
        "agent: expected 'dqn', found 'reinforce'",
        "env.id: expected 'CartPole-v1', found 'Acrobot-v1'",
        "env.obs_shape: expected (4,), found [6]",
        "env.obs_dtype: expected 'float32', found 'float64'",
        "env.num_actions: expected 2, found 3",
        "torso.name: expected 'dense', found 'lstm'",
        "torso.sizes: missing, expected [64, 64]",
        "torso.norm: expected False, found 0",
        "torso.units: not expected, found 32",
        "num_envs: expected 1, found 8",
        "seed: missing, expected 0",
    ]
    same = json.loads(json.dumps(expected))
    assert checkpoint.describe_mismatch(expected, same) == []


def test_a_callers_own_mismatch_is_passed_on(tmp_path):
    checkpoint.save(tmp_path, 1, ARRAYS, META)
    checkpoint.save(tmp_path, 2, ARRAYS, META)

    def template(meta):
        raise ValueError("; ".join(checkpoint.describe_mismatch({"agent": "x"}, meta)))

    with pytest.raises(ValueError, match="agent: expected 'x', found 'dqn'"):
        checkpoint.load(tmp_path, template)


# --- forged and damaged checkpoints ---


def read_manifest(path):
    return json.loads((path / "manifest.json").read_text())


def write_manifest(path, manifest):
    """Writes a manifest with a right checksum, as a forger would."""
    manifest.pop("sha256", None)
    seal(path, json.dumps(manifest)[:-1])


def seal(path, text):
    body = text.encode()
    (path / "manifest.json").write_bytes(body + seal_of(body))


def forge(path, index=0, data=None, **fields):
    """Changes an array's entry and file, and everything that depends on them."""
    manifest = read_manifest(path)
    entry = manifest["files"][index]
    if data is not None:
        (path / f"{index:04d}.npy").write_bytes(data)
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    entry.update(fields)
    write_manifest(path, manifest)


def forge_top(path, **fields):
    write_manifest(path, {**read_manifest(path), **fields})


def npy(array, **kwargs):
    stream = io.BytesIO()
    np.save(stream, array, **kwargs)
    return stream.getvalue()


def npy_with_header(text, data=bytes(48)):
    header = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return (open, ("pwned", "w"))


def pickled():
    import pickle

    return pickle.dumps(Bomb())


def zipped():
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.zeros(200_000_000, np.uint8))
    return stream.getvalue()


def link(path, name):
    outside = path.parent.parent / "outside"
    shutil.move(path / name, outside)
    (path / name).symlink_to(outside)


def link_directory(path):
    outside = path.parent.parent / "outside"
    shutil.move(path, outside)
    path.symlink_to(outside)


def pipe(path):
    (path / "0000.npy").unlink()
    os.mkfifo(path / "0000.npy")


def sparse(path):
    size = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    header = npy_with_header(
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}", b""
    )
    with open(path / "0000.npy", "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
    forge(path, shape=[size], dtype="|u1", bytes=len(header) + size)


FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"
CODE = "{'descr': '<f4', 'fortran_order': open('pwned', 'w'), 'shape': (3, 4), }"
TRILLION = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
NAN = np.full((3, 4), np.nan, np.float32)
LAMBDA = {"class_name": "Lambda", "module": "keras.layers", "config": {"function": "open"}}

# name -> (how to forge it, words in the reason)
HOSTILE = {
    "pickle": (lambda p: forge(p, data=pickled() + bytes(5000)), "cannot hold"),
    "pickle of the right size": (
        lambda p: forge(p, data=pickled().ljust(48 + 128, b".")), "not a plain array file",
    ),
    "object array": (
        lambda p: forge(p, data=npy(np.array([Bomb()]), allow_pickle=True).ljust(176)),
        "another shape or dtype",
    ),
    "object dtype": (lambda p: forge(p, dtype="|O"), "not a plain number"),
    "structured dtype": (lambda p: forge(p, dtype=[["a", "<f4"]]), "not a plain number"),
    "big-endian dtype": (lambda p: forge(p, dtype=">f4"), "not a plain number"),
    "code in the header": (lambda p: forge(p, data=npy_with_header(CODE)), "not a plain array"),
    "deep header": (
        lambda p: forge(p, data=npy_with_header("(" * 117)), "not a plain array"
    ),
    "Fortran order": (
        lambda p: forge(p, data=npy_with_header(FLOATS.replace("False", "True"))), "another shape"
    ),
    "header too long": (
        lambda p: forge(p, data=npy_with_header(FLOATS + " " * 4500)), "cannot hold"
    ),
    "bytes after the header": (
        lambda p: forge(p, data=npy_with_header(FLOATS, bytes(60))), "another shape"
    ),
    "shape bomb in the header": (
        lambda p: forge(p, data=npy_with_header(TRILLION)), "another shape or dtype"
    ),
    "shape bomb": (lambda p: forge(p, shape=[10**12]), "cannot hold"),
    "shape and size bomb": (
        lambda p: forge(p, shape=[10**8], bytes=4 * 10**8 + 128), "176 bytes, expected 400000128"
    ),
    "huge empty shape": (
        lambda p: forge(p, data=npy(np.zeros((0,), np.float32)), shape=[2**61, 2**61, 0]),
        "another shape",
    ),
    "sparse file": (sparse, "more than the memory here"),
    "negative shape": (lambda p: forge(p, shape=[-3, -4]), "shape [-3, -4]"),
    "shape of text": (lambda p: forge(p, shape="34"), "shape '34'"),
    "shape of bools": (lambda p: forge(p, shape=[True]), "shape [True]"),
    "shape of floats": (lambda p: forge(p, shape=[3.0, 4.0]), "shape [3.0, 4.0]"),
    "endless shape": (lambda p: forge(p, shape=[1] * 100), "shape"),
    "../ name": (lambda p: forge(p, name="../../outside"), "array name"),
    "absolute name": (lambda p: forge(p, name="/etc/passwd"), "array name"),
    "name of no text": (lambda p: forge(p, name=["a"]), "array name"),
    "module path": (lambda p: forge(p, module="os.system"), "a file entry must have"),
    "Lambda layer": (lambda p: forge_top(p, model=LAMBDA), "fields"),
    "linked array": (lambda p: link(p, "0000.npy"), "0000.npy"),
    "linked manifest": (lambda p: link(p, "manifest.json"), "manifest.json"),
    "linked checkpoint": (link_directory, "step-000000002"),
    "pipe": (pipe, "not a regular file"),
    "zip bomb": (lambda p: forge(p, data=zipped()), "cannot hold"),
    "HDF5 file": (
        lambda p: forge(p, data=b"\x89HDF\r\n\x1a\n".ljust(176, b"\0")), "not a plain array"
    ),
    "NaN weights": (lambda p: forge(p, data=npy(NAN)), "holds NaN or infinity"),
    "deep JSON": (lambda p: seal(p, '{"meta": ' + "[" * 90_000 + "]" * 90_000), "not JSON"),
    "nested JSON": (lambda p: forge_top(p, meta={"a": json.loads("[" * 90 + "]" * 90)}), "deep"),
    "wide JSON": (lambda p: seal(p, '{"meta": [' + "[]," * 2_000_000 + "[]]"), "too big"),
    "huge manifest": (lambda p: seal(p, '{"meta": "' + "x" * 100_000_000 + '"'), "too big"),
    "endless number": (lambda p: seal(p, '{"step": ' + "1" * 5_000_000), "not JSON"),
    "not UTF-8": (lambda p: (p / "manifest.json").write_bytes(b"\xff" * 500), "checksum"),
    "empty manifest": (lambda p: (p / "manifest.json").write_bytes(b""), "checksum"),
    "manifest is a list": (lambda p: seal(p, '[{"a": 1'), "not JSON"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "manifest.json"),
    "no array": (lambda p: (p / "0003.npy").unlink(), "0003.npy"),
    "changed manifest": (
        lambda p: (p / "manifest.json").write_text(
            (p / "manifest.json").read_text().replace("CartPole-v1", "CartPole-v0")
        ),
        "its checksum differs",
    ),
    "changed array": (
        lambda p: (p / "0000.npy").write_bytes(npy(np.ones((3, 4), np.float32))), "damaged"
    ),
    "wrong step": (lambda p: forge_top(p, step=3), "in a directory of step 2"),
    "step of text": (lambda p: forge_top(p, step="2"), "step '2'"),
    "format of text": (lambda p: forge_top(p, format="1"), "format '1' is not a number"),
    "versions of numbers": (lambda p: forge_top(p, versions={"numpy": 2}), "must be text"),
    "meta is a list": (lambda p: forge_top(p, meta=[]), "wrong type"),
    "files are no entries": (lambda p: forge_top(p, files=[1]), "a file entry must have"),
    "an array twice": (
        lambda p: forge_top(p, files=[read_manifest(p)["files"][0]] * 2), "listed twice"
    ),
}  # fmt: skip


def hostile_folder(folder, name):
    """A folder with a good checkpoint of step 1 and a forged one of step 2."""
    folder.mkdir(parents=True)
    for step in (1, 2):
        path = checkpoint.save(folder, step, ARRAYS, META)
    HOSTILE[name][0](path)
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_checkpoint_is_refused(tmp_path, monkeypatch, no_fsync, name):
    folder = hostile_folder(tmp_path / "run" / "checkpoints", name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = tree(tmp_path)
    with pytest.warns(UserWarning, match=r"step-000000002: .*Loaded the older") as warned:
        arrays, _, path = checkpoint.load(folder)
    assert path.name == "step-000000001"
    np.testing.assert_array_equal(arrays["network/dense/kernel"], ARRAYS["network/dense/kernel"])
    assert HOSTILE[name][1] in str(warned[0].message)
    shutil.rmtree(folder / "step-000000001")
    with pytest.raises(ValueError, match="no good checkpoint in"):
        checkpoint.load(folder)
    assert [p for p in tree(tmp_path) if "step-000000001" not in p] == [
        p for p in before if "step-000000001" not in p
    ]


def test_a_hostile_checkpoint_takes_no_memory(tmp_path, no_fsync):
    # One process each, as the peak of a process never goes down.
    code = """
        import resource, sys
        from rlzoo.storage import checkpoint
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        try:
            checkpoint.load(sys.argv[1])
        except ValueError:
            print((peak() - before) / 1024)
    """
    wide = '{"meta": {"a": [' + "1.5,-7," * 1_100_000 + "1]}"
    HOSTILE["widest that is parsed"] = (lambda p: seal(p, wide), "")
    try:
        for name in (
            "shape bomb", "shape bomb in the header", "shape and size bomb", "sparse file",
            "zip bomb", "deep JSON", "wide JSON", "huge manifest", "widest that is parsed",
        ):  # fmt: skip
            folder = hostile_folder(tmp_path / name, name)
            shutil.rmtree(folder / "step-000000001")
            result = run_python(code, folder)
            assert float(result.stdout) < 200, (name, result.stderr)
    finally:
        del HOSTILE["widest that is parsed"]


def test_a_sparse_file_is_refused_before_it_is_read(tmp_path):
    path = checkpoint.save(tmp_path, 1, ARRAYS, META)
    header = npy_with_header(FLOATS.replace("(3, 4)", "(250000000,)"), b"")
    with open(path / "0000.npy", "wb") as file:
        file.write(header)
        file.truncate(len(header) + 10**9)
    forge(path, shape=[250_000_000], bytes=len(header) + 10**9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mismatch(tmp_path, TEMPLATE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_format_too_new(tmp_path):
    checkpoint.save(tmp_path, 1, ARRAYS, META)
    forge_top(checkpoint.save(tmp_path, 2, ARRAYS, META), format=3, colour="blue")
    with pytest.raises(ValueError, match=r"format: expected 2, found 3 \(written by rlzoo .*Use"):
        checkpoint.load(tmp_path)


def test_200_flipped_bytes_are_noticed(tmp_path, no_fsync):
    path = checkpoint.save(tmp_path, 1, ARRAYS, META)
    names = sorted(os.listdir(path))
    rng = random.Random(0)
    noticed = 0
    for i in range(200):
        file = path / (names[i % len(names)] if i % 2 else "manifest.json")
        good = file.read_bytes()
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        file.write_bytes(data)
        try:
            checkpoint.load(tmp_path)
        except ValueError:
            noticed += 1
        file.write_bytes(good)
    assert noticed == 200
    checkpoint.load(tmp_path, TEMPLATE)


def test_cut_short_at_any_length(tmp_path, no_fsync):
    checkpoint.save(tmp_path, 1, ARRAYS, META)
    path = checkpoint.save(tmp_path, 2, ARRAYS, META)
    for file in path.iterdir():
        good = file.read_bytes()
        for length in {0, 1, len(good) // 2, len(good) - 1}:
            file.write_bytes(good[:length])
            with pytest.warns(UserWarning, match="step-000000002"):
                assert checkpoint.load(tmp_path)[2].name == "step-000000001"
        file.write_bytes(good)


def test_several_damaged_ones_are_all_named(tmp_path, no_fsync):
    for step in (1, 2, 3):
        path = checkpoint.save(tmp_path, step, ARRAYS, META, keep=3)
        if step > 1:
            (path / "0000.npy").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"step-000000003: .*step-000000002: .*older step-0+1 "):
        checkpoint.load(tmp_path)


# --- killed while saving ---

SAVER = """
    import os, random, signal, sys, time
    import numpy as np
    from pathlib import Path
    from rlzoo.storage import checkpoint, files

    def arrays(step):
        return {f"network/{i}": np.full((50, 50), step, np.float32) for i in range(4)}

    def check(folder, allowed):
        loaded, meta, path = checkpoint.load(folder)
        values = {int(v) for a in loaded.values() for v in np.unique(a)} | {meta["step"]}
        assert len(loaded) == 4 and len(values) == 1, values
        step = values.pop()
        assert step in allowed, (step, allowed)
        checkpoint.save(folder, step + 1, arrays(step + 1), {"step": step + 1})
        assert not list(folder.glob(files.TEMPORARY + "*"))
        return step
"""


def test_killed_at_random_moments(tmp_path):
    code = """
    folder, rng, new = Path(sys.argv[1]), random.Random(0), 0
    step = 1
    checkpoint.save(folder, step, arrays(step), {"step": step})
    for kill in range(60):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            while True:
                step += 1
                checkpoint.save(folder, step, arrays(step), {"step": step}, keep=rng.choice([1, 2]))
                os.write(write, b"x")  # saved, and so it must be found
        os.close(write)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done = 0
        while os.read(read, 1):
            done += 1
        os.close(read)
        found = check(folder, {step + done, step + done + 1})
        new += found > step
        step = found + 1
    print("good", new)
    """
    result = run_python(textwrap.dedent(SAVER) + textwrap.dedent(code), tmp_path)
    assert result.stdout.startswith("good"), result.stderr
    assert int(result.stdout.split()[1]) > 0  # some kills came after a save


def test_killed_at_every_line(tmp_path):
    code = """
    def kill_at(count):
        def trace(frame, event, argument):
            nonlocal count
            if "rlzoo" not in frame.f_code.co_filename:
                return None
            count -= event == "line"
            if count == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace
        sys.settrace(trace)

    folder = Path(sys.argv[1])
    step, line, old, new = 2, 0, 0, 0
    for s in (1, 2):
        checkpoint.save(folder, s, arrays(s), {"step": s})
    while True:
        line += 1
        child = os.fork()
        if not child:
            kill_at(line)
            checkpoint.save(folder, step + 1, arrays(step + 1), {"step": step + 1})
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            break
        found = check(folder, {step, step + 1})
        old, new = old + (found == step), new + (found > step)
        step = found + 1
    print(line, old, new)
    """
    result = run_python(textwrap.dedent(SAVER) + textwrap.dedent(code), tmp_path)
    assert result.returncode == 0, result.stderr
    lines, old, new = map(int, result.stdout.split())
    assert lines > 100
    assert old > 50
    assert new > 10


# --- clean-up ---


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    keep=st.integers(1, 3),
    saves=st.lists(
        st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=7
    ),
)
def test_clean_up_never_removes_what_is_needed(tmp_path_factory, keep, saves):
    folder = tmp_path_factory.mktemp("checkpoints")
    in_use, best = [], None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "fsync", lambda path: None)
        for step, is_best, hold in saves:
            before = checkpoint.checkpoints(folder)
            path = checkpoint.save(folder, step, {}, {"n": step}, keep=keep, best=is_best)
            best = path if is_best else best
            now = checkpoint.checkpoints(folder)
            assert path.exists()
            assert all(held.exists() for held, _ in in_use)
            assert best is None or best.exists()
            if is_best:
                assert now == before
                idle = set(checkpoint.checkpoints(folder, best=True)) - {p for p, _ in in_use}
                assert idle <= {path}
            else:
                idle = [p for p in now if p not in {held for held, _ in in_use}]
                assert len(idle) <= keep
                older = {p for p in before if p.name < f"step-{step:09d}"}
                kept = min(keep - 1, len({p.name[:14] for p in older}))
                assert len({p.name[:14] for p in now if p in older}) >= kept
                if not in_use:
                    assert checkpoint.load(folder)[2] == path
            if hold:
                file = open(path / "manifest.json", "rb")  # noqa: SIM115
                fcntl.flock(file, fcntl.LOCK_SH)
                in_use.append((path, file))
    for _, file in in_use:
        file.close()
    shutil.rmtree(folder)


def test_what_a_reader_uses_stays(tmp_path, no_fsync):
    first = checkpoint.save(tmp_path, 1, ARRAYS, META, keep=1)

    def template(meta):  # called in the middle of reading
        checkpoint.save(tmp_path, 2, ARRAYS, META, keep=1)
        assert first.exists()
        return TEMPLATE

    assert checkpoint.load(tmp_path, template)[2] == first
    checkpoint.save(tmp_path, 3, ARRAYS, META, keep=1)
    assert not first.exists()


def test_removed_under_a_reader(tmp_path, monkeypatch, no_fsync):
    checkpoint.save(tmp_path, 1, ARRAYS, META)
    original = checkpoint._read_array

    def read(*args):
        monkeypatch.setattr(checkpoint, "_read_array", original)
        shutil.rmtree(tmp_path / "step-000000001")
        checkpoint.save(tmp_path, 2, ARRAYS, META)
        return original(*args)

    monkeypatch.setattr(checkpoint, "_read_array", read)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert checkpoint.load(tmp_path)[2].name == "step-000000002"


# --- disks that are full or not writable ---


def test_full_disk(tmp_path):
    code = """
        import resource, signal, sys
        import numpy as np
        from pathlib import Path
        from rlzoo.storage import checkpoint
        folder = Path(sys.argv[1])
        checkpoint.save(folder, 1, {"x": np.zeros(10)}, {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for _ in range(10):
            try:
                checkpoint.save(folder, 2, {"x": np.zeros(10), "y": np.zeros(10**6)}, {}, keep=1)
            except OSError as error:
                print(error)
            assert checkpoint.load(folder)[2].name == "step-000000001"
    """
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("cannot save a checkpoint of 8,000,080 bytes in ") == 10
    assert "bytes free there" in result.stdout
    assert "Older checkpoints are intact" in result.stdout
    assert os.listdir(tmp_path) == ["step-000000001"]


@pytest.mark.parametrize("failing", ["mkdir", "rename", "fsync", "write_array"])
def test_no_space_at_any_point(tmp_path, monkeypatch, failing):
    checkpoint.save(tmp_path, 1, ARRAYS, META)

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = {
        "mkdir": (os, "mkdir"),
        "rename": (os, "rename"),
        "fsync": (checkpoint, "fsync"),
        "write_array": (checkpoint, "_write_array"),
    }[failing]
    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        with pytest.raises(OSError, match=r"cannot save a checkpoint of .*No space left") as error:
            checkpoint.save(tmp_path, 2, ARRAYS, META, keep=1)
    assert error.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["step-000000001"]
    assert checkpoint.load(tmp_path, TEMPLATE)[2].name == "step-000000001"


def test_not_a_place_to_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        checkpoint.save(tmp_path / "file" / "checkpoints", 1, ARRAYS, META)


def test_temporaries_of_a_killed_save_are_removed(tmp_path, no_fsync):
    left = tmp_path / "checkpoints" / f"{files.TEMPORARY}left"
    left.mkdir(parents=True)
    (left / "0000.npy").write_text("half")
    with checkpoint.lock(tmp_path):
        assert not left.exists()
    left.mkdir()
    checkpoint.save(tmp_path / "checkpoints", 1, {}, {})
    assert not left.exists()


# --- one process per run folder ---

HOLDER = """
    import os, sys, time
    from rlzoo.storage import checkpoint
    with checkpoint.lock(sys.argv[1]):
        if "fork" in sys.argv:
            ready, tell = os.pipe()
            child = os.fork()
            if not child:
                os.write(tell, b".")  # what Python does after a fork is done
                time.sleep(60)
                os._exit(0)
            os.read(ready, 1)
            print(child, flush=True)
        print("held", flush=True)
        time.sleep(60)
"""


def test_second_process_is_refused_until_the_first_is_killed(tmp_path):
    holder = start_python(HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    start = time.monotonic()
    with pytest.raises(ValueError, match=f"in use by process {holder.pid} on "):
        checkpoint.lock(tmp_path).__enter__()
    assert time.monotonic() - start < 1
    holder.kill()
    holder.communicate()
    assert (tmp_path / files.LOCK).exists()
    with checkpoint.lock(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / files.LOCK).read_text()
    assert not (tmp_path / files.LOCK).exists()


def test_a_worker_that_outlives_its_parent_holds_nothing(tmp_path):
    holder = start_python(HOLDER, tmp_path, "fork")
    child = int(holder.stdout.readline())
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(ValueError, match="in use"):
            checkpoint.lock(tmp_path).__enter__()
        holder.kill()
        holder.wait()
        os.kill(child, 0)  # is alive
        with checkpoint.lock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        holder.communicate()


def test_the_text_of_a_lock_does_not_count(tmp_path):
    # The number of a live process, as when a dead one's number was given out again.
    (tmp_path / files.LOCK).write_text(f"process {os.getpid()} on here\n" * 50)
    with checkpoint.lock(tmp_path):
        assert (tmp_path / files.LOCK).read_text().count("\n") == 1


def test_lock_in_one_process(tmp_path):
    with checkpoint.lock(tmp_path):
        with pytest.raises(ValueError, match="in use"), checkpoint.lock(tmp_path):
            pass
        with checkpoint.lock(tmp_path / "another"):
            pass
    with pytest.raises(RuntimeError), checkpoint.lock(tmp_path):
        raise RuntimeError
    with checkpoint.lock(tmp_path):
        pass


def test_lock_is_not_a_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / files.LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(ValueError, match="expected a regular file"), checkpoint.lock(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_never_two_in_one_folder(tmp_path):
    code = """
        import os, random, sys, time
        from rlzoo.storage import checkpoint
        folder, end = sys.argv[1], time.monotonic() + 3
        inside = os.path.join(folder, "inside")
        for _ in range(6):
            if not os.fork():
                turns = 0
                while time.monotonic() < end:
                    try:
                        with checkpoint.lock(folder):
                            os.mkdir(inside)  # fails if another is in
                            time.sleep(random.uniform(0, 0.002))
                            os.rmdir(inside)
                            turns += 1
                    except ValueError:
                        pass
                os._exit(0 if turns else 3)
        print([os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(6)])
    """
    result = run_python(code, tmp_path)
    assert result.stdout == "[0, 0, 0, 0, 0, 0]\n", result.stderr


# --- and nothing more ---


def test_neither_tensorflow_nor_secrets(tmp_path):
    code = """
        import sys
        import numpy as np
        from rlzoo.storage import checkpoint
        from rlzoo.reports import log as logs
        with checkpoint.lock(sys.argv[1]):
            checkpoint.save(sys.argv[1], 1, {"x": np.zeros(3)}, {"agent": "dqn"})
        checkpoint.load(sys.argv[1])
        print({"tensorflow", "keras", "matplotlib", "rich.progress"} & set(sys.modules))
    """
    secret = "hunter2-" + "f" * 20
    result = run_python(code, tmp_path, env={**os.environ, "WANDB_API_KEY": secret})
    assert result.stdout == "set()\n", result.stderr
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


def test_memory_does_not_grow(tmp_path, no_fsync):
    arrays = {"replay/obs": np.zeros(2_000_000, np.uint8)}

    def cycle(count):
        for step in range(count):
            checkpoint.save(tmp_path, step, arrays, META)
            checkpoint.load(tmp_path)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = cycle(10)
    assert cycle(50) - before < 10_000  # kB
