"""Programs are compiled once, and no stored program is ever in a run's way."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rlzoo import compile_cache

NAME = "xla_compile_cache__{}__{}__XLA_CPU_JIT.pb"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of its own, which no program has been stored in."""
    monkeypatch.setattr(compile_cache, "_folder", None)
    monkeypatch.setenv("RLZOO_COMPILE_CACHE", str(tmp_path / "compiled"))
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    return tmp_path / "compiled"


def told():
    """Returns TF_XLA_FLAGS as TensorFlow reads it."""
    with compile_cache.flags("2.21.0"):
        return os.environ.get("TF_XLA_FLAGS")


def opened(home):
    """Returns the folder that is used now."""
    told()
    (folder,) = home.iterdir()
    return folder


def stored(folder, number, size=10):
    """Writes an entry as TensorFlow does, and its checksum as `seal` does."""
    entry = folder / NAME.format(number, number)
    entry.write_bytes(bytes([number]) * size)
    compile_cache.seal()
    return entry


def test_the_folder_is_private_and_the_variable_is_as_before_afterwards(home):
    assert f"--tf_xla_persistent_cache_directory={home}/tf2.21.0-" in told()
    (folder,) = home.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert "TF_XLA_FLAGS" not in os.environ


def test_folders_that_have_to_be_made_are_private_whatever_the_umask(home):
    before = os.umask(0o002)
    try:
        assert told()
    finally:
        os.umask(before)
    assert home.stat().st_mode & 0o777 == 0o700


