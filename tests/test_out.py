"""`out=`: any writeable view, overlapping anything, nothing else written, and returned as passed."""

import numpy
import oracle
import pytest
import shapes
from engines import ENGINES, difference

import npconv

pytestmark = pytest.mark.usefixtures("plain_sums")

SENTINEL = 0xA5


class Target:
    """A view to write to, and the whole memory that it is part of."""

    def __init__(self, name, shape, dtype):
        self.memory, self.view = getattr(self, name)(tuple(shape), numpy.dtype(dtype))
        assert self.view.shape == tuple(shape)
        assert self.view.dtype == dtype

    def surroundings_untouched(self):
        """Overwrites the view with the sentinel: then all the memory must hold it."""
        value = numpy.full(self.view.itemsize, SENTINEL, numpy.uint8).view(self.view.dtype)
        self.view[...] = value[0]
        return bool((self.memory == SENTINEL).all())

    @staticmethod
    def fresh(shape, dtype):
        memory = numpy.full(int(numpy.prod(shape)) * dtype.itemsize, SENTINEL, numpy.uint8)
        return memory, memory.view(dtype).reshape(shape)

    def plain(self, shape, dtype):
        return self.fresh(shape, dtype)

    def middle(self, shape, dtype):
        memory, base = self.fresh([n + 4 for n in shape], dtype)
        return memory, base[tuple(slice(2, n + 2) for n in shape)]

    def every_third(self, shape, dtype):
        memory, base = self.fresh([3 * n + 2 for n in shape], dtype)
        return memory, base[tuple(slice(1, 3 * n + 1, 3) for n in shape)]

    def backwards(self, shape, dtype):
        memory, base = self.middle(shape, dtype)
        return memory, base[(slice(None, None, -1),) * len(shape)]

    def transposed(self, shape, dtype):
        memory, base = self.middle(shape[::-1], dtype)
        return memory, base.T

    def channels_innermost(self, shape, dtype):
        memory, base = self.middle((shape[0], *shape[2:], shape[1]), dtype)
        return memory, numpy.moveaxis(base, -1, 1)

    def batch_innermost(self, shape, dtype):
        memory, base = self.every_third((*shape[1:], shape[0]), dtype)
        return memory, numpy.moveaxis(base, -1, 0)

    def unaligned(self, shape, dtype):
        size = int(numpy.prod(shape)) * dtype.itemsize
        memory = numpy.full(size + 16, SENTINEL, numpy.uint8)
        return memory, memory[1 : size + 1].view(dtype).reshape(shape)

    def record_field(self, shape, dtype):
        record = numpy.dtype([("tag", "u1"), ("value", dtype), ("more", "u2")])
        memory, base = self.fresh(shape, record)
        return memory, base["value"]


TARGETS = [
    name for name in vars(Target) if not name.startswith("_") and name not in ("fresh", "surroundings_untouched")
]


@pytest.mark.parametrize("target", TARGETS)
def test_every_view_is_written_and_nothing_else(engine, target):
    for index, case in enumerate(shapes.VARIED):
        for dtype in ("f", "dlbFe"[index % 5]):
            data = shapes.shared_data(case, dtype)
            out = Target(target, data.expected.shape, dtype)
            done = engine.conv(data.arrays, case.arguments(), num_threads=index % 3 + 1, out=out.view)
            if done is None:
                continue
            assert done[1] is out.view
            assert not difference(case, data, *done), (str(case), dtype)
            assert out.surroundings_untouched(), (str(case), dtype)


@pytest.mark.parametrize("target", TARGETS)
def test_channels_last_and_unbatched(backend, target):
    for case in shapes.VARIED:
        data = shapes.shared_data(case, "f")
        last = {**case.arguments(), "data_format": "channels_last"}
        image, expected = numpy.moveaxis(data.input, 1, -1), numpy.moveaxis(data.expected, 1, -1)
        for input, arguments, right in ((image, last, expected), (image[0], last, expected[0]),
                                        (data.input[0], case.arguments(), data.expected[0])):  # fmt: skip
            out = Target(target, right.shape, "f")
            assert npconv.conv(input, data.weight, data.bias, **arguments, out=out.view) is out.view
            assert not oracle.difference_exact(out.view, right), str(case)
            assert out.surroundings_untouched()


def test_same_bits_as_without_out(engine):
    for case in shapes.VARIED:
        data = shapes.shared_data(case, "f", exact=False)
        plain = engine.conv(data.arrays, case.arguments())
        if plain is None:
            continue
        for target in ("plain", "every_third", "channels_innermost", "unaligned"):
            out = Target(target, data.expected.shape, "f")
            engine.conv(data.arrays, case.arguments(), out=out.view)
            assert out.view.tobytes() == plain[1].tobytes(), (str(case), target)


def values(*shape, dtype="f"):
    return shapes.small_integers(numpy.random.default_rng(len(shape)), shape, dtype)


