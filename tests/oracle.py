"""What a convolution is, written a second time and as plainly as possible.

Nothing here calls npconv. Borders come from numpy.pad; sums run in a wider type than the result's, or, for integers,
in uint64, which wraps around exactly as every narrower integer type does. `by_definition` is slower still: Python
numbers and one loop an index; it keeps `convolve` honest.
"""

import itertools
import math

import numpy

PAD_MODE = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
}
WIDE = {
    "e": numpy.float64,
    "f": numpy.float64,
    "d": numpy.longdouble,
    "g": numpy.longdouble,
    "F": numpy.complex128,
    "D": numpy.clongdouble,
    "G": numpy.clongdouble,
}


def wide_type(dtype):
    """The type in which results of `dtype` are summed here."""
    dtype = numpy.dtype(dtype)
    return numpy.dtype(numpy.uint64 if dtype.kind in "iu" else WIDE[dtype.char])


def result_type(input, weight, dtype=None):
    return numpy.dtype(numpy.result_type(input.dtype, weight.dtype) if dtype is None else dtype).newbyteorder("=")


def per_axis(value, axes):
    return tuple(int(v) for v in numpy.broadcast_to(value, axes))


def resolve_padding(padding, size, kernel, stride, dilation):
    """(before, after) for every axis."""
    axes = len(size)
    if padding == "valid":
        return [(0, 0)] * axes
    if padding in ("same", "same_lower"):
        pairs = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
            pairs.append((total // 2, total - total // 2)[:: 1 if padding == "same" else -1])
        return pairs
    pairs = numpy.array(padding)
    if pairs.ndim < 2:
        pairs = numpy.stack([per_axis(padding, axes)] * 2, axis=1)
    return [(int(before), int(after)) for before, after in pairs]


def pad(array, pairs, padding_mode):
    """`array` with its trailing axes padded."""
    full = [(0, 0)] * (array.ndim - len(pairs)) + list(pairs)
    return array if not any(map(any, full)) else numpy.pad(array, full, mode=PAD_MODE[padding_mode])


def output_size(padded, kernel, stride, dilation):
    return tuple((n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(padded, kernel, stride, dilation, strict=True))


def convolve(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, padding_mode="zeros",
             activation=None, data_format="channels_first", dtype=None):  # fmt: skip
    """The convolution, in the wide type for floats and complex numbers, in the result's own type for integers."""
    input, weight, dtype, batched = operands(input, weight, dtype, data_format)
    axes = weight.ndim - 2
    stride, dilation = per_axis(stride, axes), per_axis(dilation, axes)
    pairs = resolve_padding(padding, input.shape[2:], weight.shape[2:], stride, dilation)
    with numpy.errstate(all="ignore"):
        result = sum_of_taps(pad(input, pairs, padding_mode), weight, stride, dilation, groups)
    return finished(result, bias, dtype, activation, data_format, batched)


def operands(input, weight, dtype, data_format):
    """In the wide type, the input batched and with its channels first; the result's type, and whether it is batched."""
    input, weight = numpy.asarray(input), numpy.asarray(weight)
    dtype = result_type(input, weight, dtype)
    input, weight = (a.astype(dtype).astype(wide_type(dtype)) for a in (input, weight))
    batched = input.ndim == weight.ndim
    input = input if batched else input[numpy.newaxis]
    return (numpy.moveaxis(input, -1, 1) if data_format == "channels_last" else input), weight, dtype, batched


def finished(sums, bias, dtype, activation, data_format, batched):
    """What a caller gets of sums."""
    with numpy.errstate(all="ignore"):
        if bias is not None:
            bias = numpy.asarray(bias).astype(dtype).astype(sums.dtype)
            sums = sums + bias.reshape(-1, *[1] * (sums.ndim - 2))
        result = activate(sums, activation)
        if dtype.kind in "iu":
            result = result.astype(dtype)
    if data_format == "channels_last":
        result = numpy.moveaxis(result, 1, -1)
    return result if batched else result[0]


def sum_of_taps(padded, weight, stride, dilation, groups):
    batch, channels, size = padded.shape[0], padded.shape[1], padded.shape[2:]
    kernel = weight.shape[2:]
    out = output_size(size, kernel, stride, dilation)
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    multiply = multiply_by_blas if blas_is_safe(padded, weight) else multiply_plainly
    if math.prod(out) < math.prod(kernel):
        return sum_of_windows(padded, grouped, out, stride, dilation, multiply)
    total = numpy.zeros((batch, groups, grouped.shape[1], math.prod(out)), padded.dtype)
    for tap in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, s, o in zip(tap, dilation, stride, out, strict=True)
        )
        pixels = padded[(slice(None), slice(None), *window)]
        pixels = pixels.reshape(batch, groups, channels // groups, math.prod(out))
        total += multiply(pixels, grouped[(slice(None), slice(None), slice(None), *tap)])
    return total.reshape(batch, weight.shape[0], *out)


def sum_of_windows(padded, grouped, out, stride, dilation, multiply):
    """As sum_of_taps, pixel by pixel: for kernels of more taps than the result has pixels."""
    groups, group_outputs, _, *kernel = grouped.shape
    flat = grouped.reshape(groups, group_outputs, -1)
    result = numpy.empty((padded.shape[0], groups * group_outputs, *out), padded.dtype)
    for pixel in itertools.product(*map(range, out)):
        window = tuple(
            slice(p * s, p * s + (k - 1) * d + 1, d) for p, s, d, k in zip(pixel, stride, dilation, kernel, strict=True)
        )
        values = padded[(slice(None), slice(None), *window)].reshape(padded.shape[0], groups, flat.shape[2], 1)
        sums = multiply(values, flat)
        result[(slice(None), slice(None), *pixel)] = sums.reshape(padded.shape[0], result.shape[1])
    return result


def transpose(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
              activation=None, data_format="channels_first", dtype=None):  # fmt: skip
    """The transposed convolution: each element of the input times the kernel, added where it falls; types as above."""
    input, weight, dtype, batched = operands(input, weight, dtype, data_format)
    axes = weight.ndim - 2
    stride, dilation, extra = (per_axis(value, axes) for value in (stride, dilation, output_padding))
    pairs, size = transposed_pairs(padding, input.shape[2:], weight.shape[2:], stride, dilation, extra)
    full = scatter(
        input, weight, [sum(pair) + n for pair, n in zip(pairs, size, strict=True)], stride, dilation, groups
    )
    inside = (slice(before, before + n) for (before, _), n in zip(pairs, size, strict=True))
    return finished(full[(slice(None), slice(None), *inside)], bias, dtype, activation, data_format, batched)


def transposed_pairs(padding, size, kernel, stride, dilation, extra):
    """(before, after) for every axis, and the size of the result."""
    spans = [(n - 1) * s + (k - 1) * d + 1 + e
             for n, k, s, d, e in zip(size, kernel, stride, dilation, extra, strict=True)]  # fmt: skip
    if padding in ("same", "same_lower"):
        result = tuple(n * s for n, s in zip(size, stride, strict=True))
        return resolve_padding(padding, result, kernel, stride, dilation), result
    pairs = resolve_padding(padding, size, kernel, stride, dilation)
    return pairs, tuple(span - sum(pair) for span, pair in zip(spans, pairs, strict=True))


def scatter(input, weight, size, stride, dilation, groups):
    """Onto arrays of this size, and past it if need be."""
    batch, channels, *image = input.shape
    kernel = weight.shape[2:]
    grouped = weight.reshape(groups, channels // groups, *weight.shape[1:])
    pixels = input.reshape(batch, groups, channels // groups, math.prod(image))
    reach = [max(n, (i - 1) * s + (k - 1) * d + 1)
             for n, i, k, s, d in zip(size, image, kernel, stride, dilation, strict=True)]  # fmt: skip
    full = numpy.zeros((batch, groups * weight.shape[1], *reach), input.dtype)
    with numpy.errstate(all="ignore"):
        for tap in itertools.product(*map(range, kernel)):
            taps = grouped[(slice(None), slice(None), slice(None), *tap)]
            sums = numpy.einsum("ngcp,gck->ngkp", pixels, taps).reshape(batch, full.shape[1], *image)
            where = (slice(t * d, t * d + (i - 1) * s + 1, s)
                     for t, d, s, i in zip(tap, dilation, stride, image, strict=True))  # fmt: skip
            full[(slice(None), slice(None), *where)] += sums
    return full


def input_gradient(input_size, weight, grad_output, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    """Batched and channels first. What the border got goes to the elements that numpy.pad copies there."""
    dtype = result_type(weight, grad_output)
    weight, grad_output = (a.astype(dtype).astype(wide_type(dtype)) for a in (weight, grad_output))
    axes, size = weight.ndim - 2, input_size[2:]
    stride, dilation = per_axis(stride, axes), per_axis(dilation, axes)
    pairs = resolve_padding(padding, size, weight.shape[2:], stride, dilation)
    padded = [n + sum(pair) for n, pair in zip(size, pairs, strict=True)]
    full = scatter(grad_output, weight.conj(), padded, stride, dilation, groups)
    full = full[(slice(None), slice(None), *map(slice, padded))]
    sources = pad(numpy.arange(1, math.prod(size) + 1).reshape(size), pairs, padding_mode)
    result = numpy.zeros((*full.shape[:2], math.prod(size) + 1), full.dtype)
    numpy.add.at(result, (slice(None), slice(None), sources.ravel()), full.reshape(*full.shape[:2], math.prod(padded)))
    return result[..., 1:].reshape(input_size)  # the first gathered what fell on zeros


def weight_gradient(input, weight_size, grad_output, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    """Batched and channels first: for every tap, the product of the gradient with what the tap read."""
    dtype = result_type(input, grad_output)
    input, grad_output = (a.astype(dtype).astype(wide_type(dtype)) for a in (input, grad_output))
    axes, batch = len(weight_size) - 2, input.shape[0]
    stride, dilation = per_axis(stride, axes), per_axis(dilation, axes)
    pairs = resolve_padding(padding, input.shape[2:], weight_size[2:], stride, dilation)
    padded = pad(input, pairs, padding_mode).conj()
    size = grad_output.shape[2:]
    gradient = grad_output.reshape(batch, groups, weight_size[0] // groups, math.prod(size))
    result = numpy.empty((groups, weight_size[0] // groups, *weight_size[1:]), input.dtype)
    with numpy.errstate(all="ignore"):
        for tap in itertools.product(*map(range, weight_size[2:])):
            window = (slice(t * d, t * d + (o - 1) * s + 1, s)
                      for t, d, s, o in zip(tap, dilation, stride, size, strict=True))  # fmt: skip
            pixels = padded[(slice(None), slice(None), *window)].reshape(batch, groups, weight_size[1], math.prod(size))
            result[(slice(None), slice(None), slice(None), *tap)] = numpy.einsum("ngkp,ngcp->gkc", gradient, pixels)
    return result.reshape(weight_size)


def blas_is_safe(input, weight):
    """Some BLAS skip factors of zero, which would swallow 0 * NaN and 0 * infinity."""
    return input.dtype.char in "dD" and numpy.isfinite(input).all() and numpy.isfinite(weight).all()


def multiply_by_blas(pixels, weight):
    return numpy.matmul(weight, pixels)


def multiply_plainly(pixels, weight):
    return numpy.einsum("ngcp,gkc->ngkp", pixels, weight)


def activate(x, activation):
    if activation is None:
        return x
    name, *parameters = (activation,) if isinstance(activation, str) else activation
    zero = x.dtype.type(0)
    functions = {
        "relu": lambda: numpy.maximum(x, zero),
        "relu6": lambda: numpy.minimum(numpy.maximum(x, zero), 6),
        "clip": lambda low, high: numpy.minimum(numpy.maximum(x, low), high),
        "leaky_relu": lambda slope: numpy.where(x >= 0, x, x * slope),
        "sigmoid": lambda: 1 / (1 + numpy.exp(-x)),
        "tanh": lambda: numpy.tanh(x),
        "silu": lambda: x / (1 + numpy.exp(-x)),
        "hardswish": lambda: x * numpy.clip(x + 3, 0, 6) / 6,
    }
    return functions[name](*parameters)


def by_definition(input, weight, bias, stride, pairs, dilation, groups, padding_mode):
    """Python numbers, one loop an index, nothing clever. Batched, channels first, tuples for every argument."""
    padded = pad(input, pairs, padding_mode).astype(object)
    out_channels, group_channels, *kernel = weight.shape
    out = output_size(padded.shape[2:], kernel, stride, dilation)
    result = numpy.zeros((padded.shape[0], out_channels, *out), object)
    for n, k, *position in itertools.product(*map(range, result.shape)):
        first = k // (out_channels // groups) * group_channels
        total = 0 if bias is None else bias[k].item()
        for c, *tap in itertools.product(range(group_channels), *map(range, kernel)):
            where = (p * s + t * d for p, s, t, d in zip(position, stride, tap, dilation, strict=True))
            total += padded[(n, first + c, *where)] * weight[(k, c, *tap)].item()
        result[(n, k, *position)] = total
    return result


# --- comparing ---------------------------------------------------------------------------------------------------

TOLERANCE = {"e": 2e-3, "f": 2e-6, "d": 1e-14, "g": 1e-14, "F": 2e-6, "D": 1e-14, "G": 1e-14}
FAST_TOLERANCE = {**TOLERANCE, "f": 1e-5, "F": 1e-5, "d": 1e-12, "D": 1e-12}


def difference_exact(actual, expected):
    """None, or in words where the two differ. `expected` may still be in the wide type."""
    with numpy.errstate(all="ignore"):
        expected = expected.astype(actual.dtype)
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, expected {expected.shape}"
    wrong = ~((actual == expected) | ((actual != actual) & (expected != expected)))
    if not wrong.any():
        return None
    where = tuple(int(i) for i in numpy.argwhere(wrong)[0])
    return (f"{int(wrong.sum())} of {actual.size} differ, first at {where}: "
            f"{actual[where]!r}, expected {expected[where]!r}")  # fmt: skip


def difference_rounded(actual, expected, scale=None, tolerance=None):
    """None, or the largest error where it is more than `tolerance` of `scale` (the largest result)."""
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, expected {expected.shape}"
    if actual.size == 0:
        return None
    tolerance = TOLERANCE[actual.dtype.char] if tolerance is None else tolerance
    if scale is None:
        scale = numpy.abs(expected).max()
    error = numpy.abs(actual.astype(expected.dtype) - expected)
    if error.max() <= tolerance * scale:
        return None
    where = tuple(int(i) for i in numpy.argwhere(~(error <= tolerance * scale))[0])
    return (f"largest error {float(error.max()):.3g} with results up to {float(scale):.3g}, first at {where}: "
            f"{actual[where]!r}, expected {expected[where]!r}")  # fmt: skip


def size_of_sums(input, weight, bias=None, **arguments):
    """The largest sum of absolute products: the scale for rounding errors where sums cancel."""
    arguments = {**arguments, "activation": None}
    bias = None if bias is None else numpy.abs(bias)
    sums = convolve(numpy.abs(input), numpy.abs(weight), bias, **arguments)
    return numpy.abs(sums).max() if sums.size else 0
