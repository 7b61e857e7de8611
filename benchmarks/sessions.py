"""ONNX Runtime, OpenVINO and ncnn as contestants: a model of one layer, its weights packed when it is loaded."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy
from contestants import Prepared, Task


def onnx_model(task: Task) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    row = task.row
    constants = dict(zip("wb", task.arrays[1:], strict=True))
    node = helper.make_node(
        "Conv",
        ["x", *(name for name, array in constants.items() if array is not None)],
        ["y"],
        strides=row.stride,
        pads=row.padding * 2,
        dilations=row.dilation,
        group=row.groups,
    )
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, row.input)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, row.output)],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if array is not None],
    )
    # Versions that any runtime of recent years reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def onnx_session(task: Task):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(onnx_model(task), options, ["CPUExecutionProvider"])


def onnxruntime(task: Task) -> Prepared:
    """Arrays in, arrays out."""
    session = onnx_session(task)
    return Prepared(partial(session.run, ["y"], {"x": task.arrays[0]}), lambda result: result[0])


def onnxruntime_bound(task: Task) -> Prepared:
    """The input bound beforehand and the result left inside: the least that a call can cost."""
    import onnxruntime

    session = onnx_session(task)
    value = onnxruntime.OrtValue.ortvalue_from_numpy(task.arrays[0])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", value)
    binding.bind_output("y")
    run = partial(session.run_with_iobinding, binding)
    run.keep = value, task.arrays[0]  # the binding points into memory that it does not own
    return Prepared(run, lambda _: binding.copy_outputs_to_cpu()[0])


def openvino(task: Task) -> Prepared:
    """The input shared and the result left in the request's own memory."""
    import openvino as ov
    from openvino import opset13 as opset

    row, (array, weight, bias) = task.row, task.arrays
    settings = [*row.stride], [*row.padding], [*row.padding], [*row.dilation]
    x = opset.parameter(row.input, numpy.float32)
    if row.groups == 1:
        y = opset.convolution(x, opset.constant(weight), *settings)
    else:
        grouped = weight.reshape(row.groups, row.weight[0] // row.groups, *row.weight[1:])
        y = opset.group_convolution(x, opset.constant(grouped), *settings)
    if bias is not None:
        y = opset.add(y, opset.constant(bias.reshape(1, -1, *(1,) * row.axes)))
    properties = {
        "INFERENCE_NUM_THREADS": task.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # some processors would get bfloat16
    }
    request = ov.Core().compile_model(ov.Model([y], [x], "layer"), "CPU", properties).create_infer_request()
    tensor = ov.Tensor(array, shared_memory=True)
    request.set_input_tensor(tensor)
    run = partial(request.infer, share_outputs=True)
    run.keep = tensor, array  # the request points into memory that it does not own
    return Prepared(run, lambda _: request.get_output_tensor().data.copy())


# The first is the x of an axis, the next its y and z, as ncnn numbers the parameters of a layer.
NCNN_PARAMETERS = {"kernel": (1, 11, 21), "dilation": (2, 12, 22), "stride": (3, 13, 23), "padding": (4, 14, 24)}


def ncnn_layer(task: Task) -> str:
    """The layer's line in ncnn's text format."""
    row = task.row
    kind = "Convolution" if row.groups == 1 else "ConvolutionDepthWise"
    kind += {1: "1D", 2: "", 3: "3D"}[row.axes]
    values = {0: row.weight[0], 5: int(row.bias), 6: task.arrays[1].size}
    if row.groups > 1:
        values[7] = row.groups
    for name, keys in NCNN_PARAMETERS.items():
        sizes = row.weight[2:] if name == "kernel" else getattr(row, name)
        values.update(zip(keys, reversed(sizes), strict=False))  # x is the last axis of an array
    parameters = " ".join(f"{key}={value}" for key, value in values.items())
    return f"{kind} layer 1 1 x y {parameters}"


def ncnn_net(task: Task):
    import ncnn as library

    _, weight, bias = task.arrays
    net = library.Net()
    net.opt.num_threads = task.threads
    net.opt.use_vulkan_compute = False
    for kind in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
        if hasattr(net.opt, f"use_{kind}"):
            setattr(net.opt, f"use_{kind}", False)
    with tempfile.TemporaryDirectory() as folder:
        text, binary = Path(folder, "layer.param"), Path(folder, "layer.bin")
        text.write_text(f"7767517\n2 2\nInput input 0 1 x\n{ncnn_layer(task)}\n")
        # Four zero bytes say that float32 weights follow.
        binary.write_bytes(bytes(4) + weight.tobytes() + (b"" if bias is None else bias.tobytes()))
        if net.load_param(str(text)) or net.load_model(str(binary)):
            raise RuntimeError("ncnn does not load the layer")
    return net


def ncnn(task: Task) -> Prepared:
    """An extractor a call, as ncnn wants it; batches do not exist there."""
    import ncnn as library

    row = task.row
    task.require(no_batches=row.input[0] == 1)
    net = ncnn_net(task)
    mat = library.Mat(task.arrays[0][0]).clone()  # the copy is aligned as ncnn likes it

    def call():
        extractor = net.create_extractor()
        extractor.input("x", mat)
        status, result = extractor.extract("y")
        if status:
            raise RuntimeError(f"ncnn returned {status}")
        return result

    return Prepared(call, lambda result: numpy.array(result).reshape(row.output), close=net.clear)