def test_out_is_the_input(engine):
    weight = values(4, 4, 3, 3)
    for make in (values, lambda *shape: values(*shape[:-1], 2 * shape[-1])[..., ::2]):
        input = make(2, 4, 9, 20)
        expected = oracle.convolve(input, weight, padding=1)
        done = engine.conv((input, weight), {"padding": 1})
        if done and done[0] == "strict":
            again = make(2, 4, 9, 20)
            with engine.options(precision="strict", num_threads=2):
                assert npconv.conv2d(again, weight, padding=1, out=again) is again
            assert not oracle.difference_exact(again, expected)


@pytest.mark.parametrize("shift", [-130, -41, -1, 0, 1, 3, 64, 177])
def test_out_overlaps_the_input(backend, shift):
    memory = values(2000)
    input = memory[200 : 200 + 4 * 9 * 20].reshape(1, 4, 9, 20)
    out = memory[200 + shift : 200 + shift + 4 * 9 * 20].reshape(1, 4, 9, 20)
    weight = values(4, 1, 3, 3)
    expected = oracle.convolve(input, weight, padding=1, groups=4)
    around = memory.copy()
    assert npconv.conv2d(input, weight, padding=1, groups=4, out=out) is out
    assert not oracle.difference_exact(out, expected)
    assert numpy.array_equal(memory[: 200 + shift], around[: 200 + shift])
    assert numpy.array_equal(memory[200 + shift + out.size :], around[200 + shift + out.size :])


def test_out_overlaps_the_input_backwards_and_interleaved(backend):
    memory = values(2, 4, 9, 40)
    weight = values(4, 4, 1, 1)
    cuts = numpy.s_
    for cut_input, cut_out in (
        (cuts[..., ::-1], cuts[...]),
        (cuts[..., ::2], cuts[..., 1::2]),
        (cuts[..., :20], cuts[..., 10:30]),
        (cuts[..., ::2], cuts[..., :20]),
    ):
        work = memory.copy()
        expected = oracle.convolve(work[cut_input], weight)
        npconv.conv2d(work[cut_input], weight, out=work[cut_out])
        assert not oracle.difference_exact(work[cut_out], expected)


def test_out_overlaps_weight_and_bias(backend):
    input, weight = values(3, 3, 5, 5), values(3, 3, 3, 3)
    expected = oracle.convolve(input, weight)
    assert npconv.conv2d(input, weight, out=weight) is weight
    assert not oracle.difference_exact(weight, expected)
    out = values(2, 3, 5, 5)
    weight, bias = values(3, 3, 1, 1), out.reshape(-1)[7:10]
    expected = oracle.convolve(input[:2], weight, bias)
    npconv.conv2d(input[:2], weight, bias, out=out)
    assert not oracle.difference_exact(out, expected)


def test_out_overlaps_an_input_of_another_dtype(backend):
    memory = numpy.zeros(4096, numpy.uint8)
    input = memory[:800].view("i2").reshape(1, 1, 400)
    input[...] = values(1, 1, 400, dtype="i2")
    out = memory[400 : 400 + 8 * 398].view("f8").reshape(1, 1, 398)
    weight = values(1, 1, 3, dtype="f8")
    expected = oracle.convolve(input, weight)
    npconv.conv1d(input, weight, out=out)
    assert not oracle.difference_exact(out, expected)


def test_out_that_overlaps_itself(backend):
    """Each place holds one of the results meant for it, never a mixture, and nothing else is written."""
    input, weight = values(1, 80, 4, 502), values(3, 80, 3, 3)
    memory = numpy.full(600, 77, "f")
    out = numpy.lib.stride_tricks.as_strided(memory[20:], (1, 3, 2, 500), (0, 4, 0, 4), writeable=True)
    assert npconv.conv2d(input, weight, out=out) is out
    assert (memory[:20] == 77).all()
    assert (memory[20 + 500 + 2 :] == 77).all()
    meant = oracle.convolve(input, weight)[0]
    for place in range(502):
        wanted = {meant[k, row, place - k] for k in range(3) for row in range(2) if 0 <= place - k < 500}
        assert memory[20 + place] in wanted


def calls_with_out():
    """Functions of input, weight and out, and what they compute."""
    layer = npconv.Conv2d.from_weights(values(3, 3, 3, 3), values(3), padding=1)
    yield (
        lambda x, w, out: npconv.conv2d(x, w, w[0, 0, 0], padding=1, out=out),
        lambda x, w: oracle.convolve(x, w, w[0, 0, 0], padding=1),
    )
    yield (
        lambda x, w, out: npconv.conv_transpose2d(x, w, padding=1, out=out),
        lambda x, w: oracle.convolve(x, w.swapaxes(0, 1)[..., ::-1, ::-1], padding=1),
    )
    yield (
        lambda x, w, out: npconv.grad.conv2d_input(x.shape, w, x, padding=1, out=out),
        lambda x, w: oracle.convolve(x, w.swapaxes(0, 1)[..., ::-1, ::-1], padding=1),
    )
    yield (
        lambda x, w, out: layer(x, out=out),
        lambda x, w: oracle.convolve(x, layer.weight, layer.bias, padding=1),
    )


