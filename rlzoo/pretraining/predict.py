"""What images show, by a network that a pretraining run has trained to tell."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rlzoo import networks
from rlzoo.config.choices import make_torso
from rlzoo.data.files import open_file, shown
from rlzoo.pretraining.model import connect, named_arrays
from rlzoo.pretraining.run import is_pretraining
from rlzoo.runs import meta as metas
from rlzoo.runs.build import assign
from rlzoo.runs.entry import entry
from rlzoo.spaces import Box, leaf_of
from rlzoo.storage import checkpoint
from rlzoo.storage.files import one_of_seeds, run_path
from rlzoo.text import short

_MAX_PIXELS = 50_000_000  # of a picture; more is refused before it is decoded
_SIDE = 2_048  # pixels; a longer side is made shorter before anything is computed
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
_FAINT = 200  # the darkest ink, of 255, below which all is made darker
_INK = 0.2  # of the darkest ink: what is fainter counts as paper when a digit is cut out
_MARGIN = 4  # pixels around a digit in MNIST, whose centre of mass is at pixel 14 of 0..27


@entry()
def predict_images(run_dir: str | Path, files: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Returns for each file what a classifier of images takes it for.

    Args:
        run_dir: the folder of the pretraining run.
        files: pictures of any size, colour or grey, dark on light or light on dark.

    Returns:
        For each file: `file`, `class`, `probability`, and `probabilities` by class.

    Raises:
        ValueError: the run has no such classifier, or a file is no picture or an empty one.
    """
    model, classes, shape = _load_classifier(run_path(run_dir))
    images = np.stack([read_image(file, shape) for file in files])
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model({"obs": images}), axis=-1))
    return [
        {
            "file": str(file),
            "class": classes[int(row.argmax())],
            "probability": float(row.max()),
            "probabilities": {name: float(p) for name, p in zip(classes, row, strict=True)},
        }
        for file, row in zip(files, probabilities, strict=True)
    ]


def read_image(file: str | Path, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a picture as MNIST shows digits: light on black, in the middle.

    A picture of the right size is only turned light on dark; of any other the ink is cut out,
    scaled to fit and put with its centre of mass in the middle.

    Args:
        file: PNG, JPEG, GIF, BMP, WEBP or TIFF.
        shape: [height, width] wanted.

    Returns:
        [height, width] uint8.
    """
    grey = _decode(Path(file))  # [H, W] float64, 0..255
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(edge))
    ink = grey - paper if paper < 128 else paper - grey
    ink = np.maximum(ink, 0.0)
    if ink.max() < 16:
        raise ValueError(f"{file} shows nothing: no pixel stands out from its edge.")
    if ink.shape != tuple(shape):
        ink = _centred(ink, shape)
    elif ink.max() < _FAINT:
        ink *= 255.0 / ink.max()
    return np.rint(ink).astype(np.uint8)


def _decode(path: Path) -> np.ndarray:
    """Returns [height, width] float32, 0..255, a colour by its brightness; no side over 4,096."""
    from PIL import Image

    with open_file(path) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd bytes, and of many pixels: we look
                with Image.open(file, formats=_FORMATS) as image:
                    width, height = image.size
                    if width * height <= _MAX_PIXELS:
                        return _grey(image)
        except Image.DecompressionBombError:
            raise ValueError(
                f"{shown(path)} has far too many pixels; expected a picture."
            ) from None
        except Exception as error:  # whatever a damaged file makes Pillow raise
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            kinds = ", ".join(_FORMATS)
            raise ValueError(
                f"{shown(path)} cannot be read as a picture ({kinds}): {reason}"
            ) from None
    raise ValueError(
        f"{shown(path)} has {width} x {height} pixels; expected at most {_MAX_PIXELS:,} in all."
    )


def _grey(image: Any) -> np.ndarray:
    from PIL import ExifTags, Image, ImageOps

    image.draft("L", (_SIDE, _SIDE))  # of a JPEG file no more is decoded than is looked at
    image.load()  # turns a TIFF, and no other
    held = image.getexif().get(ExifTags.Base.Orientation, 1)
    sixteen_bits = image.mode.startswith("I")  # which "L" would cut off
    mode = "I" if sixteen_bits else "RGBA" if image.has_transparency_data else "L"
    if image.mode != mode:
        image = image.convert(mode)
    if max(image.size) > _SIDE:
        image = image.reduce(max(image.size) // _SIDE)
    image.getexif()[ExifTags.Base.Orientation] = held
    image = ImageOps.exif_transpose(image)  # as it was held when it was taken
    if sixteen_bits:
        return np.clip(np.asarray(image, np.float32) / 257, 0, 255)
    if image.mode == "RGBA":  # on white paper
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("L"), np.float32)


def _centred(ink: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the ink scaled into the middle of [height, width], float64 0..255."""
    from PIL import Image

    height, width = shape
    rows, columns = np.nonzero(ink > _INK * ink.max())
    digit = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = min((height - 2 * _MARGIN) / digit.shape[0], (width - 2 * _MARGIN) / digit.shape[1])
    size = [max(1, round(side * scale)) for side in digit.shape]
    image = Image.fromarray(digit.astype(np.float32))
    small = np.asarray(image.resize(size[::-1], Image.Resampling.BOX if scale < 1 else None))
    small = np.clip(small, 0.0, None) * (255.0 / max(float(small.max()), 1.0))
    centre = [
        float((small.sum(1 - axis) * np.arange(side)).sum() / small.sum())
        for axis, side in enumerate(small.shape)
    ]
    at = [
        int(np.clip(round(side / 2 - middle), 0, side - length))
        for side, middle, length in zip(shape, centre, small.shape, strict=True)
    ]
    canvas = np.zeros(shape)
    canvas[at[0] : at[0] + small.shape[0], at[1] : at[1] + small.shape[1]] = small
    return canvas


def _load_classifier(run_dir: Path) -> tuple[keras.Model, list[str], tuple[int, ...]]:
    """Returns the model from images to logits, the names of the classes, the images' shape."""
    if not is_pretraining(run_dir):
        raise ValueError(
            f"{run_dir} is not the folder of a pretraining run. Expected one that `rlzoo pretrain "
            f"mnist` has made.{one_of_seeds(run_dir)}"
        )
    arrays, meta, _ = checkpoint.load(run_dir / "checkpoints", best=True, only=("torso/", "head/"))
    seen = leaf_of(metas.obs_space(meta.get("input"), "input"))
    classes = metas.checked_classes(meta.get("classes"))
    if not classes or not isinstance(seen, Box) or not seen.pixels or len(seen.shape) != 2:
        raise ValueError(
            f"The run in {run_dir} learned {short(meta.get('task'))}, which tells no images apart. "
            "Expected a run of `rlzoo pretrain mnist`."
        )
    torso = make_torso(metas.checked_torso(meta.get("torso")))
    head = networks.linear(len(classes), 1.0, None)
    model = connect(seen, torso, head)
    assign(named_arrays(model, torso), arrays)
    return model, classes, seen.shape
