"""Time series, to learn to predict what comes next."""

import array
import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rlzoo.data.files import open_file, shown
from rlzoo.text import nearest

_MAX_COLUMNS = 10_000
_MAX_VALUES = 5_000_000
_MAX_ROW = 1_000_000  # characters
_TAU, _A, _B, _N = 17, 0.2, 0.1, 10  # the setting that everybody forecasts
_STEPS = 20  # of the solver, in a unit of time
_DISCARDED = 500  # units of time until the start is forgotten


def load_column(path: str | Path, column: str) -> np.ndarray:
    """Reads one column of numbers from a CSV file whose first line names the columns.

    Args:
        path: of a UTF-8 file of at most 200 MB and 5,000,000 rows, with commas between the values.
        column: a name from the first line or, if there is none like it, a number from 0.

    Returns:
        [n] float64, n >= 2, all finite.

    Raises:
        ValueError: there is no such file or column, it is too long, or a value is no finite number.
    """
    rows, path = _rows(path), shown(path)
    _, names = next(rows, (1, []))
    names = [" ".join(name.split()) for name in names]  # messages may hold no line breaks
    index = _index(names, column, path)
    values = array.array("d")  # 8 bytes each; a list takes 32
    for line, row in rows:
        if not row:  # a blank line
            continue
        text = row[index] if index < len(row) else ""
        values.append(_number(text))
        if not math.isfinite(values[-1]):
            found = repr(text if len(text) <= 40 else text[:37] + "...")
            raise ValueError(
                f"{path}, line {line}, column {names[index]!r}: expected a finite number, found "
                f"{found}. Correct or remove that line."
            )
        if len(values) > _MAX_VALUES:
            raise ValueError(f"{path}: expected at most {_MAX_VALUES:,} rows. Take a part of it.")
    if len(values) < 2:
        raise ValueError(f"{path}: expected 2 rows of values or more, found {len(values)}.")
    return np.array(values)


def mackey_glass(length: int, seed: int) -> np.ndarray:
    """Returns the chaotic series of Mackey & Glass, one value for each unit of time.

    dx/dt = a x(t - tau) / (1 + x(t - tau)^n) - b x(t), with tau = 17, a = 0.2, b = 0.1, n = 10.
    Source: Mackey & Glass (1977), Science 197(4300), doi:10.1126/science.267326.

    Args:
        length: number of values, at least 1.
        seed: decides the start, a constant past; what follows at first is left out.

    Returns:
        [length] float64, about 0.2 to 1.4.

    Raises:
        ValueError: a length below 1 or a negative seed.
    """
    if length < 1 or seed < 0:
        raise ValueError(
            f"Expected length >= 1 and seed >= 0, received length={length} and seed={seed}."
        )
    start = np.random.default_rng(seed).uniform(1.1, 1.3)  # 1 would be a fixed point
    return _solve(start, _DISCARDED + length)[_DISCARDED:]


def _solve(start: float, length: int) -> np.ndarray:
    """Returns x(1), x(2), ... x(length), where x(t) = `start` for t <= 0.

    During one delay the feedback g(t) = a x(t - tau) / (1 + x(t - tau)^n) is known, and what is
    left, dx/dt = g(t) - b x(t), is linear: a step h gives x(t + h) = decay x(t) + input, exactly
    where g is a straight line in between. A whole delay is so one sum.
    """
    delay, h = _TAU * _STEPS, 1 / _STEPS
    decay = math.exp(-_B * h)
    later = (1 - (1 - decay) / (_B * h)) / _B  # weight of g(t + h), that of g(t) is the rest
    earlier = (1 - decay) / _B - later
    powers = decay ** np.arange(1, delay + 1)
    blocks = [np.full(delay + 1, start)]  # each with the last value of the one before
    for _ in range(math.ceil(length / _TAU)):
        past = blocks[-1]
        g = _A * past / (1 + past**_N)
        added = earlier * g[:-1] + later * g[1:]
        x = powers * (past[-1] + np.cumsum(added / powers))
        blocks.append(np.concatenate([past[-1:], x]))
    series = np.concatenate([block[1:] for block in blocks[1:]])
    return series[_STEPS - 1 :: _STEPS][:length]


def _rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows of a CSV file, each with the number of its (last) line, from 1."""
    room = _MAX_ROW  # for the rest of a row, which may go over several lines

    def lines() -> Iterator[str]:
        nonlocal room
        while line := text.readline(room + 1):
            room -= len(line)
            if room < 0:
                raise ValueError(
                    f"{shown(path)}, line {reader.line_num + 1}: expected a row of at most "
                    f"{_MAX_ROW:,} characters."
                )
            yield line

    with io.TextIOWrapper(open_file(path), "utf-8-sig", newline="") as text:
        reader = csv.reader(lines())
        try:
            for row in reader:
                yield reader.line_num, row
                room = _MAX_ROW
        except csv.Error as error:
            line = reader.line_num
            raise ValueError(f"{shown(path)}, line {line}: no CSV ({error}).") from None
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{shown(path)}, after line {reader.line_num}: expected UTF-8 text, found the byte "
                f"0x{error.object[error.start]:02x}. Save it as UTF-8."
            ) from None
        except OSError as error:
            raise ValueError(f"{shown(path)} cannot be read: {error.strerror}.") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _index(names: list[str], column: str, path: str | Path) -> int:
    if len(names) > _MAX_COLUMNS:
        raise ValueError(
            f"{path}: expected at most {_MAX_COLUMNS:,} columns, found {len(names):,}."
        )
    if names.count(column) > 1:
        raise ValueError(
            f"{path} has {names.count(column)} columns {column!r}. Give the number of one, from 0."
        )
    if column in names:
        return names.index(column)
    numbers = [str(i) for i in range(len(names))]
    if column in numbers:
        return numbers.index(column)
    raise ValueError(f"{path} has no column {column!r}. {nearest(column, names)}")