@pytest.mark.parametrize(("call", "expected"), list(calls_with_out()))
def test_out_of_calls_like_one_before(backend, call, expected):
    input, weight = values(3, 3, 3, 3), values(3, 3, 3, 3) * 2
    right = expected(input, weight)
    call(input, weight, None)
    for target in TARGETS:
        out = Target(target, right.shape, "f")
        assert call(input, weight, out.view) is out.view
        assert not oracle.difference_exact(out.view, right)
        assert out.surroundings_untouched()
    for name in ("input", "weight"):
        x, w = input.copy(), weight.copy()
        out = x if name == "input" else w
        assert call(x, w, out) is out
        assert not oracle.difference_exact(out, right)
    for first, start, step in ((0, 80, 1), (0, 59, -1), (20, 0, -1), (80, 0, 1)):
        memory = numpy.zeros(161, "f")
        x, out = (memory[i : i + 81][::s].reshape(3, 3, 3, 3) for i, s in ((first, step), (start, 1)))
        x[...] = input
        call(x, weight, out)
        assert not oracle.difference_exact(out, right)
    locked, view = numpy.empty((3, 3, 3, 3), "f"), numpy.empty((3, 3, 3, 4), "f")
    locked.flags.writeable = False
    for error, out in ((ValueError, locked), (ValueError, view), (TypeError, right.astype("f8")), (TypeError, [0.0]),
                       (TypeError, right.astype(">f4"))):  # fmt: skip
        with pytest.raises(error, match="out"):
            call(input, weight, out)


def test_out_with_everything_else(backend):
    case = shapes.Case(
        (2, 3, 9, 17), (5, 3, 3, 3), padding="same", stride=2, padding_mode="symmetric", activation="relu6"
    )
    input, weight = values(*case.input, dtype="i2"), values(*case.weight, dtype="f2")
    expected = oracle.convolve(input, weight, **case.arguments(), dtype="f8")
    out = Target("every_third", expected.shape, "f8")
    assert npconv.conv2d(input, weight, **case.arguments(), dtype="f8", out=out.view) is out.view
    assert not oracle.difference_exact(out.view, expected)
    assert out.surroundings_untouched()


def test_out_of_an_empty_batch(backend):
    out = numpy.empty((0, 5, 4, 4), "f")
    assert npconv.conv2d(numpy.empty((0, 3, 6, 6), "f"), numpy.ones((5, 3, 3, 3), "f"), out=out) is out


def test_a_bad_call_leaves_out_alone(backend):
    out = Target("middle", (1, 5, 4, 4), "f")
    for arguments in ({"groups": 2}, {"stride": 2}, {"padding": -1}, {"bias": numpy.ones(4, "f")}):
        with pytest.raises(ValueError, match="conv2d"):
            npconv.conv2d(numpy.ones((1, 3, 6, 6), "f"), numpy.ones((5, 3, 3, 3), "f"), **arguments, out=out.view)
    assert (out.memory == SENTINEL).all()


STREAMED = [  # images, weights and groups; each result is just larger than 32 MiB
    ((1, 2, 641, 1024), (13, 2, 3, 3), {"padding": 1}),
    ((1, 2, 640, 1040), (13, 2, 3, 3), {"padding": 1, "activation": "relu"}),
    ((1, 13, 642, 1008), (13, 1, 3, 3), {"padding": 1, "groups": 13}),
    ((2, 1, 4100, 1024), (1, 1, 5, 5), {"padding": 2}),
    ((1, 13, 1281, 2048), (13, 1, 2, 3), {"stride": 2, "padding": 1, "groups": 13}),
    ((1, 2, 65, 10, 1024), (13, 2, 2, 1, 3), {"padding": (1, 0, 1)}),
]


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("engine", [e for e in ENGINES if e.algorithm in ("direct", "stencil")], ids=str)
def test_large_results(engine, dtype):
    """Stored past the caches where all rows lie alike in their lines: the same bits, and nothing left out."""
    for image, weight, arguments in STREAMED:
        arrays = values(*image, dtype=dtype), values(*weight, dtype=dtype)
        done = engine.conv(arrays, arguments)
        if done is None:
            continue
        expected, size = done[1], done[1].size
        assert expected.nbytes > 32 << 20
        wider = numpy.empty((*expected.shape[:-1], expected.shape[-1] + 1), dtype)
        unlike = wider[..., :-1]
        engine.conv(arrays, arguments, num_threads=2, out=unlike)
        assert numpy.array_equal(unlike, expected), arguments
        memory = numpy.empty(size + 128 // expected.itemsize, dtype)
        start = -memory.ctypes.data % 64 // expected.itemsize
        for first in (start, start + 1, start + 5):
            memory.fill(numpy.nan)
            out = memory[first : first + size].reshape(expected.shape)
            engine.conv(arrays, arguments, num_threads=2, out=out)
            assert numpy.isnan(memory[:first]).all()
            assert numpy.isnan(memory[first + size :]).all()
            assert numpy.array_equal(out, expected), (arguments, first - start)
