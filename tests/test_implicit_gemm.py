"""Products of tiles of bfloat16 in place of float32: how near they are, at every scale, and where tiles end."""

import numpy
import oracle
import pytest
from engines import ENGINES, Engine
from shapes import Case

import npconv

TILES = Engine("compiled", "amx", "implicit_gemm")

pytestmark = pytest.mark.skipif(TILES not in ENGINES, reason="the machine or the build has no tiles of bfloat16")

# Channels, outputs, pixels and taps at and around what fills tiles, blocks and bands.
CASES = (
    Case((1, 1, 1), (1, 1, 1)),
    Case((1, 31, 15), (15, 31, 1)),
    Case((2, 33, 17), (17, 33, 1)),
    Case((1, 64, 1056), (33, 64, 1)),
    Case((1, 96, 2117), (64, 96, 1)),
    Case((1, 48, 12, 13), (40, 48, 1, 1), padding=(1, 2)),
    Case((1, 40, 13, 17), (24, 40, 1, 1), stride=(2, 3)),
    Case((1, 70, 20, 33), (65, 70, 3, 3), padding=1),
    Case((3, 32, 7, 7), (32, 32, 3, 3), padding=1),
    Case((1, 3, 40, 45), (20, 3, 7, 7), stride=2, padding=3),
    Case((1, 36, 31, 30), (34, 36, 3, 3), stride=2, padding=1),
    Case((1, 20, 23, 40), (8, 20, 2, 5), stride=(3, 5), dilation=(2, 3), padding=(1, 4)),
    Case((1, 64, 70, 100), (32, 64, 3, 3), padding=1),
    Case((1, 16, 3, 3000), (16, 16, 1, 9), padding=(0, 4)),
    Case((1, 256, 40, 41), (16, 256, 3, 3)),
    Case((2, 24, 5, 9, 11), (18, 24, 3, 2, 3), stride=(2, 1, 2), padding=(1, 0, 1)),
    Case((2, 68, 9, 14), (72, 34, 3, 3), padding=2, groups=2, dilation=2),
    Case((1, 33, 12, 15), (33, 33, 3, 3), padding=2, padding_mode="reflect"),
    Case((1, 40, 11, 26), (48, 40, 3, 4), padding=1, activation="silu"),
    Case((1, 40, 11, 26), (48, 40, 3, 4), padding=1, activation="relu6"),
)


def by_tiles(case, arrays, threads=1):
    with TILES.options(num_threads=threads):
        plan = npconv.explain(*arrays, **case.arguments())
        assert (plan.algorithm, plan.isa) == ("implicit_gemm", "amx")
        return npconv.conv(*arrays, **case.arguments())


def normal(case, seed=0):
    rng = numpy.random.default_rng(seed)
    arrays = [rng.standard_normal(shape).astype(numpy.float32) for shape in (case.input, case.weight)]
    return (*arrays, rng.standard_normal(case.weight[0]).astype(numpy.float32))


def far_off(actual, arrays, case, share):
    """None where the error is at most that share of what was added up."""
    expected = oracle.convolve(*arrays, **case.arguments())
    scale = oracle.size_of_sums(*arrays, **case.arguments())
    return oracle.difference_rounded(actual, expected, scale, share)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_are_as_near_as_sums_of_float32(case):
    """An eighth of what is allowed to default precision."""
    arrays = normal(case)
    results = [by_tiles(case, arrays, threads) for threads in (1, 2, 5)]
    assert all(result.tobytes() == results[0].tobytes() for result in results)
    assert not far_off(results[0], arrays, case, 2**-20)


def test_each_product_is_that_of_all_bits():
    """A reduction of one, of numbers with 24 bits: what is left is the rounding of sums of six."""
    rng = numpy.random.default_rng(0)
    x = (rng.integers(2**23, 2**24, (1, 1, 4096)) | 1).astype(numpy.float32)
    w = (rng.integers(2**23, 2**24, (16, 1, 1)) | 1).astype(numpy.float32)
    case = Case(x.shape, w.shape)
    expected = w.astype(float)[None, :, :, 0] * x.astype(float)
    assert numpy.abs(by_tiles(case, (x, w)) / expected - 1).max() < 2**-21.5


def test_integers_of_three_pieces_are_exact():
    rng = numpy.random.default_rng(2)
    x = rng.integers(-(2**23), 2**23, (1, 1, 40)).astype(numpy.float32)
    w = 2.0 ** numpy.arange(20, dtype=numpy.float32).reshape(20, 1, 1)
    assert numpy.array_equal(by_tiles(Case(x.shape, w.shape), (x, w)), w[None, :, 0] * x)


def test_integers_are_exact():
    rng = numpy.random.default_rng(1)
    x = rng.integers(-(2**11), 2**11, (1, 4, 9, 50)).astype(numpy.float32)
    w = rng.integers(-(2**8), 2**8, (17, 4, 2, 2)).astype(numpy.float32)
    case = Case(x.shape, w.shape)
    assert numpy.array_equal(by_tiles(case, (x, w)), oracle.convolve(x, w))


