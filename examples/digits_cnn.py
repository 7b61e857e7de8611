"""Train a small network to read digits, from scratch: two convolutions, their gradients, and NumPy.

    pip install "npconv[examples]"
    python examples/digits_cnn.py
    python examples/digits_cnn.py --epochs 30 --seed 1

The data are scikit-learn's 1797 handwritten digits of 8x8 pixels; a fifth of them is held out. The first layer has 3x3
kernels and ReLU, the second a kernel a digit, as large as the image: a dense layer, written as a convolution.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import npconv

Array = NDArray[Any]

KERNELS, BATCH, MOMENTUM = 32, 32, 0.9


class Digits(NamedTuple):
    images: Array  # (N, 1, 8, 8), float32 from 0 to 1
    labels: Array  # (N,)


def load(seed: int, held_out: float = 0.2) -> tuple[Digits, Digits]:
    """Those to learn from and those held out, shuffled."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images = (data.images[order, np.newaxis] / 16).astype(np.float32)
    labels, first = data.target[order], round(held_out * len(order))
    return Digits(images[first:], labels[first:]), Digits(images[:first], labels[:first])


class Network:
    """Two layers, and the momentum of their weights and biases."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.layers = [
            npconv.Conv2d(1, KERNELS, 3, padding=1, activation="relu", rng=rng),
            npconv.Conv2d(KERNELS, 10, 8, rng=rng),
        ]
        self.velocities = [(np.zeros_like(layer.weight), np.zeros(len(layer.weight))) for layer in self.layers]

    def scores(self, images: Array) -> Array:
        """One for every digit: (N, 10)."""
        for layer in self.layers:
            images = layer(images)
        return images[:, :, 0, 0]

    def train(self, batch: Digits, rate: float) -> float:
        """One step of gradient descent; the cross-entropy before it."""
        features = self.layers[0](batch.images)
        scores = self.layers[1](features)
        probabilities = softmax(scores)
        right = probabilities[np.arange(len(batch.labels)), batch.labels, 0, 0]
        gradient = probabilities
        gradient[np.arange(len(batch.labels)), batch.labels] -= 1
        gradient /= len(batch.labels)
        for number, x in ((1, features), (0, batch.images)):
            gradient, of_weight, of_bias = self.layers[number].backward(x, gradient)
            self._move(number, of_weight, of_bias, rate)
        return float(-np.log(np.maximum(right, 1e-12)).mean())

    def _move(self, number: int, of_weight: Array, of_bias: Array, rate: float) -> None:
        layer, (weight, bias) = self.layers[number], self.velocities[number]
        self.velocities[number] = weight, bias = MOMENTUM * weight - rate * of_weight, MOMENTUM * bias - rate * of_bias
        layer.weight, layer.bias = layer.weight + weight, layer.bias + bias


def moved(images: Array, rng: np.random.Generator) -> Array:
    """Each by up to a pixel along both axes: more digits to learn from."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    rows, columns = rng.integers(0, 3, (2, len(images)))
    return np.ascontiguousarray(windows[np.arange(len(images)), :, rows, columns])


def softmax(scores: Array) -> Array:
    exponentials: Array = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def accuracy(network: Network, digits: Digits) -> float:
    return float(np.mean(network.scores(digits.images).argmax(axis=1) == digits.labels))


def train(network: Network, digits: Digits, epochs: int, rate: float, seed: int, quiet: bool = False) -> None:
    """All digits once an epoch, in a new order; the rate falls to zero along a cosine."""
    from tqdm import tqdm

    rng, batches = np.random.default_rng(seed), len(digits.labels) // BATCH
    with tqdm(total=epochs * batches, unit="batch", disable=quiet) as bar:
        for epoch in range(epochs):
            order = rng.permutation(len(digits.labels))
            for number in range(batches):
                part = order[number * BATCH : (number + 1) * BATCH]
                done = (epoch * batches + number) / (epochs * batches)
                batch = Digits(moved(digits.images[part], rng), digits.labels[part])
                loss = network.train(batch, rate * (1 + np.cos(np.pi * done)) / 2)
                bar.set_postfix(epoch=epoch + 1, loss=f"{loss:.4f}", refresh=False)
                bar.update()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument("--epochs", type=int, default=30, metavar="N", help="default: %(default)s")
    made.add_argument("--rate", type=float, default=0.1, metavar="R", help="of learning (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn (default: %(default)s)")
    made.add_argument("--quiet", action="store_true", help="no progress bar")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    learning, held_out = load(chosen.seed)
    network = Network(chosen.seed)
    train(network, learning, chosen.epochs, chosen.rate, chosen.seed, chosen.quiet)
    print(f"{accuracy(network, learning):.2%} of the {len(learning.labels)} digits that it learnt from are read right")
    print(f"{accuracy(network, held_out):.2%} of the {len(held_out.labels)} that were held out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
