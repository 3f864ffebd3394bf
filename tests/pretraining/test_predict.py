"""What images show: pictures of any kind, read as MNIST shows digits."""

import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

import rlzoo
from rlzoo.data import embedded_digits
from rlzoo.pretraining.predict import predict_images, read_image
from tests.damage import damaged

SHAPE = (28, 28)


def drawn(size=(200, 150), paper="white", ink="black", mode="RGB", at=(40, 30)) -> Image.Image:
    """Returns a picture of something like a 7, 50 x 80 pixels, away from the middle."""
    image = Image.new("RGB", size, paper)
    x, y = at
    lines = [(x, y), (x + 50, y), (x + 20, y + 80)]
    ImageDraw.Draw(image).line(lines, fill=ink, width=9, joint="curve")
    return image.convert(mode)


def read(image: Image.Image, folder, name="picture.png", **options) -> np.ndarray:
    image.save(folder / name, **options)
    return read_image(folder / name, SHAPE)


def centre_of_mass(image: np.ndarray) -> np.ndarray:
    mass = image.astype(float)
    return np.array([(mass.sum(1 - axis) * np.arange(28)).sum() / mass.sum() for axis in (0, 1)])


def check_like_mnist(image: np.ndarray) -> None:
    """Checks that ink is light on black, fits 20 x 20 pixels and lies in the middle."""
    assert image.shape == SHAPE and image.dtype == np.uint8
    assert image.max() == 255 and np.median(image) == 0
    rows, columns = np.nonzero(image)
    sides = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(sides) in (19, 20, 21)
    assert np.abs(centre_of_mass(image) - 14).max() <= 0.75


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA"])
def test_every_kind_of_picture_reads_the_same(mode, tmp_path):
    image = read(drawn(mode=mode), tmp_path)
    check_like_mnist(image)
    expected = read(drawn(), tmp_path).astype(int)
    assert np.abs(image - expected).mean() < 2


@pytest.mark.parametrize(
    ("paper", "ink"),
    [("white", "black"), ("black", "white"), ("#dddddd", "#333399"), ("#202060", "#ffee88")],
)
def test_dark_on_light_and_light_on_dark(paper, ink, tmp_path):
    image = read(drawn(paper=paper, ink=ink), tmp_path)
    check_like_mnist(image)
    assert np.abs(image.astype(int) - read(drawn(), tmp_path)).mean() < 2


@pytest.mark.parametrize("size", [(60, 90), (29, 28), (400, 300), (1600, 1200)])
def test_size_and_place_do_not_matter(size, tmp_path):
    image = drawn(at=(75, 35)).resize(size, Image.Resampling.BOX)
    check_like_mnist(read(image, tmp_path))


@pytest.mark.parametrize("kind", ["jpg", "gif", "bmp", "webp", "tiff"])
def test_other_formats(kind, tmp_path):
    image = read(drawn(), tmp_path, f"picture.{kind}")
    assert np.abs(image.astype(int) - read(drawn(), tmp_path)).mean() < 4
    assert np.abs(centre_of_mass(image) - 14).max() <= 0.75


def test_what_is_transparent_is_paper(tmp_path):
    image = drawn(mode="RGBA")
    pixels = np.array(image)
    pixels[pixels[..., 0] > 128] = 0  # black, were it not transparent
    check_like_mnist(read(Image.fromarray(pixels), tmp_path))


def test_sixteen_bits(tmp_path):
    """Which Pillow would cut off at 255."""
    grey = np.array(drawn(mode="L")).astype(np.uint16) * 257
    image = read(Image.fromarray(grey), tmp_path)
    assert np.array_equal(image, read(drawn(mode="L"), tmp_path))


def test_a_photograph_is_read_as_it_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned = read(drawn().transpose(Image.Transpose.ROTATE_90), tmp_path, exif=exif)
    assert np.array_equal(turned, read(drawn(), tmp_path))


