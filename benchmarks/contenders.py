"""What the engine is measured against: standard networks as ONNX graphs, and the same network in a spiking library.

Weights are random: how long a dense network takes does not depend on their values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
Run = Callable[[], Any]


class Graph:
    """Collects nodes with random weights; every layer's output feeds the next."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)
        self.last = "image"
        self._count = 0

    def constant(self, values: NDArray[Any]) -> str:
        self._count += 1
        name = f"w{self._count}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, *shape: int) -> str:
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """A node on the last output (or on the inputs named); its output becomes the last."""
        self._count += 1
        output = f"x{self._count}"
        self.nodes.append(helper.make_node(operator, list(inputs) or [self.last], [output], **attributes))
        self.last = output
        return output

    def convolution(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> Graph:
        self.add(
            "Conv",
            self.last,
            self.weight(outputs, inputs, kernel, kernel),
            self.weight(outputs),
            strides=[stride] * 2,
            pads=[padding] * 4,
        )
        return self

    def linear(self, inputs: int, outputs: int) -> Graph:
        self.add("Gemm", self.last, self.weight(outputs, inputs), self.weight(outputs), transB=1)
        return self

    def matrix(self, x: str, inputs: int, outputs: int) -> str:
        """A linear layer on tokens [1, L, inputs]."""
        return self.add("Add", self.add("MatMul", x, self.weight(inputs, outputs)), self.weight(outputs))

    def relu(self) -> Graph:
        self.add("Relu")
        return self

    def pool(self) -> Graph:
        self.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        return self

    def flatten(self) -> Graph:
        self.add("Flatten")
        return self

    def serialised(self) -> bytes:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 28, 28])
        answer = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, [1, 10])
        graph = helper.make_graph(self.nodes, self.name, [image], [answer], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def lenet5() -> bytes:
    """LeNet-5 (LeCun et al., 1998) with ReLU and max pooling."""
    graph = Graph("lenet5").convolution(1, 6, 5, padding=2).relu().pool().convolution(6, 16, 5).relu().pool()
    return graph.flatten().linear(400, 120).relu().linear(120, 84).relu().linear(84, 10).serialised()


def mnist_cnn() -> bytes:
    """The network of PyTorch's MNIST example: two convolutions of 3x3, two linear layers, no dropout at inference."""
    graph = Graph("mnist-cnn").convolution(1, 32, 3).relu().convolution(32, 64, 3).relu().pool()
    graph.flatten().linear(9216, 128).relu().linear(128, 10)
    graph.add("LogSoftmax", axis=1)
    return graph.serialised()


def ann_twin(
    stem: tuple[int, int] = (32, 32),
    channels: int = 64,
    blocks: int = 2,
    heads: int = 4,
    hidden: int = 128,
) -> bytes:
    """The spiking network's shape with ReLU and softmax attention, batch normalisation folded."""
    graph = Graph("ann-twin")
    graph.convolution(1, stem[0], 5, 2, 2).relu().convolution(stem[0], stem[1], 3, 1, 1).relu()
    graph.convolution(stem[1], channels, 3, 2, 1)
    flat = graph.add("Reshape", graph.last, graph.constant(np.array([1, channels, 49], np.int64)))
    stream = graph.add("Transpose", flat, perm=[0, 2, 1])
    shape = graph.constant(np.array([1, 49, heads, channels // heads], np.int64))
    merged = graph.constant(np.array([1, 49, channels], np.int64))
    scale = graph.constant(np.array((channels // heads) ** -0.5, np.float32))
    for _ in range(blocks):
        x = graph.add("Relu", stream)
        roles = []
        for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            role = graph.matrix(x, channels, channels)
            roles.append(graph.add("Transpose", graph.add("Reshape", role, shape), perm=order))
        scores = graph.add(
            "Softmax", graph.add("Mul", graph.add("MatMul", roles[0], roles[1]), scale), axis=-1
        )
        mixed = graph.add("Transpose", graph.add("MatMul", scores, roles[2]), perm=[0, 2, 1, 3])
        mixed = graph.add("Reshape", mixed, merged)
        stream = graph.add("Add", stream, graph.matrix(mixed, channels, channels))
        x = graph.add("Relu", graph.matrix(graph.add("Relu", stream), channels, hidden))
        stream = graph.add("Add", stream, graph.matrix(x, hidden, channels))
    graph.add("Relu", stream)
    return graph.flatten().linear(49 * channels, 10).serialised()


def session(graph: bytes) -> onnxruntime.InferenceSession:
    """On one thread, as all contenders are."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def dense(graph: bytes, image: NDArray[np.uint8]) -> Run:
    """One image through a dense network: bytes to floats, and the answer's class."""
    run = session(graph)

    def classify() -> int:
        scaled = (image.astype(np.float32) * np.float32(1 / 255)).reshape(1, 1, 28, 28)
        return int(run.run(None, {"image": scaled})[0].argmax())

    return classify


def spiking_library(steps: int) -> tuple[str, Run] | None:
    """The same network for T steps in snnTorch, one image; None where snnTorch is not installed."""
    try:
        import snntorch
    except ImportError:
        return None
    import torch
    from torch import nn

    class Network(nn.Module):
        """The shipped network's shape with snnTorch's LIF neurons."""

        def __init__(self) -> None:
            super().__init__()
            self.stem: Any = nn.ModuleList(
                [nn.Conv2d(1, 32, 5, 2, 2), nn.Conv2d(32, 32, 3, 1, 1), nn.Conv2d(32, 64, 3, 2, 1)]
            )
            names = ("query", "key", "value", "projection")
            self.blocks: Any = nn.ModuleList(
                nn.ModuleDict(
                    {name: nn.Linear(64, 64) for name in names}
                    | {"expand": nn.Linear(64, 128), "contract": nn.Linear(128, 64)}
                )
                for _ in range(2)
            )
            self.readout = nn.Linear(49 * 64, 10)
            self.neurons: Any = nn.ModuleList(
                snntorch.Leaky(beta=0.5, reset_mechanism="zero") for _ in range(17)
            )

        def step(self, x: torch.Tensor, state: list[torch.Tensor]) -> torch.Tensor:
            number = 0

            def fire(current: torch.Tensor) -> torch.Tensor:
                nonlocal number
                spikes: torch.Tensor
                spikes, state[number] = self.neurons[number](current, state[number])
                number += 1
                return spikes

            x = fire(self.stem[1](fire(self.stem[0](x))))
            stream = self.stem[2](x).flatten(2).transpose(1, 2)  # [1, 49, 64]
            for block in self.blocks:
                x = fire(stream)
                q, k, v = (
                    fire(block[role](x)).view(1, 49, 4, 16).transpose(1, 2)
                    for role in ("query", "key", "value")
                )
                counts = (q @ (k.transpose(-1, -2) @ v)).transpose(1, 2).reshape(1, 49, 64)
                stream = stream + block["projection"](fire(counts))
                stream = stream + block["contract"](fire(block["expand"](fire(stream))))
            potential: torch.Tensor = self.readout(fire(stream).flatten(1))
            return potential

        @torch.no_grad()
        def run(self, trains: torch.Tensor) -> int:
            state: list[torch.Tensor] = [neuron.init_leaky() for neuron in self.neurons]
            potential = torch.zeros(1, 10)
            for x in trains:
                potential = potential + self.step(x, state)
            return int(potential.argmax())

    network = Network().eval()
    trains = (torch.rand(steps, 1, 1, 28, 28) < 0.12).float()
    return f"snnTorch {snntorch.__version__}", lambda: network.run(trains)
