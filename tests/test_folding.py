"""`unfold` and `fold` on both backends, against index arithmetic written a second time."""

import importlib.util
import itertools
import math

import numpy
import oracle
import pytest

import npconv

DTYPES = "?bBhHiIlLefdgFDG"
HAS_TORCH = importlib.util.find_spec("torch") is not None


def pixels_of(size, kernel, dilation, padding, stride):
    """The flat index in the padded image of every tap's and window's pixel, (taps, windows), and that image's size."""
    padded = tuple(n + before + after for n, (before, after) in zip(size, padding, strict=True))
    windows = oracle.output_size(padded, kernel, stride, dilation)
    flat = numpy.arange(math.prod(padded)).reshape(padded)
    rows = []
    for tap in itertools.product(*map(range, kernel)):
        where = zip(tap, windows, dilation, stride, strict=True)
        axes = [t * d + s * numpy.arange(o) for t, o, d, s in where]
        rows.append(flat[numpy.ix_(*axes)].ravel())
    return numpy.array(rows).reshape(len(rows), -1), padded


def expected_unfold(image, kernel, dilation, padding, stride):
    pixels, _ = pixels_of(image.shape[2:], kernel, dilation, padding, stride)
    flat = numpy.pad(image, [(0, 0), (0, 0), *padding]).reshape(*image.shape[:2], -1)
    return flat[:, :, pixels].reshape(image.shape[0], -1, pixels.shape[1])


def expected_fold(columns, size, kernel, dilation, padding, stride):
    """In a type that holds every sum, or wraps around as narrower ones do."""
    pixels, padded = pixels_of(size, kernel, dilation, padding, stride)
    terms = columns.astype(oracle.wide_type(columns.dtype)).reshape(columns.shape[0], -1, pixels.size)
    sums = numpy.zeros((*terms.shape[:2], math.prod(padded)), terms.dtype)
    for tap in range(len(pixels)):  # within a tap no pixel is met twice
        part = slice(tap * pixels.shape[1], (tap + 1) * pixels.shape[1])
        sums[:, :, pixels[tap]] += terms[:, :, part]
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(size, padding, strict=True))
    return sums.reshape(*sums.shape[:2], *padded)[(slice(None), slice(None), *inside)]


def numbers(shape, dtype, seed=0):
    """Small whole ones, exact in every dtype."""
    dtype, random = numpy.dtype(dtype), numpy.random.default_rng(seed)
    low = 0 if dtype.kind in "bu" else -9
    array = random.integers(low, 10, shape).astype(dtype)
    return array + 1j * random.integers(low, 10, shape).astype(dtype) if dtype.kind == "c" else array