def test_an_image_of_mnist_is_left_alone(tmp_path):
    for image in embedded_digits()[1].images[:20]:
        assert np.array_equal(read(Image.fromarray(image), tmp_path), image)
        assert np.array_equal(read(Image.fromarray(255 - image), tmp_path), image)


def test_faint_ink_on_a_small_picture_is_made_darker(tmp_path):
    image = embedded_digits()[1].images[0]
    found = read(Image.fromarray(image // 4), tmp_path)
    assert found.max() == 255 and np.abs(found.astype(int) - image).max() <= 5


def test_digits_enlarged_inverted_and_shifted_come_back(tmp_path):
    """Cut out and scaled to fit, they lie on themselves again."""
    likeness = []
    for i, image in enumerate(embedded_digits()[1].images[:100]):
        canvas = np.full((150, 170), 255, np.uint8)
        large = np.kron(255 - image, np.ones((4, 4), np.uint8))
        shift = 7 * (i % 4), 9 * (i % 6)
        canvas[shift[0] : shift[0] + 112, shift[1] : shift[1] + 112] = large
        found = read(Image.fromarray(canvas), tmp_path).astype(float).ravel()
        likeness.append(np.corrcoef(found, image.astype(float).ravel())[0, 1])
    assert np.mean(likeness) > 0.99 and np.percentile(likeness, 5) > 0.98


def test_the_centre_is_where_mnist_has_it():
    centres = np.array([centre_of_mass(image) for image in embedded_digits()[0].images[:500]])
    assert np.abs(centres.mean(0) - 14).max() < 0.05 and np.abs(centres - 14).max() < 0.75


# --- answers ---


def test_a_run_tells_what_pictures_show(digits_run, tmp_path):
    images = embedded_digits()[1].images[:2]
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file)
    found = predict_images(digits_run.dir, files)
    logits = digits_run.model({"obs": images}).numpy()
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    for answer, file, row in zip(found, files, odds / odds.sum(-1, keepdims=True), strict=True):
        assert answer["file"] == str(file)
        assert list(answer["probabilities"]) == list("0123456789")
        np.testing.assert_allclose(list(answer["probabilities"].values()), row, atol=1e-5)
        assert answer["class"] == str(row.argmax())
        assert answer["probability"] == max(answer["probabilities"].values())


def test_a_network_that_reads_row_by_row(digits, tmp_path):
    torso = {"name": "gru", "units": 3, "encoder": [4]}
    run = rlzoo.pretrain(
        "mnist", data=str(digits), torso=torso, epochs=1, run_dir=tmp_path / "run", quiet=True
    )
    image = embedded_digits()[1].images[0]
    Image.fromarray(image).save(tmp_path / "digit.png")
    found = predict_images(run.dir, [tmp_path / "digit.png"])[0]
    logits = run.model({"obs": image[None]}).numpy()[0]
    odds = np.exp(logits - logits.max())
    np.testing.assert_allclose(list(found["probabilities"].values()), odds / odds.sum(), atol=1e-5)


# --- what is no picture ---


def png(width: int, height: int) -> bytes:
    """Returns the beginning of a grey PNG file of a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def truncated(folder) -> bytes:
    drawn(size=(400, 300)).save(folder / "whole.png")
    return (folder / "whole.png").read_bytes()[:-400]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"These are words.", "cannot be read as a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as a picture"),
        (truncated, "cannot be read as a picture .*truncated"),
        (png(10, 10), "cannot be read as a picture"),
        (png(8_000, 8_000), "has 8000 x 8000 pixels; expected at most 50,000,000"),
        (png(2**31 - 1, 2**31 - 1), "has far too many pixels|cannot be read"),
        (png(0, 5), "cannot be read as a picture"),
    ],
    ids=["empty", "text", "script", "truncated", "no pixels", "large", "bomb", "no width"],
)
def test_bad_pictures_are_one_line(content, message, tmp_path):
    file = tmp_path / "bad.png"
    file.write_bytes(content(tmp_path) if callable(content) else content)
    with pytest.raises(ValueError, match=message) as caught:
        read_image(file, SHAPE)
    assert "\n" not in str(caught.value) and "bad.png" in str(caught.value)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "webp", "tiff"])
def test_damage_anywhere_is_one_line_or_harmless(kind, tmp_path):
    file = tmp_path / f"picture.{kind}"
    drawn().save(file)
    good, random = file.read_bytes(), np.random.default_rng(3)
    refused = 0
    for _ in range(60):
        file.write_bytes(damaged(good, random))
        try:
            assert read_image(file, SHAPE).dtype == np.uint8
        except ValueError as error:
            refused += 1
            assert str(file) in str(error) and "\n" not in str(error)
    assert refused > 15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "expected a file, found nothing there"),
        (lambda path: path.mkdir(), "expected a file, found a folder there"),
        (os.mkfifo, "expected a file, found a pipe or device there"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a file, found a pipe or device"),
        (lambda path: (path.touch(), os.truncate(path, 10**12)), "at most 200,000,000 bytes"),
    ],
    ids=["nothing", "folder", "pipe", "device", "huge"],
)
def test_what_is_no_file_is_refused_at_once(make, message, tmp_path):
    make(tmp_path / "picture.png")
    with pytest.raises(ValueError, match=message) as caught:
        read_image(tmp_path / "picture.png", SHAPE)
    assert "\n" not in str(caught.value)


def test_a_blank_sheet(tmp_path):
    for paper in ("white", "black", "#808080"):
        Image.new("RGB", (50, 40), paper).save(tmp_path / "blank.png")
        with pytest.raises(ValueError, match="shows nothing: no pixel stands out"):
            read_image(tmp_path / "blank.png", SHAPE)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_large_picture_is_made_smaller_before_it_takes_memory(kind, tmp_path):
    """5,000 x 4,000 pixels, 80 MB as float32 and 160 MB as float64, of which NumPy sees a part."""
    drawn().resize((5_000, 4_000), Image.Resampling.NEAREST).save(tmp_path / f"large.{kind}")
    tracemalloc.start()
    try:
        image = read_image(tmp_path / f"large.{kind}", SHAPE)
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()
    smaller = read(drawn().resize((2_000, 1_600), Image.Resampling.NEAREST), tmp_path)
    assert np.abs(image.astype(int) - smaller).mean() < 2
    check_like_mnist(image)


def test_a_long_strip_is_read_too(tmp_path):
    strip = np.full((3, 200_000), 255, np.uint8)
    strip[1, 100_000:150_000] = 0
    image = read(Image.fromarray(strip), tmp_path)
    assert image.any() and image.dtype == np.uint8


@pytest.mark.parametrize("kind", ["jpg", "tiff", "png"])
def test_a_large_photograph_is_read_as_it_was_held(kind, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    large = drawn().resize((3_000, 2_250), Image.Resampling.NEAREST)
    turned = read(large.transpose(Image.Transpose.ROTATE_90), tmp_path, f"turned.{kind}", exif=exif)
    assert np.abs(turned.astype(int) - read(large, tmp_path)).mean() < 2


def test_runs_that_tell_no_images_apart(run, tmp_path):
    drawn().save(tmp_path / "picture.png")
    for folder in (run.dir, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="is not the folder of a pretraining run"):
            predict_images(folder, [tmp_path / "picture.png"])
    recall = rlzoo.pretrain(
        "recall", torso="dense", epochs=1, run_dir=tmp_path / "recall", quiet=True,
        overrides={"examples": 8, "delay": 1, "torso.sizes": [4]},
    )  # fmt: skip
    with pytest.raises(ValueError, match="learned 'recall', which tells no images apart"):
        predict_images(recall.dir, [tmp_path / "picture.png"])
