"""Pictures of worlds made of cells."""

from collections.abc import Sequence

import numpy as np

_PIXELS = 32  # side of a cell in the picture
_COLOURS = {
    ".": (245, 245, 245),
    "#": (70, 70, 70),
    "G": (90, 180, 100),
    "A": (60, 110, 220),
    "o": (220, 110, 60),
}


def draw(grid: Sequence[Sequence[str]], render_mode: str) -> str | np.ndarray:
    """Draws a grid of marks: . nothing, # wall, G goal, A agent, o ball.

    Args:
        grid: rows of marks.
        render_mode: "ansi" or "rgb_array".

    Returns:
        Lines of text, or a picture [rows * 32, columns * 32, 3] uint8.
    """
    if render_mode == "ansi":
        return "\n".join("".join(line) for line in grid) + "\n"
    colours = np.array([[_COLOURS[mark] for mark in line] for line in grid], np.uint8)
    picture = colours.repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1)
    picture[::_PIXELS] = picture[:, ::_PIXELS] = 200  # grid lines
    return picture
