"""Reading a photograph of any kind that Pillow knows as red, green and blue between 0 and 1."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import cbook
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from npconv.demo.errors import DemoError, one_line

SAMPLE = "grace_hopper.jpg"

# Pillow logs about damaged files before it raises, and an unhandled log record goes to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, eq=False)
class Photograph:
    """Pixels of shape (3, height, width), float32 between 0 and 1, and where they come from."""

    name: str
    pixels: NDArray[np.float32]
    description: str


def load(path: str | Path | None = None, longest_side: int = 1024) -> Photograph:
    """Read the file, or matplotlib's sample photograph, upright and at most `longest_side` pixels long."""
    source = _sample() if path is None else Path(path)
    image = _decode(source)
    original = image.size
    image.thumbnail((longest_side, longest_side))
    name = source.name.encode("utf-8", "replace").decode()
    origin = f"{name} (matplotlib's sample photograph)" if path is None else name
    description = f"{origin}, {original[0]}x{original[1]} pixels"
    if image.size != original:
        description += f", shrunk to {image.width}x{image.height}"
    return Photograph(name, _planes(image), description)


def _sample() -> Path:
    path = Path(str(cbook.get_sample_data(SAMPLE, asfileobj=False)))
    if not path.is_file():
        raise DemoError("matplotlib's sample photograph is not installed here: name an image file")
    return path


def _decode(path: Path) -> Image.Image:
    """The upright image in mode RGB, or F (one plane between 0 and 1) where it has more than 8 bits a channel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                return _upright(opened)
    except UnidentifiedImageError as error:
        raise DemoError(f"{path} is not an image that Pillow can read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise DemoError(f"{path} is too large: at most {Image.MAX_IMAGE_PIXELS} pixels") from error
    except FileNotFoundError as error:
        raise DemoError(f"{path}: no such file") from error
    except Exception as error:  # decoders raise whatever they like at damaged files
        reason = (isinstance(error, OSError) and error.strerror) or one_line(error)
        raise DemoError(f"cannot read {path}: {reason}") from error


def _upright(opened: Image.Image) -> Image.Image:
    opened.load()
    image = ImageOps.exif_transpose(opened)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_unit_range(np.asarray(image)))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _unit_range(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Brightness between 0 and 1: 16-bit values by their range, any others from the smallest to the largest."""
    numbers = values.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    numbers = np.nan_to_num(numbers, nan=low, posinf=high, neginf=low)
    return ((numbers - low) / ((high - low) or 1.0)).astype(np.float32)


def _planes(image: Image.Image) -> NDArray[np.float32]:
    values = np.asarray(image)
    if image.mode == "F":
        return np.repeat(values[np.newaxis], 3, axis=0)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0), dtype=np.float32) / np.float32(255)
