"""Texts, to learn to predict the next character."""

from pathlib import Path

from rlzoo.data.files import read_text

_MAX_BYTES = 50_000_000


def load_text(path: str | Path) -> str:
    """Returns the content of a UTF-8 text file of at most 50 MB.

    Raises:
        ValueError: there is no such file, or it is empty, too long or no UTF-8.
    """
    text = read_text(path, _MAX_BYTES)
    if not text.strip():
        raise ValueError(f"{path} holds only blanks. Give a file with text in it.")
    return text


def embedded_text() -> str:
    """Returns the language reference that ships with this Python, more than 400,000 characters.

    It differs a little from one version of Python to the next.
    """
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))
