"""Data to learn from with supervision: digits, series and texts. NumPy only, read with distrust."""

from rlzoo.data.images import Images, download_digits, embedded_digits, load_digits
from rlzoo.data.series import load_column, mackey_glass
from rlzoo.data.text import embedded_text, load_text

__all__ = [
    "Images",
    "download_digits",
    "embedded_digits",
    "embedded_text",
    "load_column",
    "load_digits",
    "load_text",
    "mackey_glass",
]
