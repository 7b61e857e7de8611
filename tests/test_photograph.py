"""The demonstration reads images of every kind alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason="Pillow is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from PIL import Image

from npconv.demo import photograph


def _noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _load(image: Image.Image, tmp_path: Path, kind: str = "PNG", **how: object) -> photograph.Photograph:
    file = tmp_path / f"picture.{kind.lower()}"
    image.save(file, kind, **how)
    return photograph.load(file)


def test_colour_is_kept(tmp_path: Path) -> None:
    noise = _noise(7, 5)
    photo = _load(noise, tmp_path)
    assert photo.pixels.dtype == np.float32
    assert photo.description == "picture.png, 7x5 pixels"
    np.testing.assert_allclose(photo.pixels, np.moveaxis(np.asarray(noise), -1, 0) / 255, rtol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "PA"])
def test_modes_agree_on_black_and_white(mode: str, tmp_path: Path) -> None:
    corner = np.zeros((8, 8), dtype=np.uint8)
    corner[4:, 4:] = 255
    kind = "TIFF" if mode == "PA" else "PNG"
    photo = _load(Image.fromarray(corner).convert(mode), tmp_path, kind)
    np.testing.assert_array_equal(photo.pixels, np.broadcast_to(corner / np.float32(255), (3, 8, 8)))


def test_transparent_shows_white(tmp_path: Path) -> None:
    assert _load(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), tmp_path).pixels.min() == 1
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert _load(palette, tmp_path, "GIF", transparency=0).pixels.min() == 1


def test_sixteen_bits_a_channel(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    for kind in ["PNG", "TIFF"]:
        pixels = _load(Image.fromarray(ramp), tmp_path, kind).pixels
        np.testing.assert_allclose(pixels, np.broadcast_to(ramp / 65535, (3, 8, 8)), atol=1e-6)


def test_other_ranges_are_stretched(tmp_path: Path) -> None:
    for values in [np.arange(-32, 32, dtype=np.float32), np.arange(-32, 32, dtype=np.int32)]:
        pixels = _load(Image.fromarray(values.reshape(8, 8)), tmp_path, "TIFF").pixels
        np.testing.assert_allclose(pixels[0].ravel(), np.linspace(0, 1, 64), atol=1e-6)
    flat = _load(Image.fromarray(np.full((8, 8), -3, dtype=np.float32)), tmp_path, "TIFF")
    assert not flat.pixels.any()
    odd = np.array([[np.nan, np.inf, -np.inf, 2.0, 4.0]], dtype=np.float32)
    assert _load(Image.fromarray(odd), tmp_path, "TIFF").pixels[0].tolist() == [[0, 1, 0, 0, 1]]


def test_photograph_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    stored = Image.new("RGB", (20, 10), "black")
    stored.paste("white", (0, 0, 10, 10))
    pixels = _load(stored, tmp_path, exif=exif).pixels
    assert pixels.shape == (3, 20, 10)
    assert pixels[:, :10].min() == 1
    assert pixels[:, 10:].max() == 0


def test_large_photograph_is_shrunk(tmp_path: Path) -> None:
    _noise(300, 200).save(tmp_path / "large.png")
    photo = photograph.load(tmp_path / "large.png", 100)
    assert photo.pixels.shape == (3, 67, 100)
    assert photo.description.endswith("300x200 pixels, shrunk to 100x67")