def test_the_users_flags_are_kept_and_a_folder_of_theirs_is_left_alone(home, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_max_cluster_size=7")
    assert told().startswith("--tf_xla_max_cluster_size=7 --tf_xla_persistent_cache_directory=")
    assert os.environ["TF_XLA_FLAGS"] == "--tf_xla_max_cluster_size=7"
    theirs = "--tf_xla_persistent_cache_directory=/theirs"
    monkeypatch.setenv("TF_XLA_FLAGS", theirs)
    assert told() == theirs


def test_off_makes_no_folder(home, monkeypatch):
    monkeypatch.setenv("RLZOO_COMPILE_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    assert told() is None
    assert not home.exists()


def test_without_a_word_it_is_in_the_users_cache_directory(home, monkeypatch):
    monkeypatch.delenv("RLZOO_COMPILE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    assert f"={home}/rlzoo/compiled/tf2.21.0-" in told()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says its specification
    monkeypatch.setenv("HOME", str(home / "me"))
    assert f"={home}/me/.cache/rlzoo/compiled/tf2.21.0-" in told()


def test_other_compiler_settings_or_versions_have_a_folder_of_their_own(home, monkeypatch):
    told()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    told()
    with compile_cache.flags("2.22.0"):
        pass
    assert len(list(home.iterdir())) == 3


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
def test_a_folder_that_others_can_enter_is_not_used(home, mode):
    opened(home).chmod(mode)
    assert told() is None


def test_a_folder_in_one_that_others_can_write_is_not_used(home):
    opened(home)
    home.chmod(0o777)
    assert told() is None
    home.chmod(0o1777)  # as /tmp: what is in it can be replaced by its owner only
    assert told()


def test_a_link_is_not_used(home, tmp_path):
    folder = opened(home)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert told() is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_what_belongs_to_somebody_else_is_not_used(home):
    folder = opened(home)
    entry = stored(folder, 1)
    os.chown(entry, 12345, -1)
    told()
    assert not entry.exists()
    os.chown(folder, 12345, -1)
    assert told() is None


def test_a_folder_that_cannot_be_made_is_done_without(home, monkeypatch):
    home.write_text("a file")
    assert told() is None
    monkeypatch.setenv("RLZOO_COMPILE_CACHE", "/proc/rlzoo")
    assert told() is None


@pytest.mark.skipif(os.getuid() == 0, reason="root can write where writing is forbidden")
def test_a_folder_that_cannot_be_written_is_only_read(home):
    folder = opened(home)
    entry = stored(folder, 1)
    folder.chmod(0o500)
    assert "--tf_xla_persistent_cache_read_only=true" in told()
    folder.chmod(0o700)
    entry.write_bytes(b"other")
    folder.chmod(0o500)
    assert told() is None  # it cannot be deleted


def test_only_programs_that_are_as_they_were_stored_are_left(home):
    folder = opened(home)
    whole, changed, cut = (stored(folder, number) for number in (1, 2, 3))
    changed.write_bytes(b"\2" * 9 + b"\3")
    cut.write_bytes(b"\3" * 5)
    unsealed = folder / NAME.format(4, 4)  # its process was killed
    unsealed.write_bytes(b"\4")
    told()
    assert sorted(folder.glob("*.pb")) == [whole]


def test_a_program_stored_again_is_sealed_again(home):
    folder = opened(home)
    entry = stored(folder, 1)
    stored(folder, 1, size=20)
    told()
    assert entry.stat().st_size == 20


def test_the_oldest_programs_beyond_the_limit_are_deleted_whatever_their_version(home, monkeypatch):
    folder = opened(home)
    with compile_cache.flags("2.22.0"):
        pass
    other = next(path for path in home.iterdir() if path != folder)
    told()
    entries = [stored(other if i == 0 else folder, i) for i in range(4)]
    for i, entry in enumerate(entries):
        os.utime(entry, (1000 + i, 1000 + i))
    monkeypatch.setattr(compile_cache, "LIMIT", 25)  # two of ten bytes
    told()
    assert [entry.exists() for entry in entries] == [False, False, True, True]
    assert len(list(folder.iterdir())) == 4  # with their checksums
    assert not (other / f"{entries[0].name}.crc32").exists()


TRAIN = """
    import sys
    {first}
    import rlzoo, tensorflow as tf
    {before}
    agent, env, loop, folder, seed = sys.argv[1:]
    sizes = dict(preset=False, quiet=True, run_dir=folder, seed=int(seed), loop=loop)
    overrides = {{"eval_every": 100, "eval_episodes": 1}}
    print(rlzoo.train(agent, env, steps=200, overrides=overrides, **sizes).summary["steps"])
"""


def train(agent, env, loop, home, folder, first="", before="", seed=0, **variables):
    code = textwrap.dedent(TRAIN).format(first=first, before=before)
    done = subprocess.run(
        [sys.executable, "-c", code, agent, env, loop, str(folder), str(seed)],
        env={**os.environ, "RLZOO_COMPILE_CACHE": str(home), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cpu_aot_loader" not in done.stderr
    return {entry: entry.stat().st_mtime_ns for entry in Path(home).glob("*/*.pb")}


MORE_TENSORS = "[tf.zeros(3) for _ in range(100)]"  # TensorFlow's counter of names goes on
FIRST_TENSOR = "tf.zeros(3)"  # TensorFlow starts; now threads are as they are, in both


def test_a_second_start_finds_its_programs(home, tmp_path):
    case = ("dqn", "CartPole-v1", "graph", home)
    first = train(*case, tmp_path / "a", before=FIRST_TENSOR)
    assert len(first) >= 2  # acting, and the loop
    assert train(*case, tmp_path / "b", before=MORE_TENSORS, seed=1) == first


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["graph", "host"])
@pytest.mark.parametrize(
    ("agent", "env"),
    [
        ("dqn", "CartPole-v1"),
        ("reinforce", "CartPole-v1"),
        ("dyna_q", "CartPole-v1"),
        ("dyna_q", "FrozenLake-v1"),
    ],
)
def test_later_starts_find_their_programs(agent, env, loop, home, tmp_path):
    first = train(agent, env, loop, home, tmp_path / "first")
    assert first
    for i in range(3):
        assert train(agent, env, loop, home, tmp_path / str(i), PYTHONHASHSEED=str(i)) == first


def test_programs_damaged_after_they_were_checked_cost_only_the_time(home, tmp_path):
    case = ("dyna_q", "FrozenLake-v1", "graph", home)
    stored = train(*case, tmp_path / "a", first="import keras")  # which imports TensorFlow
    assert stored
    damage = (
        f"import pathlib; [p.write_bytes(b'x') for p in pathlib.Path({str(home)!r}).glob('*/*.pb')]"
    )
    train(*case, tmp_path / "b", before=damage)
    rows = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in "ab"]
    untimed = [[row.split(",")[::2] for row in run if "time/" not in row] for run in rows]
    assert untimed[0] == untimed[1]
