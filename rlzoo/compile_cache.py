"""The programs that XLA compiled, kept from run to run in a folder of the user's own.

They hold machine code. So nobody else may be able to write the folder or what it lies in, its name
has all that the code depends on and TensorFlow does not compare, and each entry's checksum is
compared before TensorFlow is let near it: TensorFlow ends a run over an entry that it cannot read.
Whatever is wrong with it costs the time of compiling anew.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

SETTING = "RLZOO_COMPILE_CACHE"  # "off", or a folder to keep them in
LIMIT = 2**28  # bytes in all; every start reads those of its own folder, at about 1 GB/s
_FREE = 2**26  # bytes that a disk must have left: a program that cannot be stored ends the run
_ENTRIES = "xla_compile_cache__*.pb"
_SEAL = ".crc32"  # what the name of an entry's checksum ends in
_FLAG = "--tf_xla_persistent_cache_"
_COMPILING = ("XLA_FLAGS", "TF_XLA_FLAGS", "TF_NUM_INTRAOP_THREADS", "TF_ENABLE_ONEDNN_OPTS")

_folder: Path | None = None  # that TensorFlow stores programs in; None: nowhere, or the user's own


@contextlib.contextmanager
def flags(version: str) -> Iterator[None]:
    """Names the folder in TF_XLA_FLAGS, within a block in which TensorFlow reads it.

    Afterwards the variable is as before, so that child processes choose for themselves. A folder
    that the user named there is left alone.

    Args:
        version: of TensorFlow.
    """
    global _folder
    given = os.environ.get("TF_XLA_FLAGS")
    chosen = []
    if f"{_FLAG}directory" not in (given or ""):
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
            chosen = _open(version)
    if not chosen:
        yield
        return
    os.environ["TF_XLA_FLAGS"] = " ".join([*filter(None, [given]), *chosen])
    try:
        yield
    finally:
        if given is None:
            del os.environ["TF_XLA_FLAGS"]
        else:
            os.environ["TF_XLA_FLAGS"] = given


def seal() -> None:
    """Writes the checksum of each program that has none yet: right after it was compiled."""
    with contextlib.suppress(OSError):
        for entry in sorted(_folder.glob(_ENTRIES)) if _folder else []:
            with contextlib.suppress(FileNotFoundError):  # another process cleared it away
                mark = Path(f"{entry}{_SEAL}")
                if not mark.exists() or mark.stat().st_mtime_ns < entry.stat().st_mtime_ns:
                    aside = mark.with_suffix(f".{os.getpid()}")
                    aside.write_text(_checksum(entry))
                    aside.replace(mark)


def clear() -> None:
    """Deletes the programs of this folder: TensorFlow failed over one, or had no room."""
    with contextlib.suppress(OSError):
        for entry in _folder.glob(_ENTRIES) if _folder else []:
            _delete(entry)


def _open(version: str) -> list[str]:
    """Prepares the folder; returns the flags that make TensorFlow use it, none if it may not.

    Raises:
        OSError: it can be neither made nor read.
        RuntimeError: the user has no home directory.
    """
    global _folder
    if os.environ.get(SETTING) == "off":
        return []
    home = _home()
    folder = home / f"tf{version}-{_features()}"
    for part in reversed([folder, *folder.parents]):
        part.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(folder):
        return []
    writable = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _FREE
    for entry in folder.glob(_ENTRIES):
        if not _is_sound(entry):
            _delete(entry)
    _trim(home)
    _folder = folder
    read_only = [] if writable else [f"{_FLAG}read_only=true"]
    # Other devices' code depends on a driver, too, which the folder's name has not.
    return [f"{_FLAG}directory={folder}", f"{_FLAG}device_types=CPU", *read_only]


def _home() -> Path:
    """Returns where the folders are: as set, or in the user's cache directory."""
    if chosen := os.environ.get(SETTING):
        return Path(chosen).expanduser().absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    cache = cache if cache.is_absolute() else Path.home() / ".cache"  # as its specification says
    return cache / "rlzoo" / "compiled"


def _features() -> str:
    """Returns a digest of what compiled code depends on: the processor, and how it is compiled."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        changing = ("cpu MHz", "bogomips", "processor", "apicid", "initial apicid", "core id")
        processor = [line for line in lines if line.partition("\t")[0].strip() not in changing]
    except OSError:
        processor = [platform.machine(), platform.node()]
    cores = str(os.cpu_count())
    settings = [os.environ.get(name, "") for name in _COMPILING]
    return hashlib.sha256("\n".join([*processor, cores, *settings]).encode()).hexdigest()[:12]


def _is_private(folder: Path) -> bool:
    """Tells whether nobody else can write a folder, or put another in its place."""
    own = os.lstat(folder)
    if not stat.S_ISDIR(own.st_mode) or own.st_uid != os.getuid() or own.st_mode & 0o077:
        return False
    for above in map(os.stat, folder.resolve().parents):
        shared = above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX
        if shared or above.st_uid not in (0, os.getuid()):
            return False
    return True


def _is_sound(entry: Path) -> bool:
    """Tells whether an entry is the user's own, and as it was when it was stored."""
    try:
        found = os.lstat(entry)
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
        return ours and Path(f"{entry}{_SEAL}").read_bytes() == _checksum(entry).encode()
    except OSError:
        return False


def _checksum(entry: Path) -> str:
    return f"{zlib.crc32(entry.read_bytes()):08x}"


def _trim(home: Path) -> None:
    """Deletes the oldest programs, of whatever version and processor, beyond the limit."""
    found = []
    for entry in home.glob(f"tf*-*/{_ENTRIES}"):
        with contextlib.suppress(FileNotFoundError):  # another process deleted it
            found.append((entry.stat(), entry))
    room = LIMIT
    for about, entry in sorted(found, key=lambda item: -item[0].st_mtime_ns):
        room -= about.st_size
        if room < 0:
            _delete(entry)


def _delete(entry: Path) -> None:
    entry.unlink(missing_ok=True)
    Path(f"{entry}{_SEAL}").unlink(missing_ok=True)
