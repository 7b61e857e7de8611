"""Convolution for NumPy: `conv1d`, `conv2d`, `conv3d` and `conv`, with the arguments of torch.nn.functional.

>>> import numpy, npconv
>>> npconv.conv2d(numpy.ones((1, 1, 3, 3)), numpy.ones((1, 1, 2, 2)))
array([[[[4., 4.],
         [4., 4.]]]])
"""

__version__ = "0.1.0"

from npconv.config import show_config
from npconv.folding import fold, unfold
from npconv.functional import Plan, conv, conv1d, conv2d, conv3d, explain
from npconv.layers import Conv1d, Conv2d, Conv3d
from npconv.options import get_options, options, set_options

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Plan",
    "__version__",
    "conv",
    "conv1d",
    "conv2d",
    "conv3d",
    "explain",
    "fold",
    "get_options",
    "options",
    "set_options",
    "show_config",
    "unfold",
]
