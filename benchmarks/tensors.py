"""torch as a contestant: plain tensors, tensors in channels_last order, and weights packed by its oneDNN."""

from __future__ import annotations

from functools import partial

import torch
from contestants import Prepared, Task

torch.inference_mode().__enter__()  # for the whole process: no peer should pay for gradients

LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
FUNCTIONS = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}


def _tensors(task: Task) -> list[torch.Tensor | None]:
    torch.set_num_threads(task.threads)
    return [None if array is None else torch.from_numpy(array) for array in task.arrays]


def nchw(task: Task) -> Prepared:
    """A call on plain tensors, which share memory with the arrays."""
    return Prepared(partial(FUNCTIONS[task.row.axes], *_tensors(task), **task.settings), torch.Tensor.numpy)


def channels_last(task: Task) -> Prepared:
    """Input and weight converted beforehand; the result stays in that order too."""
    task.require(no_channels_last_order_of_one_axis=task.row.axes in LAST)
    input, weight, bias = _tensors(task)
    order = LAST[task.row.axes]
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


def exact(task: Task) -> torch.Tensor:
    """The result in float64."""
    input, weight, bias = (None if t is None else t.double() for t in _tensors(task))
    return FUNCTIONS[task.row.axes](input, weight, bias, **task.settings)
