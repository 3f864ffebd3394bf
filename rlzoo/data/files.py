"""Reading files that anybody may have written."""

import os
from pathlib import Path

MAX_BYTES = 200_000_000  # of a data file


def read_bytes(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Returns the content of a file.

    Args:
        path: of a regular file: no folder, pipe or device.
        max_bytes: how long it may be.

    Raises:
        ValueError: there is no such file, it cannot be read, or it is empty or too long.
    """
    path = Path(path)
    if not path.is_file():  # also keeps us from waiting for a named pipe
        found = "something else" if path.exists() else "nothing"
        raise ValueError(f"{path}: expected a file, found {found} there. Check the path.")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise ValueError(
                    f"{path}: expected at most {max_bytes:,} bytes, found {size:,}. Take a part."
                )
            content = file.read(size)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    if not content:
        raise ValueError(f"{path} is empty. Download or export it again.")
    return content


def read_text(path: str | Path, max_bytes: int = MAX_BYTES) -> str:
    """Returns the content of a UTF-8 text file; a byte order mark is dropped.

    Raises:
        ValueError: as `read_bytes`, or it is no UTF-8.
    """
    try:
        return read_bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected UTF-8 text, found the byte 0x{error.object[error.start]:02x} at "
            f"{error.start}. Save it as UTF-8."
        ) from None
