"""Learn a kernel from what it does: gradient descent finds the Sobel kernel from photographs and their edges alone.

    pip install "npconv[examples]"
    python examples/learn_a_kernel.py                     # matplotlib's sample photograph
    python examples/learn_a_kernel.py mine.jpg yours.png --output kernels.png

The layer starts from a random 3x3 kernel. Each step compares its responses with those of the Sobel kernel, and moves
the weights against the gradient that `Conv2d.backward` gives. The kernel on its way is drawn into a picture.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import npconv

Array = NDArray[Any]

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=np.float32)
MOMENTUM = 0.9
SHOWN = 8  # kernels in the picture


def photographs(paths: Sequence[Path], longest_side: int) -> list[Array]:
    """Their brightness, (1, 1, height, width), its mean and spread taken off."""
    from npconv.demo import photograph  # needs Pillow and matplotlib

    images = []
    for path in paths or [None]:
        grey = photograph.load(path, longest_side).pixels.mean(axis=0)
        images.append(((grey - grey.mean()) / (grey.std() or 1)).astype(np.float32)[np.newaxis, np.newaxis])
    return images


def learn(images: Sequence[Array], kernel: Array, steps: int, seed: int) -> list[tuple[int, Array, float]]:
    """(step, kernel, mean squared error) before every step and after the last."""
    teacher = npconv.Conv2d.from_weights(kernel[np.newaxis, np.newaxis])
    student = npconv.Conv2d(1, 1, kernel.shape, bias=False, rng=seed)
    answers = [teacher(image) for image in images]
    rate = step_size(images, kernel.shape)
    velocity = np.zeros_like(student.weight)
    history = []
    for step in range(steps + 1):
        gradient, loss = np.zeros_like(student.weight), 0.0
        for image, answer in zip(images, answers, strict=True):
            error = student(image) - answer
            loss += float(np.mean(error**2)) / len(images)
            gradient += student.backward(image, 2 * error / (error.size * len(images)))[1]
        history.append((step, student.weight[0, 0].copy(), loss))
        velocity = MOMENTUM * velocity - rate * gradient
        student.weight = student.weight + velocity
    return history


def step_size(images: Sequence[Array], size: tuple[int, ...]) -> float:
    """As large as the loss allows, a bowl whose steepest curve is known from the windows."""
    curvature = 0.0
    for image in images:
        windows = npconv.unfold(image[0], size)
        curvature += 2 * float(np.linalg.eigvalsh(windows @ windows.T)[-1]) / (windows.shape[1] * len(images))
    return 1 / curvature


def draw(history: Sequence[tuple[int, Array, float]], target: Array, path: Path) -> None:
    """Some of the kernels side by side, the last and the target at the end, and how the error fell."""
    from matplotlib.figure import Figure

    last = len(history) - 1
    chosen = sorted({round((last + 1) ** (i / (SHOWN - 1))) - 1 for i in range(SHOWN)})
    shown = [(f"step {history[i][0]}", history[i][1]) for i in chosen] + [("Sobel", target)]
    figure = Figure(figsize=(1.5 * len(shown), 4.2), layout="constrained")
    axes = figure.subplot_mosaic([[str(i) for i in range(len(shown))], ["loss"] * len(shown)], height_ratios=(1, 1.2))
    limit = float(np.abs(target).max())
    for i, (title, kernel) in enumerate(shown):
        axes[str(i)].imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes[str(i)].set_title(title, fontsize=9)
        axes[str(i)].set_axis_off()
        for (row, column), value in np.ndenumerate(kernel):
            colour = "white" if abs(value) > 0.6 * limit else "black"
            axes[str(i)].text(
                column, row, f"{round(float(value), 1) + 0.0:.1f}", ha="center", va="center", fontsize=8, color=colour
            )
    axes["loss"].semilogy([step for step, _, _ in history], [max(loss, 1e-16) for _, _, loss in history])
    axes["loss"].set_xlabel("step")
    axes["loss"].set_ylabel("mean squared error")
    figure.savefig(path, dpi=120)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="photographs; else matplotlib's sample")
    made.add_argument("--steps", type=int, default=600, metavar="N", help="default: %(default)s")
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the first kernel (default: %(default)s)")
    made.add_argument("--size", type=int, default=128, metavar="PIXELS", help="longest side (default: %(default)s)")
    made.add_argument("-o", "--output", type=Path, default=Path("learnt_kernel.png"), metavar="FILE")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser().parse_args(arguments)
    history = learn(photographs(chosen.images, chosen.size), SOBEL, chosen.steps, chosen.seed)
    _, kernel, loss = history[-1]
    print(f"after {chosen.steps} steps, mean squared error {loss:.2g}, the kernel is")
    print(np.array2string(kernel, precision=3, suppress_small=True))
    print(f"no element of it is further than {np.abs(kernel - SOBEL).max():.2g} from Sobel's")
    draw(history, SOBEL, chosen.output)
    print(f"wrote {chosen.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