@pytest.mark.parametrize("case", [CASES[3], CASES[7]], ids=str)
@pytest.mark.parametrize(("input", "weight"), [(-100, 0), (-70, -30), (-39, -39), (100, -100), (60, 60)])
def test_every_scale(case, input, weight):
    x, w, _ = normal(case)
    x, w = numpy.ldexp(x, input).astype(numpy.float32), numpy.ldexp(w, weight).astype(numpy.float32)
    assert not far_off(by_tiles(case, (x, w)), (x, w), case, 2**-20)


def test_output_channels_of_different_scales():
    case = CASES[7]
    x, w, _ = normal(case)
    w = numpy.ldexp(w, numpy.linspace(-100, 20, len(w)).astype(int)[:, None, None, None]).astype(numpy.float32)
    x = numpy.ldexp(x, 60).astype(numpy.float32)
    assert not far_off(by_tiles(case, (x, w)), (x, w), case, 2**-20)


def lost(where):
    """Tiny numbers beside a large one that no result depends on."""
    rng = numpy.random.default_rng(3)
    x = 1 + rng.random((1, 8, 61)).astype(numpy.float32)
    w = 1 + rng.random((5, 8, 2)).astype(numpy.float32)
    if where == "an unread pixel":
        x *= numpy.float32(2**-118)
        x[0, 0, 2] = 1
    elif where == "a weight of zeros":
        x[0, 3] = 0
        w *= numpy.float32(2**-118)
        w[:, 3] = 1
    else:
        x *= numpy.float32(2**-118)
        x[0, 3] = 1
        w[:, 3] = 0
    return x, w


@pytest.mark.parametrize("where", ["an unread pixel", "a weight of zeros", "a pixel of zeros"])
def test_pieces_too_small_for_float32_are_not_lost(where):
    x, w = lost(where)
    case = Case(x.shape, w.shape, stride=3)
    assert not far_off(by_tiles(case, (x, w)), (x, w), case, 2**-20)


def test_what_no_window_reads_is_not_felt():
    x, w = lost("an unread pixel")
    expected = by_tiles(Case(x.shape, w.shape, stride=3), (x, w))
    for value in (numpy.nan, numpy.inf, 2.0**126):
        x[0, 0, 2] = value
        result = by_tiles(Case(x.shape, w.shape, stride=3), (x, w))
        assert numpy.allclose(result, expected, rtol=1e-5, atol=0)


def test_channels_of_zeros_are_zeros():
    case = CASES[7]
    x, w, bias = normal(case)
    w[:] = 0
    assert numpy.array_equal(by_tiles(case, (x, w, bias))[0, :, 0, 0], bias)


def test_numbers_that_bfloat16_would_round_to_infinity():
    """They are computed again, by plain sums."""
    largest = numpy.finfo(numpy.float32).max
    x = numpy.full((1, 8, 40), 0.5, numpy.float32)
    x[0, 3, 17] = largest
    w = numpy.full((4, 8, 1), 0.25, numpy.float32)
    result = by_tiles(Case(x.shape, w.shape), (x, w))
    assert numpy.all(result[0, :, 17] == largest * numpy.float32(0.25))
    assert numpy.all(numpy.delete(result, 17, axis=2) == 1)


@pytest.mark.parametrize("name", ["strict", "double"])
def test_what_it_is_not_for(name):
    dtype, options = (numpy.float64, {}) if name == "double" else (numpy.float32, {"precision": "strict"})
    x, w = numpy.ones((1, 64, 32, 32), dtype), numpy.ones((64, 64, 1, 1), dtype)
    with npconv.options(isa="amx", **options):
        assert npconv.explain(x, w).algorithm != "implicit_gemm"
    with TILES.options(**options), pytest.raises(ValueError, match="implicit_gemm"):
        npconv.conv2d(x, w)


def test_strict_sums_are_those_of_the_instruction_set_below():
    case = CASES[7]
    arrays = normal(case)
    bits = []
    for isa in ("amx", "avx512"):
        with npconv.options(backend="compiled", isa=isa, precision="strict"):
            bits.append(npconv.conv(*arrays, **case.arguments()).tobytes())
    assert bits[0] == bits[1]


@pytest.mark.parametrize("threads", [1, 4])
def test_workspace_stays_small(threads):
    with TILES.options(num_threads=threads):
        for shapes in (((1, 1, 8, 8), (1 << 24, 1, 1, 1)), ((1, 3000, 4, 4), (40, 3000, 3, 3))):
            plan = npconv.explain(*(numpy.broadcast_to(numpy.float32(0), shape) for shape in shapes))
            assert plan.workspace_bytes <= plan.threads << 23
        with pytest.raises(ValueError, match="would not fit a cache"):
            npconv.explain(numpy.broadcast_to(numpy.float32(0), (1, 9000, 4, 4)), numpy.ones((1, 9000, 3, 3), "f"))


def test_chosen_where_it_is_faster():
    x = numpy.ones((1, 256, 56, 56), numpy.float32)
    layers = (64, 256, 1, 1), (512, 256, 1, 1)
    with npconv.options(backend="compiled", isa="amx"):
        assert [npconv.explain(x, numpy.ones(w, numpy.float32)).algorithm for w in layers] == ["implicit_gemm"] * 2
    with npconv.options(backend="compiled", isa="avx512"):
        assert npconv.explain(x, numpy.ones(layers[0], numpy.float32)).algorithm != "implicit_gemm"
