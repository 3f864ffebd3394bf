"""Series: columns of files, and the Mackey-Glass equation."""

import time
import tracemalloc

import numpy as np
import pytest

from rlzoo import data
from rlzoo.data.series import _solve
from tests.damage import damaged

SUNSPOTS = b'year, "spots" ,note\n1700,5,"a\nb"\n\n1701,1.1e1,\n1702,-16,c\n'


@pytest.fixture
def csv_of(tmp_path):
    def write(content):
        path = tmp_path / "series.csv"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("content", [SUNSPOTS, b"\xef\xbb\xbf" + SUNSPOTS.replace(b"\n", b"\r\n")])
@pytest.mark.parametrize(
    ("column", "values"), [("year", [1700, 1701, 1702]), ("1", [5, 11, -16]), ("spots", None)]
)
def test_a_column_by_name_or_number(csv_of, content, column, values):
    content = content.replace(b' "spots" ', b"spots")
    found = data.load_column(csv_of(content), column)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, values or [5, 11, -16])


def test_a_name_comes_before_a_number(csv_of):
    np.testing.assert_array_equal(data.load_column(csv_of(b"1,0\n2,3\n4,5\n"), "0"), [3, 5])


@pytest.mark.parametrize(
    ("content", "column", "words"),
    [
        (SUNSPOTS, "yaer", r"no column 'yaer'. Did you mean 'year'\? Known: "),
        (SUNSPOTS, "3", "no column '3'.*Known: .*note, .*year"),
        (SUNSPOTS, "9" * 5000, "no column"),
        (SUNSPOTS, "note", "line 3, column 'note': expected a finite number, found 'a.nb'"),
        (b"x,y\n1,2\n3\n", "y", "line 3, column 'y': expected a finite number, found ''"),
        (b"x\n1\nnan\n", "x", "line 3.*'nan'"),
        (b"x\n1\n2\n-inf\n", "x", "line 4.*'-inf'"),
        (b"x\n1\n" + b"z" * 1_000, "x", r"line 3.*found 'z{37}\.\.\.'"),
        (b"x\n1\n", "x", "2 rows of values or more, found 1"),
        (b"x\n", "x", "2 rows of values or more, found 0"),
        (b"x,x\n1,2\n3,4\n", "x", "2 columns 'x'. Give the number"),
        (b"x\n1\n2\xff\n", "x", "after line 0: expected UTF-8 text, found the byte 0xff"),
        (b"x\n1\n" + b"z" * 200_000, "x", "line 3: no CSV .*field"),
        (b"x\n1\n2," + b"3," * 600_000, "x", "line 3: expected a row of at most 1,000,000"),
        (b'x\n1\n2,"' + b'\n","' * 300_000, "x", r"line \d+: expected a row of at most 1,000,000"),
        (b"," * 20_000, "x", "at most 10,000 columns, found 20,001"),
        (b"", "x", "is empty"),
        (b"\xef\xbb\xbf", "x", "no column 'x'"),
        (b"\n\n", "x", "no column 'x'"),
    ],
)
def test_what_is_no_column_is_refused_in_one_line(csv_of, content, column, words):
    path = csv_of(content)
    with pytest.raises(ValueError, match=words) as caught:
        data.load_column(path, column)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_huge_file_is_refused(tmp_path):
    path = tmp_path / "series.csv"
    with pytest.raises(ValueError, match="found nothing there"):
        data.load_column(path, "x")
    with open(path, "wb") as file:
        file.truncate(200_000_001)
    with pytest.raises(ValueError, match="at most 200,000,000 bytes"):
        data.load_column(path, "x")


def test_damage_anywhere_is_one_line_or_harmless(csv_of):
    good = b"x,y,z\n" + b"".join(b'%d,%.3f,"t"\n' % (i, i / 7) for i in range(100))
    random = np.random.default_rng(2)
    refused = 0
    for _ in range(200):
        path = csv_of(damaged(good, random))
        try:
            data.load_column(path, "y")
        except ValueError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 50


def test_a_long_file_takes_little_memory(csv_of):
    path = csv_of(b"x,y\n" + b"1.25,-3.5\n" * 400_000)
    tracemalloc.start()
    try:
        assert len(data.load_column(path, "y")) == 400_000
        assert tracemalloc.get_traced_memory()[1] < 3 * 8 * 400_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_too_many_rows_are_refused(csv_of):
    path = csv_of(b"x\n" + b"1\n" * 5_000_001)
    with pytest.raises(ValueError, match=r"at most 5,000,000 rows. Take a part of it.$"):
        data.load_column(path, "x")


def euler(start, length, steps=2_000):
    """Returns x(1), x(2), ... of the equation, by the plainest method in tiny steps."""
    x = [start] * (17 * steps + 1)
    for _ in range(length * steps):
        late = x[-1 - 17 * steps]
        x.append(x[-1] + (0.2 * late / (1 + late**10) - 0.1 * x[-1]) / steps)
    return x[17 * steps :: steps][1:]


def test_mackey_glass_solves_its_equation():
    np.testing.assert_allclose(_solve(1.2, 60), euler(1.2, 60), atol=1e-3)


def test_mackey_glass_goes_on_as_it_is_known_to():
    started = time.perf_counter()
    series = data.mackey_glass(10_000, seed=0)
    assert time.perf_counter() - started < 1
    assert series.shape == (10_000,)
    assert 0.2 < series.min() < 0.5
    assert 1.2 < series.max() < 1.4
    assert 0.85 < series.mean() < 1.0
    assert 0.2 < series.std() < 0.3
    spectrum = np.abs(np.fft.rfft(series - series.mean()))
    assert 45 < len(series) / spectrum.argmax() < 55  # its period is about 50


def test_mackey_glass_depends_on_its_seed_only():
    one = data.mackey_glass(500, seed=3)
    np.testing.assert_array_equal(one, data.mackey_glass(600, seed=3)[:500])
    assert np.abs(one - data.mackey_glass(500, seed=4)).max() > 0.1


@pytest.mark.parametrize(("length", "seed"), [(0, 0), (10, -1)])
def test_mackey_glass_refuses_what_makes_no_sense(length, seed):
    with pytest.raises(ValueError, match=f"length={length} and seed={seed}"):
        data.mackey_glass(length, seed)