def geometries(count, seed):
    """Random ones of 1 to 4 axes: (batch and channels, size, kernel, dilation, padding, stride)."""
    random = numpy.random.default_rng(seed)
    while count:
        axes = int(random.integers(1, 5))
        highest = (14, 6, 4, 5, 5)
        size, kernel, dilation, stride, before = (tuple(map(int, random.integers(1, top, axes))) for top in highest)
        padding = tuple((b - 1, int(random.integers(4))) for b in before)
        spans = ((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        if all(n + sum(pair) >= span for n, pair, span in zip(size, padding, spans, strict=True)):
            yield tuple(map(int, random.integers(1, 4, 2))), size, kernel, dilation, padding, stride
            count -= 1


LARGER = (
    ((1, 64), (56, 56), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((1, 3), (224, 223), (7, 7), (1, 1), ((3, 3), (3, 3)), (2, 2)),
    ((2, 1), (300, 500), (5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1)),
    ((1, 1), (16000,), (400,), (1,), ((0, 0),), (160,)),
    ((2, 1), (30000,), (9,), (700,), ((5, 3),), (3,)),
    ((1, 2), (9000,), (5,), (1,), ((2, 2),), (2,)),
    ((1, 8), (8, 14, 15), (3, 3, 3), (1, 1, 1), ((1, 1), (1, 1), (1, 1)), (1, 1, 1)),
    ((1, 700), (7, 7), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((40, 50), (7, 6), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
)


def check(geometry, dtype):
    lead, size, *windows = geometry
    image = numbers((*lead, *size), dtype)
    expected = expected_unfold(image, *windows)
    columns = npconv.unfold(image, *windows)
    assert columns.dtype == dtype
    assert not oracle.difference_exact(columns, expected), geometry
    if dtype != "?":
        terms = numbers(expected.shape, dtype, 1)
        sums = npconv.fold(terms, size, *windows)
        assert sums.dtype == dtype
        assert not oracle.difference_exact(sums, expected_fold(terms, size, *windows)), geometry


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(backend, dtype):
    for index, geometry in enumerate(geometries(40, seed=DTYPES.index(dtype))):
        with npconv.options(num_threads=index % 3 + 1):
            check(geometry, dtype)


@pytest.mark.parametrize("geometry", LARGER, ids=lambda geometry: "x".join(map(str, geometry[0] + geometry[1])))
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_larger_ones(backend, geometry, threads):
    with npconv.options(num_threads=threads):
        check(geometry, "fl"[threads % 2])


LAYOUTS = (
    ((2, 3), (6, 7), (3, 2), (1, 2), ((1, 0), (2, 1)), (2, 1)),
    ((2, 3), (6, 7), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((2, 3), (6, 7), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((1, 2), (3, 4, 5), (1, 1, 1), (1, 1, 1), ((0, 0), (0, 0), (0, 0)), (1, 1, 1)),
)


@pytest.mark.parametrize("geometry", LAYOUTS, ids=lambda geometry: f"{geometry[1]} {geometry[2]}")
def test_every_layout(backend, geometry):
    lead, size, *windows = geometry
    for dtype in ("f", "i", "e", "D", "b"):
        image = numbers((*lead, *size), dtype)
        columns = npconv.unfold(image, *windows)
        sums = npconv.fold(columns, size, *windows)
        for change in (
            numpy.asfortranarray,
            lambda a: a.astype(a.dtype.newbyteorder()),
            lambda a: numpy.flip(numpy.flip(a).copy()),
            lambda a: numpy.repeat(a, 2, axis=-1)[..., ::2],
            lambda a: numpy.repeat(a, 3, axis=1)[:, 1::3],
            lambda a: numpy.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
        ):
            read_only = change(image)
            read_only.flags.writeable = False
            assert numpy.array_equal(npconv.unfold(read_only, *windows), columns)
            result = npconv.fold(change(columns), size, *windows)
            assert numpy.array_equal(result, sums)
            assert result.dtype == sums.dtype == image.dtype
            assert result.dtype.isnative
    broadcast = numpy.broadcast_to(numpy.float32(2), (1, 9, 16))
    assert npconv.fold(broadcast, (6, 6), 3)[0, 0, 3, 3] == 18


def test_fold_of_unfold_counts_the_windows(backend):
    for _, size, *windows in geometries(60, seed=3):
        image = numbers((2, 3, *size), "l")
        count = npconv.fold(npconv.unfold(numpy.ones((1, 1, *size), int), *windows), size, *windows)
        again = npconv.fold(npconv.unfold(image, *windows), size, *windows)
        assert numpy.array_equal(again, image * count)


def test_columns_make_the_convolution(backend):
    image, weight = numbers((2, 4, 9, 8), "l"), numbers((5, 4, 3, 2), "l", 1)
    arguments = {"stride": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (1, 2)}
    product = weight.reshape(5, -1) @ npconv.unfold(image, (3, 2), **arguments)
    assert numpy.array_equal(product.ravel(), npconv.conv2d(image, weight, **arguments).ravel())


@pytest.mark.parametrize("padding", ["valid", "same", "same_lower"])
def test_named_paddings(backend, padding):
    image = numbers((1, 1, 7, 8), "l")
    kernel = numpy.ones((1, 1, 3, 4), int)
    sums = npconv.unfold(image, (3, 4), stride=2, padding=padding).sum(axis=1)
    assert numpy.array_equal(sums.ravel(), npconv.conv2d(image, kernel, stride=2, padding=padding).ravel())
    again, count = (
        npconv.fold(npconv.unfold(values, (3, 4), padding=padding), (7, 8), (3, 4), padding=padding)
        for values in (image, numpy.ones_like(image))
    )
    assert numpy.array_equal(again, image * count)
    assert count.max() == 12


def test_number_of_axes(backend):
    assert npconv.unfold(numpy.ones((2, 3, 8, 9)), 2).shape == (2, 12, 56)
    assert npconv.unfold(numpy.ones((3, 8, 9)), 2).shape == (12, 56)
    assert npconv.unfold(numpy.ones((3, 8)), 2).shape == (6, 7)
    assert npconv.unfold(numpy.ones((2, 3, 8)), (2,)).shape == (2, 6, 7)
    assert npconv.unfold(numpy.ones((2, 3, 8)), 2, stride=(2,)).shape == (2, 6, 4)
    assert npconv.unfold(numpy.ones((2, 3, 4, 5, 6)), 2).shape == (2, 24, 60)
    assert npconv.unfold(numpy.ones((2, 4, 5, 6)), (2, 2, 2)).shape == (16, 60)
    assert npconv.unfold(numpy.ones((1, 1, *[2] * 20)), (1,) * 20).shape == (1, 1, 2**20)
    if numpy.lib.NumpyVersion(numpy.__version__) >= "2.0.0":  # before it arrays had 32 axes at most
        assert npconv.unfold(numpy.ones((1, 1, *[1] * 62)), (1,) * 62).shape == (1, 1, 1)
    assert npconv.fold(numpy.ones((2, 12, 56)), (8, 9), 2).shape == (2, 3, 8, 9)
    assert npconv.fold(numpy.ones((12, 49)), 8, 2).shape == (3, 8, 8)
    assert npconv.fold(numpy.ones((2, 6, 7)), (8,), 2).shape == (2, 3, 8)
    assert npconv.fold(numpy.ones((16, 60)), (4, 5, 6), 2).shape == (2, 4, 5, 6)


def test_unbatched_is_one_of_a_batch(backend):
    image = numbers((3, 6, 7), "f")
    columns = npconv.unfold(image, 3, padding=1)
    assert numpy.array_equal(columns, npconv.unfold(image[numpy.newaxis], 3, padding=1)[0])
    assert numpy.array_equal(
        npconv.fold(columns, (6, 7), 3, padding=1), npconv.fold(columns[numpy.newaxis], (6, 7), 3, padding=1)[0]
    )


def test_empty_batch(backend):
    assert npconv.unfold(numpy.empty((0, 3, 8, 9), "i2"), 2).shape == (0, 12, 56)
    result = npconv.fold(numpy.empty((0, 12, 56), "i2"), (8, 9), 2)
    assert (result.shape, result.dtype) == ((0, 3, 8, 9), numpy.int16)


def test_integers_wrap_around_and_half_precision_is_rounded_once(backend):
    assert npconv.fold(numpy.full((1, 3, 6), 100, "i1"), (8,), (3,))[0, 0, 4] == 44
    folded = npconv.fold(numpy.ones((1, 3000, 3000), "e"), (3000,), (3000,), padding=((0, 2999),))
    assert folded.dtype == numpy.float16
    assert folded.max() == 3000  # 2048 if summed in float16


@pytest.mark.parametrize("dtype", "efdF")
def test_same_bits_for_any_number_of_threads(backend, dtype):
    for lead, size, *windows in LARGER[:7]:
        shape = npconv.unfold(numpy.empty((*lead, *size), "?"), *windows).shape
        terms = numpy.random.default_rng(0).standard_normal(shape).astype(dtype)
        results = set()
        for threads in (1, 2, 3, 8):
            with npconv.options(num_threads=threads):
                results.add(npconv.fold(terms, size, *windows).tobytes())
        assert len(results) == 1


def test_backends_agree_to_the_bit():
    for lead, size, *windows in geometries(30, seed=9):
        for dtype in "efD":
            shape = npconv.unfold(numpy.empty((*lead, *size), "?"), *windows).shape
            terms = numpy.random.default_rng(0).standard_normal(shape).astype(dtype)
            with npconv.options(backend="numpy"):
                expected = npconv.fold(terms, size, *windows)
            assert npconv.fold(terms, size, *windows).tobytes() == expected.tobytes()


def test_huge_strides_and_dilations(backend):
    image = numbers((1, 2, 5, 6), "l")
    assert npconv.unfold(image, 2, stride=2**60).shape == (1, 8, 1)
    assert numpy.array_equal(npconv.unfold(image, 1, 2**62, 0, 2**62)[0, :, 0], image[0, :, 0, 0])
    one = npconv.fold(numpy.ones((1, 4, 1)), (5, 6), 2, stride=2**60)
    assert (one.sum(), one[0, 0, :2, :2].sum()) == (4, 4)
    check(((1, 2), (2, 3), (2, 2), (50, 1), ((26, 27), (0, 1)), (1, 3)), "l")
    check(((1, 2), (40,), (3,), (1,), ((90, 0),), (1,)), "l")


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8"])
def test_torch_gives_the_same(backend, dtype):
    torch = pytest.importorskip("torch")
    for arguments in ((3,), (3, 1, 1, 1), (2, 2, 3, 2), ((3, 2), (1, 2), (1, 0), (2, 1)), ((1, 4),)):
        for shape in ((2, 3, 9, 8), (3, 9, 8)):
            image = numbers(shape, dtype)
            columns = torch.nn.functional.unfold(torch.from_numpy(image), *arguments)
            assert numpy.array_equal(npconv.unfold(image, *arguments), columns.numpy())
            assert numpy.array_equal(npconv.unfold(torch.from_numpy(image), *arguments), columns.numpy())
            folded = torch.nn.functional.fold(columns, (9, 8), *arguments)
            assert numpy.array_equal(npconv.fold(columns.numpy(), (9, 8), *arguments), folded.numpy())


IMAGE, COLUMNS = numpy.ones((1, 3, 8, 9), "f4"), numpy.ones((1, 27, 42), "f4")


# fmt: off
ERRORS = [
    ("unfold", (numpy.ones(3), 2), ValueError,
     r"unfold: input must have 3 axes \(N, C, 1 spatial axes\), or 2 .* got input shape \(3,\)"),
    ("unfold", (IMAGE, (2,)), ValueError, r"unfold: input must have 3 axes .*shape \(1, 3, 8, 9\); kernel_size \(2,\)"),
    ("unfold", (IMAGE, ()), ValueError, r"unfold: there must be at least 1 spatial axis"),
    ("unfold", (IMAGE, (2, 0)), ValueError, r"kernel_size must be one integer from 1 up, or 2 of them, got \(2, 0\)"),
    ("unfold", (IMAGE, 2, (1,) * 4), ValueError, r"unfold: input must have 6 axes"),
    ("unfold", (IMAGE, (2, 2), (1, 1, 1)), ValueError,
     r"unfold: dilation=\(1, 1, 1\) has 3 values.* of input shape \(1, 3, 8, 9\), kernel_size \(2, 2\)"),
    ("unfold", (IMAGE, 2, 0), ValueError, "unfold: dilation must be at least 1, got 0"),
    ("unfold", (IMAGE, 2, 1, -1), ValueError, "unfold: padding must be at least 0, got -1"),
    ("unfold", (IMAGE, 2, 1, 0, 0), ValueError, "unfold: stride must be at least 1, got 0"),
    ("unfold", (IMAGE, 2, 1, "full"), ValueError, "unfold: padding must be one of 'valid', 'same', 'same_lower'"),
    ("unfold", (IMAGE, 9), ValueError,
     r"unfold: a kernel of 9 .* padded input has 8 \(size 8, padding \(0, 0\)\); input shape \(1, 3, 8, 9\), kernel"),
    ("unfold", (numpy.ones((1, 0, 8, 9)), 2), ValueError, "unfold: only the batch axis of the input may have size 0"),
    ("unfold", (numpy.ones((0, 8, 9)), 2), ValueError, "unfold: only the batch axis of the input may have size 0"),
    ("unfold", (IMAGE, 2.0), TypeError, "unfold: kernel_size must be integers, got 2.0 of type float"),
    ("unfold", (IMAGE, True), TypeError, "unfold: kernel_size must be integers, got True"),
    ("unfold", (IMAGE, None), TypeError, "unfold: kernel_size must be integers, got None"),
    ("unfold", (IMAGE.astype(object), 2), TypeError, "unfold: input has dtype object, a numeric dtype is needed"),
    ("unfold", (IMAGE, 1, 1, 2**40), ValueError, "unfold: a result of shape .* does not fit in memory addressing"),
    ("fold", (numpy.ones((1, 1, 27, 42)), (8, 9), 3), ValueError,
     r"fold: input must have 3 axes \(N, C \* taps, L\), or 2 axes .* got input shape \(1, 1, 27, 42\)"),
    ("fold", (COLUMNS, (8, 9), 2), ValueError,
     r"fold: input of shape \(1, 27, 42\) has 27 rows .* multiple of the 4 taps of kernel_size \(2, 2\)"),
    ("fold", (COLUMNS, (9, 9), 3), ValueError,
     r"fold: input of shape \(1, 27, 42\) has 42 windows, but output_size \(9, 9\) .* has 49, 7 x 7"),
    ("fold", (COLUMNS, (8, 0), 3), ValueError, r"fold: output_size must be one integer from 1 up, or 2 of them"),
    ("fold", (COLUMNS, (8, 9, 1), (3, 3)), ValueError, r"fold: kernel_size must be .* or 3 of them, got \(3, 3\)"),
    ("fold", (COLUMNS, 0, 3), ValueError, r"fold: output_size must be one integer from 1 up, or 2 of them, got 0"),
    ("fold", (COLUMNS, None, 3), TypeError, r"fold: output_size must be integers, got None"),
    ("fold", (COLUMNS > 0, (8, 9), 3), TypeError, "fold: input has dtype bool, an integer, float or complex dtype"),
    ("fold", (COLUMNS[:, :0], (8, 9), 3), ValueError, "fold: only the batch axis of the input may have size 0"),
]
# fmt: on


@pytest.mark.parametrize(("function", "arguments", "kind", "pattern"), ERRORS)
def test_errors(backend, function, arguments, kind, pattern):
    with pytest.raises(kind, match=pattern) as raised:
        getattr(npconv, function)(*arguments)
    assert "\n" not in str(raised.value)
