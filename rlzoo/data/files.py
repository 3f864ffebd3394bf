"""Reading files that anybody may have written."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 200_000_000  # of a data file


def open_file(path: str | Path, max_bytes: int = MAX_BYTES) -> BinaryIO:
    """Opens a file to read.

    Args:
        path: of a regular file: no folder, pipe or device.
        max_bytes: how long it may be.

    Raises:
        ValueError: there is no such file, it cannot be read, or it is empty or too long.
    """
    name = shown(path)
    try:
        mode = os.stat(path).st_mode  # before it is opened: a pipe waits for its writer
        file = open(path, "rb") if stat.S_ISREG(mode) else None  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{name}: expected a file, found nothing there. Check the path.") from None
    except (OSError, ValueError) as error:  # a zero in the path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{name} cannot be read: {reason}.") from None
    if file is None:
        found = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise ValueError(f"{name}: expected a file, found {found} there. Check the path.")
    size = os.fstat(file.fileno()).st_size
    if 0 < size <= max_bytes:
        return file
    file.close()
    if size:
        raise ValueError(
            f"{name}: expected at most {max_bytes:,} bytes, found {size:,}. Take a part of it, or "
            "the right file."
        )
    raise ValueError(f"{name} is empty. Download or export it again.")


def read_bytes(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Returns the content of a file.

    Raises:
        ValueError: as `open_file`.
    """
    with open_file(path, max_bytes) as file:
        try:
            return file.read(os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise ValueError(f"{shown(path)} cannot be read: {error.strerror}.") from None


def read_text(path: str | Path, max_bytes: int = MAX_BYTES) -> str:
    """Returns the content of a UTF-8 text file; a byte order mark is dropped.

    Raises:
        ValueError: as `open_file`, or it is no UTF-8.
    """
    try:
        return read_bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{shown(path)}: expected UTF-8 text, found the byte 0x{error.object[error.start]:02x} "
            f"at {error.start}. Save it as UTF-8."
        ) from None


def shown(path: str | Path) -> str:
    """Returns a path as a message can show it: not longer than a line or two."""
    text = str(path)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-80:]}"
