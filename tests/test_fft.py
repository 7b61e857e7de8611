"""Long kernels, of which Fourier transforms take the rows."""

import engines
import numpy
import oracle
import pytest

import npconv

pytestmark = pytest.mark.skipif(engines.compiled_core() is None, reason="the compiled build takes transforms")

LONG = [((1, 1, 4000), (1, 1, 300)), ((1, 1, 120, 130), (1, 1, 31, 31)), ((1, 16, 900), (16, 16, 63)),
        ((2, 8, 40, 50), (8, 1, 21, 21))]  # fmt: skip


def arrays(input, weight, dtype="f4"):
    random = numpy.random.default_rng(4)
    return [random.standard_normal(shape).astype(dtype) for shape in (input, weight)]


@pytest.mark.parametrize(("input", "weight"), LONG)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_long_kernels_are_transformed_but_for_strict_sums(input, weight, dtype):
    x, w = arrays(input, weight, dtype)
    groups = input[1] // weight[1]
    with npconv.options(backend="compiled"):
        assert npconv.explain(x, w, groups=groups).algorithm == "fft"
        with npconv.options(precision="strict"):
            assert npconv.explain(x, w, groups=groups).algorithm != "fft"
        assert npconv.explain(x.astype("i4"), w.astype("i4"), groups=groups).algorithm != "fft"


@pytest.mark.parametrize(("input", "weight"), LONG)
def test_as_exact_as_plain_sums(input, weight):
    """Within 2e-6 of the largest result, though its errors are those of a sum of squares."""
    x, w = arrays(input, weight)
    groups = input[1] // weight[1]
    expected = oracle.convolve(x.astype("f8"), w.astype("f8"), groups=groups)
    with npconv.options(backend="compiled", algorithm="fft"):
        actual = npconv.conv(x, w, groups=groups)
    assert not oracle.difference_rounded(actual, expected, None, 2e-6)


def test_sums_of_many_rows_of_taps():
    """Within 1e-5 even where nothing cancels: of equal numbers, whose sum is known."""
    x, w = numpy.full((1, 64, 60, 60), 0.7, "f4"), numpy.full((2, 64, 25, 25), 0.3, "f4")
    expected = 64 * 625 * float(x[0, 0, 0, 0]) * float(w[0, 0, 0, 0])
    with npconv.options(backend="compiled", algorithm="fft"):
        assert abs(npconv.conv(x, w) - expected).max() < 1e-5 * expected


@pytest.mark.parametrize("channels", [1400, 1500, 1900])
def test_channels_that_barely_fit(channels):
    """Of which only single vectors of lines fit the workspace."""
    x, w = arrays((1, channels, 137, 20), (1, channels, 3, 5))
    with npconv.options(backend="compiled", algorithm="fft"):
        assert npconv.explain(x, w).workspace_bytes < 100 * 2**20
        actual = npconv.conv(x, w)
    with npconv.options(precision="strict"):
        expected = npconv.conv(x.astype("f8"), w.astype("f8"))
    assert not oracle.difference_rounded(actual, expected, None, 5e-6)


def test_layers_take_signals_of_any_length():
    """Their lengths decide on the transforms, and those on the order of packed weights."""
    w = arrays((1,), (2, 1, 400))[1]
    with npconv.options(backend="compiled", algorithm="fft"):
        layer = npconv.Conv1d.from_weights(w, padding=200)
        for length in (400, 1000, 3000, 20000, 700, 100000, 400):
            x = arrays((1, 1, length), (1,))[0]
            with npconv.options(precision="strict", algorithm=None):
                expected = npconv.conv1d(x.astype("f8"), w.astype("f8"), padding=200)
            assert not oracle.difference_rounded(layer(x), expected, None, 2e-6), length
    assert len(layer._weights.packed) > 1


@pytest.mark.parametrize(("input", "weight"), [
    ((1, 1, 90000), (1, 1, 1023)),
    ((1, 1, 90000), (8, 1, 1023)),
    ((1, 2, 200, 300), (7, 2, 25, 25)),
    ((2, 8, 90, 100), (8, 1, 21, 21)),
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_threads_do_not_change_bits(input, weight, dtype):
    """They decide how lines and output channels are shared out, not what is transformed."""
    x, w = arrays(input, weight, dtype)
    results = {}
    for threads in (1, 2, 3):
        with npconv.options(backend="compiled", algorithm="fft", num_threads=threads):
            plan = npconv.explain(x, w, groups=input[1] // weight[1])
            assert plan.threads == threads
            results[threads] = npconv.conv(x, w, groups=input[1] // weight[1]).tobytes()
    assert results[1] == results[2] == results[3]


@pytest.mark.parametrize("isa", [e.isa for e in engines.ENGINES if e.algorithm == "fft"])
def test_silence_stays_silent(isa):
    """Lines of zeros give zeros, and what is heard elsewhere is not felt beyond the windows of its block."""
    x, w = arrays((1, 1, 30000), (1, 1, 501))
    x[..., 3000:25000] = 0
    with npconv.options(backend="compiled", isa=isa, algorithm="fft"):
        result = npconv.conv1d(x, w)
    assert not result[..., 8000:20000].any()


@pytest.mark.parametrize("isa", [e.isa for e in engines.ENGINES if e.algorithm == "fft"])
@pytest.mark.parametrize(("input", "weight", "stride"), [
    ((1, 1, 60000), (1, 1, 700), 1),
    ((1, 1, 60000), (2, 1, 5000), 1),
    ((1, 2, 40000), (1, 2, 9000), 3),
    ((2, 1, 3, 12000), (2, 1, 2, 3000), (1, 2)),
    ((1, 1, 6, 9000), (1, 1, 3, 6000), 1),
    ((1, 1, 12, 1, 5000), (1, 1, 5, 1, 4000), (3, 1, 1)),
    ((1, 1, 40, 9000), (1, 1, 3, 1500), 1),
])  # fmt: skip
def test_lines_of_every_length(isa, input, weight, stride):
    """Short transforms and long ones, kernel rows in one part and in several, beside plain sums in float64."""
    x, w = arrays(input, weight)
    with npconv.options(precision="strict"):
        expected = npconv.conv(x.astype("f8"), w.astype("f8"), stride=stride)
    for dtype, tolerance in (("f4", 2e-6), ("f8", 1e-14)):
        with npconv.options(backend="compiled", isa=isa, algorithm="fft"):
            result = npconv.conv(x.astype(dtype), w.astype(dtype), stride=stride)
        assert not oracle.difference_rounded(result, expected, None, tolerance)
