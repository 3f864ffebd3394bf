"""Files that survive a crash: writes that happen wholly or not at all, one run per folder."""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

TEMPORARY = ".tmp-"  # what a killed process may leave behind starts with this
LOCK = "run.lock"
FILES = (LOCK, "config.yaml", "metrics.csv", "summary.json", "curve.png", "curve.csv")  # of a run
FOLDERS = ("checkpoints", "hparams")

_held: set[int] = set()


def temporary_path(directory: Path) -> Path:
    """Returns an unused path in `directory`, on the same file system as its final place."""
    return directory / f"{TEMPORARY}{uuid.uuid4().hex}"


def remove_temporaries(directory: Path) -> None:
    """Removes what a killed writer left in `directory`. Only its one writer may call this."""
    for path in directory.glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def remove_empty(path: Path, parents: int = 0) -> None:
    """Removes a folder and so many of its parents, from the inmost on, until one is not empty."""
    with contextlib.suppress(OSError):
        for folder in (path, *path.parents[:parents]):
            folder.rmdir()


def fsync(path: Path) -> None:
    """Forces a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Yields a text file that takes the place of `path` when the block ends without an error."""
    temporary = temporary_path(path.parent)
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def run_path(given: str | Path) -> Path:
    """Returns the folder of a run as it was given; `~` is the home folder.

    Raises:
        ValueError: it is no path at all.
    """
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ValueError(f"run_dir: expected the path of a folder, received {given!r}.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"run_dir: {text!r} names the home folder of nobody here.") from None


def seed_dirs(folder: Path) -> dict[int, Path]:
    """Returns the run folder of each seed in a folder that `train_seeds` made, else {}."""
    if not os.path.isdir(folder):  # also where the path is too long to be one
        return {}
    found = [path.parent for path in folder.glob("s*/config.yaml")]
    named = {int(path.name[1:]): path for path in found if path.name[1:].isdecimal()}
    return dict(sorted(named.items()))


def one_of_seeds(folder: Path) -> str:
    """Returns a hint for who wants one run and has given the folder of several seeds, else ""."""
    several = seed_dirs(folder)
    taken = next(iter(several.values()), None)
    return f" It holds {len(several)} seeds: take one of them, such as {taken}" if taken else ""


@contextlib.contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Holds a run folder for this process, and clears what a killed one left in it.

    The kernel's lock on the open file counts, not the file's existence: it ends with its
    process however that dies, so a stale lock cannot be, and no process id is trusted. The
    text in the file is there for the message only.

    Raises:
        ValueError: another process holds the folder, or it cannot be the folder of a run.
    """
    run_dir = Path(run_dir)
    path = run_dir / LOCK
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        _check_names(run_dir)
        descriptor = _acquire(path)
    except OSError as error:
        shown = str(run_dir) if len(str(run_dir)) <= 200 else f"{str(run_dir)[:197]}..."
        raise ValueError(
            f"{shown} cannot be the folder of a run: {error.strerror}. Take another --run-dir."
        ) from None
    _held.add(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        for directory in (run_dir, run_dir / "checkpoints"):
            remove_temporaries(directory)
        yield
    finally:
        if descriptor in _held:  # not in a forked child
            with contextlib.suppress(OSError):
                path.unlink()  # while it is still ours
            _held.discard(descriptor)
            os.close(descriptor)


def _check_names(run_dir: Path) -> None:
    """Refuses a folder in which something else has the name of what a run leaves there."""
    for path in run_dir.iterdir():
        found = path.name in FOLDERS and not path.is_dir() and "a folder"
        if path.name in FILES and not (path.is_file() and not path.is_symlink()):
            found = "a regular file"
        if found:
            raise ValueError(
                f"{path}: expected {found}, found something else. Move it away, or take another "
                "--run-dir."
            )


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                warnings.warn(
                    f"{path.parent}: this file system has no locks, so a second run in the "
                    "same folder would not be noticed.",
                    stacklevel=4,
                )
                return descriptor
            owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise ValueError(
                f"{path.parent} is in use by {owner or 'another process'}. "
                "Wait until it ends, stop it, or choose another run folder."
            ) from None
        # The holder before us may have removed the name that we opened: then try again.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def _forget_after_fork() -> None:
    # A forked worker that outlives its parent must not keep the parent's lock.
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget_after_fork)
