"""What lies in examples/, shortened."""

import importlib.util
import re
from pathlib import Path

import numpy
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not beside the tests")


def example(name, *needed):
    for package in needed:
        pytest.importorskip(package, reason=f"{package} is not installed")
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_learn_a_kernel(backend, tmp_path, capsys):
    learn = example("learn_a_kernel", "PIL", "matplotlib")
    picture = tmp_path / "kernel.png"
    assert learn.main(["--steps", "150", "--size", "48", "--output", str(picture)]) == 0
    text = capsys.readouterr().out
    assert float(re.search(r"further than (\S+) from Sobel's", text)[1]) < 0.1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_learn_a_kernel_from_given_photographs_and_in_few_steps(tmp_path):
    learn = example("learn_a_kernel", "PIL", "matplotlib")
    from PIL import Image

    noise = numpy.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(numpy.uint8)
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in paths:
        Image.fromarray(noise).save(path)
    kernel = numpy.arange(15, dtype=numpy.float32).reshape(3, 5) / 15  # any other can be learnt as well
    history = learn.learn(learn.photographs(paths, 64), kernel, 120, seed=1)
    assert [step for step, _, _ in history] == list(range(121))
    assert history[-1][2] < 1e-3 * history[0][2]
    assert abs(history[-1][1] - kernel).max() < 0.01
    learn.draw(history[:2], kernel, tmp_path / "short.png")


def test_digits(capsys):
    digits = example("digits_cnn", "sklearn", "tqdm")
    texts = []
    for _ in range(2):
        assert digits.main(["--epochs", "2", "--seed", "3", "--quiet"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    seen, held_out = map(float, re.findall(r"([\d.]+)% of the", texts[0]))
    assert min(seen, held_out) > 70


def test_digits_shows_how_far_it_is(backend, capsys):
    digits = example("digits_cnn", "sklearn", "tqdm")
    learning, held_out = digits.load(0)
    assert len(learning.labels) + len(held_out.labels) == 1797
    few = digits.Digits(learning.images[:64], learning.labels[:64])
    network = digits.Network(0)
    digits.train(network, few, epochs=6, rate=0.05, seed=0)
    assert "12/12" in capsys.readouterr().err
    assert digits.accuracy(network, few) > 0.3
