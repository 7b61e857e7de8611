"""`python -m npconv`: the exact worked example, a contact sheet that shows something, one line for every mishap."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import npconv
from npconv.__main__ import main
from npconv.demo import filters, timing, worked_example

try:
    from PIL import Image

    from npconv.demo import contact_sheet
except ImportError:
    WITHOUT_PICTURES: str = "Pillow and matplotlib are not installed"
else:
    WITHOUT_PICTURES = ""

pictures = pytest.mark.skipif(bool(WITHOUT_PICTURES), reason=WITHOUT_PICTURES or "installed")

WORKED = """\
   input       kernel
   1 2 0 3 1   1 2 1
   0 1 2 3 1   0 1 0
   1 2 1 0 0   2 1 0
   5 2 3 1 1
   2 1 0 1 1

   The kernel lies on the first 3x3 window of the input; each pair is multiplied, the products are added up:

   window   kernel   products
   1 2 0    1 2 1    1 4 0
   0 1 2  x 0 1 0  = 0 1 0     sum 10
   1 2 1    2 1 0    2 2 0

   Then it slides on. Every position gives one number; reshaped to four axes, one call gives them all:

   stride 1   stride 2   stride 1, padding 1
   10 12 12   10 12       1  3  4 10  8
   18 16 16   13  3       5 10 12 12  6
   13  9  3               7 18 16 16  8
                         11 13  9  3  4
                         14 13  9  7  4
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "sheet.png"


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the demo on something that cannot be done: status 2, and one line on stderr, which is returned."""
    assert main(["demo", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("npconv demo: ")
    assert printed.err.count("\n") == 1
    assert WORKED in printed.out
    return printed.err


# Worked example


def test_worked_example_is_printed_to_the_letter() -> None:
    assert worked_example.text() == WORKED


@pytest.mark.parametrize(
    ("stride", "padding", "expected"),
    [
        (1, 0, [[10, 12, 12], [18, 16, 16], [13, 9, 3]]),
        (2, 0, [[10, 12], [13, 3]]),
        (
            1,
            1,
            [[1, 3, 4, 10, 8], [5, 10, 12, 12, 6], [7, 18, 16, 16, 8], [11, 13, 9, 3, 4], [14, 13, 9, 7, 4]],
        ),
    ],
)
def test_worked_example_is_exact(stride: int, padding: int, expected: list[list[int]]) -> None:
    result = worked_example.convolve(stride, padding)
    assert result.dtype == np.int64
    assert result.tolist() == expected


# Filters


def test_filters_keep_their_promises() -> None:
    bank = filters.filter_bank()
    assert len({each.name for each in bank}) == len(bank)
    for each in bank:
        assert each.kernel.shape == (filters.FILTER_SIZE, filters.FILTER_SIZE)
        assert each.kernel.sum() == pytest.approx(0 if each.signed else 1, abs=1e-12), each.name
        if each.signed:
            assert each.kernel[each.kernel > 0].sum() == pytest.approx(1), each.name


def test_filters_answer_what_they_are_named_for() -> None:
    bank = filters.filter_bank()
    names = [each.name for each in bank]
    image = np.zeros((3, 40, 40), dtype=np.float32)
    image[:, 20:, 20:] = 1
    answers = dict(zip(names, npconv.conv2d(image, filters.filter_weight(bank), padding="same"), strict=True))
    strongest = np.unravel_index(answers["corner, top left"][9:31, 9:31].argmax(), (22, 22))
    assert strongest == (20 - 9, 20 - 9)
    assert answers["Sobel x"][30, 20] == pytest.approx(1, abs=1e-6)
    assert answers["Sobel x"][20:22, 30].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert answers["Sobel y"][20, 30] == pytest.approx(1, abs=1e-6)
    cross = np.abs(answers["corner, cross derivative"])
    assert cross[20, 20] > 0.1 > 1e-6 > max(cross[32, 20], cross[20, 32])

    stripes = np.tile(0.5 + 0.5 * np.cos(np.arange(40) * 2 * np.pi / 5), (3, 40, 1)).astype(np.float32)
    waves = npconv.conv2d(stripes, filters.filter_weight(bank))
    gabor = {name: float(np.abs(waves[names.index(name)]).max()) for name in names if name.startswith("Gabor")}
    assert max(gabor, key=gabor.__getitem__) == "Gabor texture, 0°"


# The whole demonstration


@pictures
@pytest.mark.parametrize("backend", [None, "numpy"])
def test_sample_photograph(backend: str | None, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with npconv.options(backend=backend):
        chosen = npconv.show_config("dicts")["backend"]
        assert main(["demo", "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert WORKED in printed.out
    assert "grace_hopper.jpg (matplotlib's sample photograph), 512x600 pixels\n" in printed.out
    assert (
        'input (1, 3, 600, 512), weight (19, 3, 9, 9), stride 2, padding "same" -> '
        "feature maps (1, 19, 300, 256)\n" in printed.out
    )
    last = printed.out.splitlines()[-1]
    assert last.startswith("3. ")
    assert "thread" in last
    assert " ms a call" in last
    if chosen == "numpy":
        assert last.startswith("3. NumPy backend (")
    else:
        assert last.startswith("3. compiled backend, algorithm ")
        assert "; NumPy fallback " in last
    _assert_shows_something(output)


def _assert_shows_something(output: Path) -> None:
    with Image.open(output) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width >= 900
        assert sheet.height >= 300
        pixels = np.asarray(sheet.convert("RGB"), dtype=np.int16)
    red, blue = pixels[..., 0] - pixels[..., 2] > 60, pixels[..., 2] - pixels[..., 0] > 60
    assert min(red.mean(), blue.mean()) > 0.005, "both signs have their colour"
    assert pixels.std() > 30


@pictures
def test_subprocess(output: Path) -> None:
    command = [sys.executable, "-m", "npconv", "demo", "--stride", "3", "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert WORKED in done.stdout
    assert "feature maps (1, 19, 200, 171)" in done.stdout
    _assert_shows_something(output)


def _environment() -> dict[str, str]:
    """The environment in which a subprocess finds the npconv under test."""
    return {**os.environ, "PYTHONPATH": str(Path(npconv.__file__).parents[1])}


@pytest.mark.parametrize("command", [["--version"], ["config"], []])
def test_other_commands(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "npconv", *command],
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert npconv.__version__ in done.stdout or done.stdout.startswith("usage: python -m npconv")


def test_closed_pipe_is_no_error() -> None:
    command = f'"{sys.executable}" -m npconv config | true; exit ${{PIPESTATUS[0]}}'
    if sys.platform == "win32":
        pytest.skip("needs a POSIX shell")
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=_environment(), timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("bad", [["--stride", "0"], ["--stride", "x"], ["--size", "-1"], ["a", "b"], ["--what"]])
def test_bad_options(bad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", *bad])
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_without_pillow_or_matplotlib(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for missing in ["PIL", "matplotlib"]:
        monkeypatch.setitem(sys.modules, missing, None)
    for module in ["contact_sheet", "photograph"]:
        monkeypatch.delitem(sys.modules, f"npconv.demo.{module}", raising=False)
        monkeypatch.delattr(npconv.demo, module, raising=False)
    assert 'pip install "npconv[viz]"' in _refused([], capsys)


def test_backend_that_is_not_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(*_: object, **__: object) -> None:
        raise RuntimeError("backend 'compiled' is not available:\n for a reason")

    monkeypatch.setattr(npconv, "conv2d", missing)
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == "npconv demo: backend 'compiled' is not available: for a reason\n"


# The line about speed


def test_report_says_why_numpy() -> None:
    pixels = np.zeros((1, 3, 20, 20), dtype=np.float32)
    weight = filters.filter_weight(filters.filter_bank())
    with npconv.options(backend="numpy"):
        line = timing.report(pixels, weight, 2)
    assert line.startswith("NumPy backend (")
    assert "\n" not in line


# Images that cannot be used, and outputs that cannot be written


@pictures
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an image"),
        (b"just some text\n" * 100, "is not an image"),
        (b"\x89PNG\r\n\x1a\n", "cannot read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(1000), "cannot read"),
        (b"\xff\xd8\xff\xe0" + bytes(1000), "not an image"),
        (b"GIF89a" + bytes(7), "cannot read"),
        (None, "no such file"),
    ],
)
def test_no_image(content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "picture.png"
    if content is not None:
        file.write_bytes(content)
    line = _refused([str(file), "-o", str(tmp_path / "sheet.png")], capsys)
    assert str(file) in line
    assert message in line or "is not an image" in line
    assert not (tmp_path / "sheet.png").exists()


@pictures
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM"])
def test_truncated_image(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _noise(40, 30).save(whole, kind)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    assert str(cut) in _refused([str(cut), "-o", str(tmp_path / "sheet.png")], capsys)


def _noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pictures
def test_folder_is_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot read" in _refused([str(tmp_path)], capsys)


@pictures
def test_huge_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in [10_000, 60_000]:
        file = tmp_path / f"{side}.pgm"
        file.write_bytes(f"P5 {side} {side} 255\n".encode() + bytes(100))
        assert "too large: at most " in _refused([str(file)], capsys)


@pictures
def test_output_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    _noise(20, 20).save(photo)
    content = photo.read_bytes()
    assert "cannot write" in _refused([str(photo), "-o", str(tmp_path)], capsys)
    assert "cannot write" in _refused([str(photo), "-o", str(tmp_path / "nowhere" / "sheet.png")], capsys)
    assert "is the photograph itself" in _refused([str(photo), "-o", str(photo)], capsys)
    assert photo.read_bytes() == content


# Contact sheets


@pictures
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (500, 1), (2, 400), (300, 100)])
def test_any_size_and_name(size: tuple[int, int], output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = output.parent / "odd $name$ \u5199\u771f.png"
    _noise(*size).save(photo)
    assert main(["demo", str(photo), "-o", str(output)]) == 0
    assert capsys.readouterr().err == ""
    with Image.open(output) as sheet:
        assert max(sheet.size) < 6000


@pictures
def test_contact_sheet_shows_each_map_where_it_belongs() -> None:
    bank = filters.filter_bank()[:2]
    grey = np.full((3, 30, 30), 0.5, dtype=np.float32)
    maps = np.stack([np.full((30, 30), 1.0), np.full((30, 30), -1.0)]).astype(np.float32)
    with Image.open(io.BytesIO(contact_sheet.render(grey, maps, bank))) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    warmth = pixels[..., 0] - pixels[..., 2]
    places = [warmth > 60, warmth < -30, (abs(pixels - 128) <= 2).all(axis=-1)]
    (red_y, red_x), (blue_y, blue_x), (grey_y, grey_x) = (np.median(np.nonzero(place), axis=1) for place in places)
    # Three panels make two rows: the photograph and the first map, then the second map below the photograph.
    assert red_x > grey_x + 200
    assert abs(red_y - grey_y) < 20
    assert blue_y > grey_y + 200
    assert abs(blue_x - grey_x) < 20
