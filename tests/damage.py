"""What a bad disk, a bad line or a hasty copy makes of a file."""

import numpy as np


def damaged(good: bytes, random: np.random.Generator) -> bytes:
    """Returns a file in which bits have turned, bytes are lost or come in, or the end is missing.

    Half of it befalls the first or last 200 bytes, where files say what they hold.
    """
    length = int(random.integers(1, 40))
    at = int(random.integers(len(good)))
    if random.random() < 0.5:
        at = int(random.integers(200)) % len(good)
        at = at if random.random() < 0.5 else len(good) - 1 - at
    kind = random.integers(4)
    if kind == 0:
        bad = bytearray(good)
        for i in random.integers(at, at + length, size=3) % len(good):
            bad[i] ^= 1 << int(random.integers(8))
        return bytes(bad)
    if kind == 1:
        return good[:at] + good[at + length :]
    if kind == 2:
        return good[:at]
    return good[:at] + random.bytes(length) + good[at:]
