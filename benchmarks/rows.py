"""What is timed: layers of known networks and filters, as a table of shapes.

A name reads: network, kernel, channels (in and out, or `in-out`), `@` pixels along each axis. `s2` is stride 2, `d2`
dilation 2, `N16` a batch of 16, `dw` depthwise, `g32` 32 groups. Padding keeps the size unless the row says otherwise.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from typing import Any

import numpy

HD = (1080, 1920)


@dataclass(frozen=True)
class Row:
    """One convolution in torch's terms; tuples have one entry an axis."""

    name: str
    set: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: bool

    @property
    def axes(self) -> int:
        return len(self.stride)

    @property
    def spans(self) -> tuple[int, ...]:
        """Pixels that a dilated kernel covers along each axis."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.weight[2:], strict=True))

    @property
    def output(self) -> tuple[int, ...]:
        pixels = zip(self.input[2:], self.padding, self.spans, self.stride, strict=True)
        return self.input[0], self.weight[0], *((n + 2 * p - span) // s + 1 for n, p, span, s in pixels)

    @property
    def flop(self) -> int:
        """Two for each product of a plain sum, whatever an algorithm really computes."""
        return 2 * math.prod(self.output) * math.prod(self.weight[1:])

    @property
    def settings(self) -> dict[str, Any]:
        """As keyword arguments."""
        return {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}

    def arrays(self, dtype: str) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray | None]:
        """Input, weight and bias, the same in every run."""
        random = numpy.random.default_rng(zlib.crc32(self.name.encode()))
        shapes = self.input, self.weight, self.weight[:1]
        if numpy.dtype(dtype).kind == "f":
            made = [random.standard_normal(shape).astype(dtype) for shape in shapes]
            made[1] /= numpy.asarray(math.sqrt(math.prod(self.weight[1:])), dtype)
        else:  # small enough for sums that float64 holds exactly, large enough to wrap around in uint8
            low = 0 if numpy.dtype(dtype).kind == "u" else -8
            made = [random.integers(low, 16, shape).astype(dtype) for shape in shapes]
        return made[0], made[1], made[2] if self.bias else None


def layer(
    name, channels, size, kernel, *, outputs=None, batch=1, stride=1, padding=None, dilation=1, groups=1, bias=True
):
    """A row in short: `size`, a tuple, gives the axes; None for padding keeps the size at stride 1."""
    axes = len(size)
    kernel, stride, dilation = (_each(value, axes) for value in (kernel, stride, dilation))
    if padding is None:
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    weight = (outputs or channels, channels // groups, *kernel)
    return Row(name, "", (batch, channels, *size), weight, stride, _each(padding, axes), dilation, groups, bias)


def depthwise(name, channels, size, kernel, **settings):
    return layer(name, channels, size, kernel, groups=channels, **settings)


def image_filter(name, size, kernel, **settings):
    """One channel to one channel, no bias: what an image or audio library does."""
    return layer(name, 1, size, kernel, bias=False, **settings)


def _each(value, axes):
    return value if isinstance(value, tuple) else (value,) * axes


# The shapes that the project's goals are stated on.
PEERS = [
    layer("resnet50 3x3 64@56", 64, (56, 56), 3),
    layer("resnet50 3x3 128@28", 128, (28, 28), 3),
    layer("resnet50 3x3 256@14", 256, (14, 14), 3),
    layer("resnet50 3x3 512@7", 512, (7, 7), 3),
    layer("vgg16 3x3 64@224", 64, (224, 224), 3),
    layer("vgg16 3x3 256@56", 256, (56, 56), 3),
    layer("resnet50 3x3 64@56 N16", 64, (56, 56), 3, batch=16),
    layer("deeplab 3x3d2 256@28", 256, (28, 28), 3, dilation=2),
    layer("resnet50 7x7s2 3@224", 3, (224, 224), 7, outputs=64, stride=2),
    layer("resnet50 3x3s2 128@56", 128, (56, 56), 3, stride=2),
    layer("resnet50 1x1s2 256@56", 256, (56, 56), 1, outputs=512, stride=2),
    layer("resnet50 1x1 64-256@56", 64, (56, 56), 1, outputs=256),
    layer("resnet50 1x1 256-64@56", 256, (56, 56), 1, outputs=64),
    layer("resnet50 1x1 512-2048@7", 512, (7, 7), 1, outputs=2048),
    layer("mobilenetv1 1x1 512@14", 512, (14, 14), 1),
    depthwise("mobilenetv1 dw3x3 32@112", 32, (112, 112), 3),
    depthwise("mobilenetv1 dw3x3s2 128@56", 128, (56, 56), 3, stride=2),
    depthwise("mobilenetv2 dw3x3 576@14", 576, (14, 14), 3),
    layer("resnext 3x3 g32 256@28", 256, (28, 28), 3, groups=32),
    image_filter("gray 5x5 1080p", HD, 5),
    layer("rgb-16 3x3 1080p", 3, HD, 3, outputs=16),
    layer("wav 1-64 k400 s160 x16000", 1, (16000,), 400, outputs=64, stride=160, padding=0),
    layer("1d 128 k3 x4096", 128, (4096,), 3),
    layer("c3d 3x3x3 64@16x28", 64, (16, 28, 28), 3),
    image_filter("seed 3x3 1@5", (5, 5), 3, padding=0),
    layer("lenet 5x5 6-16@14 N32", 6, (14, 14), 5, outputs=16, batch=32, padding=0),
]

# Shapes that no algorithm was chosen for: other networks, odd sizes, every kind of kernel.
OTHERS = [
    layer("mobilenetv2 1x1 24-144@56", 24, (56, 56), 1, outputs=144),
    layer("mobilenetv2 1x1 960-160@7", 960, (7, 7), 1, outputs=160),
    depthwise("mobilenetv2 dw3x3s2 144@56", 144, (56, 56), 3, stride=2),
    layer("mobilenetv3 3x3s2 3-16@224", 3, (224, 224), 3, outputs=16, stride=2),
    depthwise("mobilenetv3 dw5x5s2 72@56", 72, (56, 56), 5, stride=2),
    depthwise("mobilenetv2 dw3x3s2 96@112 N8", 96, (112, 112), 3, stride=2, batch=8),
    depthwise("efficientnet dw5x5 672@14", 672, (14, 14), 5),
    depthwise("efficientnet dw5x5 240@28 N16", 240, (28, 28), 5, batch=16),
    layer("efficientnet 1x1 672-28@1", 672, (1, 1), 1, outputs=28),
    depthwise("convnext dw7x7 96@56", 96, (56, 56), 7),
    layer("convnext 4x4s4 3-96@224", 3, (224, 224), 4, outputs=96, stride=4, padding=0),
    layer("vit 16x16s16 3-768@224", 3, (224, 224), 16, outputs=768, stride=16, padding=0),
    depthwise("replknet dw31x31 128@28", 128, (28, 28), 31),
    layer("unet 3x3 64@139x141", 64, (139, 141), 3, padding=0),
    layer("unet 3x3 256-128@53", 256, (53, 53), 3, outputs=128),
    layer("squeezenet 1x1 128-16@55", 128, (55, 55), 1, outputs=16),
    layer("squeezenet 3x3 16-64@55", 16, (55, 55), 3, outputs=64),
    layer("yolo 3x3s2 32-64@160", 32, (160, 160), 3, outputs=64, stride=2),
    layer("yolo 3x3 128@40 N4", 128, (40, 40), 3, batch=4),
    layer("alexnet 11x11s4 3-96@227", 3, (227, 227), 11, outputs=96, stride=4, padding=0),
    layer("alexnet 5x5 g2 96-256@27", 96, (27, 27), 5, outputs=256, groups=2),
    layer("inception 1x7 192@17", 192, (17, 17), (1, 7)),
    layer("inception 7x1 160-192@17", 160, (17, 17), (7, 1), outputs=192),
    layer("deeplab 3x3d12 256@33", 256, (33, 33), 3, dilation=12),
    layer("shufflenet 1x1 g3 240@28", 240, (28, 28), 1, groups=3),
    layer("resnext 3x3 g32 128@56", 128, (56, 56), 3, groups=32),
    layer("regnet 3x3s2 g8 64@56 N2", 64, (56, 56), 3, groups=8, stride=2, batch=2),
    layer("pairs 3x3 g64 128@28", 128, (28, 28), 3, groups=64),
    layer("cifar 3x3 32@32 N8", 32, (32, 32), 3, batch=8),
    layer("odd 3x3 17-23@37x53", 17, (37, 53), 3, outputs=23),
    layer("odd 5x3s2x1 19-31@61x45 N3", 19, (61, 45), (5, 3), outputs=31, stride=(2, 1), batch=3),
    layer("style 9x9 3-32@256", 3, (256, 256), 9, outputs=32),
    layer("espcn 3x3 32-4@270x480", 32, (270, 480), 3, outputs=4),
    layer("ocr 3x3 64-128@16x400", 64, (16, 400), 3, outputs=128),
    layer("ocr 2x2 512@2x101", 512, (2, 101), 2, padding=0),
    image_filter("gray 31x31 512", (512, 512), 31),
    image_filter("gray 15x15 720p", (720, 1280), 15),
    image_filter("gray 1x31 1080p", HD, (1, 31)),
    image_filter("gray 3x3 37x53", (37, 53), 3),
    image_filter("fir k1023 x48000", (48000,), 1023),
    image_filter("reverb k16384 x80000", (80000,), 16384, padding=0),
    layer("wavenet k2d256 64-128 x8000", 64, (8000,), 2, outputs=128, dilation=256, padding=0),
    layer("whisper k3 80-384 x3000", 80, (3000,), 3, outputs=384),
    layer("whisper k3s2 384 x3000", 384, (3000,), 3, stride=2),
    layer("silero k3 129-128 x25 N4", 129, (25,), 3, outputs=128, batch=4),
    layer("wav2vec k10s5 1-512 x16000", 1, (16000,), 10, outputs=512, stride=5, padding=0),
    layer("wav2vec k128 g16 768 x49", 768, (49,), 128, groups=16, padding=64),
    depthwise("conformer dw k31 256 x500", 256, (500,), 31),
    layer("medical 3x3x3 16@24x48x48", 16, (24, 48, 48), 3),
    layer("medical 3x3x3 1-16@24x48x48", 1, (24, 48, 48), 3, outputs=16),
    depthwise("movinet dw1x3x3 80@8x40x40", 80, (8, 40, 40), (1, 3, 3)),
    depthwise("movinet dw1x5x5s1x2x2 184@8x20x20", 184, (8, 20, 20), (1, 5, 5), stride=(1, 2, 2)),
    layer("r2plus1d 3x1x1 144-64@8x28x28", 144, (8, 28, 28), (3, 1, 1), outputs=64),
    depthwise("x3d dw3x3x3 54@8x28x28", 54, (8, 28, 28), 3),
]

SETS = {"peers": PEERS, "others": OTHERS}


def choose(which: str = "all", pattern: str = "") -> list[Row]:
    """The rows of a set, or of all sets, whose name the regular expression finds a place in."""
    rows = []
    for name, members in SETS.items():
        if which in ("all", name):
            rows += [Row(**{**vars(row), "set": name}) for row in members if re.search(pattern, row.name)]
    return rows
