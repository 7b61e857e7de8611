"""Convolution for NumPy, its transpose and its gradients, with the arguments of torch.nn.functional.

>>> import numpy, npconv
>>> npconv.conv2d(numpy.ones((1, 1, 3, 3)), numpy.ones((1, 1, 2, 2)))
array([[[[4., 4.],
         [4., 4.]]]])
"""

__version__ = "0.1.0"

from npconv import grad
from npconv.causal import CausalConv1d
from npconv.config import show_config
from npconv.folding import fold, unfold
from npconv.functional import Plan, conv, conv1d, conv2d, conv3d, explain
from npconv.layers import Conv1d, Conv2d, Conv3d
from npconv.options import get_options, options, set_options
from npconv.transposed import (
    conv_transpose,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    explain_transpose,
)
from npconv.transposed_layers import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

__all__ = [
    "CausalConv1d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Plan",
    "__version__",
    "conv",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "explain",
    "explain_transpose",
    "fold",
    "get_options",
    "grad",
    "options",
    "set_options",
    "show_config",
    "unfold",
]
