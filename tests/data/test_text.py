"""Texts: what is read, and what is refused."""

import os

import pytest

from rlzoo import data


def test_a_text_is_read_as_it_is(tmp_path):
    path = tmp_path / "verse.txt"
    path.write_bytes("\ufeffÜber\nallen Gipfeln\r\n".encode())
    assert data.load_text(path) == data.load_text(str(path)) == "Über\nallen Gipfeln\r\n"


def test_the_embedded_text_is_long_and_english():
    text = data.embedded_text()
    assert len(text) > 400_000
    assert text.count(" the ") > 3_000
    assert text == data.embedded_text()


def write_sparse(path, size):
    with open(path, "wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "expected a file, found nothing"),
        (lambda path: path.mkdir(), "expected a file, found a folder"),
        (os.mkfifo, "expected a file, found a pipe or device"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b" \n\n"), "only blanks"),
        (lambda path: path.write_bytes(b"caf\xe9 au lait"), "UTF-8 text, found the byte 0xe9 at 3"),
        (lambda path: write_sparse(path, 50_000_001), "at most 50,000,000 bytes"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, make, words):
    path = tmp_path / "text"
    make(path)
    with pytest.raises(ValueError, match=words) as caught:
        data.load_text(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("x" * 5_000, "File name too long"),
        ("ab/" * 2_000, "File name too long"),
        ("a\0b", "embedded null byte"),
        ("/dev/zero", "found a pipe or device"),
        (__file__ + "/x", "found nothing there"),
    ],
)
def test_odd_paths_are_refused_in_one_line(path, words):
    with pytest.raises(ValueError, match=words) as caught:
        data.load_text(path)
    assert path[:100] in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_link_to_itself(tmp_path):
    path = tmp_path / "text"
    path.symlink_to(path)
    with pytest.raises(ValueError, match="cannot be read: Too many levels of symbolic links"):
        data.load_text(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = tmp_path / "text"
    path.write_text("secret")
    path.chmod(0)
    with pytest.raises(ValueError, match="cannot be read: Permission denied"):
        data.load_text(path)
