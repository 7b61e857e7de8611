"""torch as a contestant: plain tensors, tensors in channels_last order, and weights packed by its oneDNN."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import operations
import torch
from contestants import Prepared, Task

torch.inference_mode().__enter__()  # for the whole process: no peer should pay for gradients

LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
FUNCTIONS = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}
TRANSPOSED = {
    1: torch.nn.functional.conv_transpose1d,
    2: torch.nn.functional.conv_transpose2d,
    3: torch.nn.functional.conv_transpose3d,
}


def _tensors(task: Task) -> list[torch.Tensor | None]:
    torch.set_num_threads(task.threads)
    return [None if array is None else torch.from_numpy(array) for array in task.arrays]


def nchw(task: Task) -> Prepared:
    """A call on plain tensors, which share memory with the arrays."""
    if task.is_operation:
        return operation(task, *_tensors(task))
    return Prepared(partial(FUNCTIONS[task.row.axes], *_tensors(task), **task.settings), torch.Tensor.numpy)


def channels_last(task: Task) -> Prepared:
    """Input and weight converted beforehand; the result stays in that order too."""
    task.require(no_channels_last_order_of_one_axis=task.row.axes in LAST)
    task.require(moves_elements_in_the_plain_order=task.mode not in operations.MOVING)
    order = LAST[task.row.axes]
    if task.is_operation:
        return operation(task, *(t if t is None or t.ndim < 3 else t.to(memory_format=order) for t in _tensors(task)))
    input, weight, bias = _tensors(task)
    input, weight = input.to(memory_format=order), weight.to(memory_format=order)
    return Prepared(partial(FUNCTIONS[task.row.axes], input, weight, bias, **task.settings), torch.Tensor.numpy)


def packed(task: Task) -> Prepared:
    """What torch.compile runs after freezing: weights in oneDNN's own order, input in channels_last."""
    row = task.row
    task.require(packs_no_weights_of_one_axis=row.axes in LAST)
    input, weight, bias = _tensors(task)
    settings = [*row.padding], [*row.stride], [*row.dilation], row.groups
    reorder = getattr(torch._C._nn, f"mkldnn_reorder_conv{row.axes}d_weight")
    weight = reorder(weight.to_mkldnn(), *settings, [*row.input])
    input = input.to(memory_format=LAST[row.axes])
    convolve = torch.ops.mkldnn._convolution_pointwise.default
    return Prepared(partial(convolve, input, weight, bias, *settings, "none", [], ""), torch.Tensor.numpy)


def operation(task: Task, first: torch.Tensor, second: torch.Tensor | None, third: torch.Tensor | None) -> Prepared:
    """Transposed convolution, a gradient, or columns; of several ways to have it, the fastest here."""
    row, settings = task.row, task.settings
    if task.mode in operations.MOVING:
        return _columns(task, first)
    transposed = partial(TRANSPOSED[row.axes], output_padding=operations.output_padding(row), **settings)
    if task.mode == "transposed":
        return Prepared(partial(transposed, first, second, third), torch.Tensor.numpy)
    wanted = [task.mode == "grad-input", task.mode == "grad-weight", False]
    weight, grad = (first, second) if wanted[0] else (_stand_in(first, row.weight), second)
    input = _stand_in(grad, row.input) if wanted[0] else first
    steps = row.stride, row.padding, row.dilation, False, (0,) * row.axes, row.groups
    backward = partial(torch.ops.aten.convolution_backward, grad, input, weight, None, *steps, wanted)
    if wanted[1]:
        return Prepared(backward, lambda result: result[1].numpy())
    return _fastest(
        Prepared(backward, lambda result: result[0].numpy()),
        Prepared(partial(transposed, grad, weight), torch.Tensor.numpy),
    )


def _stand_in(like: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor whose numbers do not matter, as torch.nn.grad makes it."""
    return like.new_empty(1).expand(shape)


def _fastest(*ways: Prepared) -> Prepared:
    def seconds(way: Prepared) -> float:
        way.call()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            way.call()
            times.append(time.perf_counter() - start)
        return min(times)

    return min(ways, key=seconds)


def _columns(task: Task, tensor: torch.Tensor) -> Prepared:
    """torch unfolds two axes; one is taken as a single row, more are refused."""
    row = task.row
    task.require(unfolds_two_axes_only=row.axes <= 2)
    more = 2 - row.axes
    windows: dict[str, Any] = {name: (0 if name == "padding" else 1,) * more + getattr(row, name)
                               for name in ("padding", "stride", "dilation")}  # fmt: skip
    windows["kernel_size"] = (1,) * more + row.weight[2:]
    image, shape = (1,) * more + row.input[2:], operations.result_shape(row, task.mode)
    call: Callable[[], torch.Tensor]
    if task.mode == "unfold":
        call = partial(torch.nn.functional.unfold, tensor.reshape(*row.input[:2], *image), **windows)
    else:
        call = partial(torch.nn.functional.fold, tensor, image, **windows)
    return Prepared(call, lambda result: result.numpy().reshape(shape))
