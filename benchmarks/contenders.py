"""Contenders of the engine: standard networks as ONNX graphs, and the same network in spiking libraries.

Weights are random: how long a dense network takes does not depend on their values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.export.ann_graph import AnyAnn, build
from training.network.ann import AnnTwin, LeNet5, MnistCnn
from training.network.spiking import CLASSES, NetworkConfig, with_neighbours

Run = Callable[[], Any]
Fire = Callable[[Tensor], Tensor]
"""LIF neurons over all time steps: currents [T, ...] -> spikes [T, ...]."""


def _graph(network: AnyAnn, name: str) -> bytes:
    return bytes(build(network.eval(), name, counting=False)[0].SerializeToString())


def lenet5() -> bytes:
    """LeNet-5."""
    return _graph(LeNet5(), "lenet5")


def mnist_cnn() -> bytes:
    """The network of PyTorch's MNIST example."""
    return _graph(MnistCnn(), "mnist-cnn")


def ann_twin(config: NetworkConfig) -> bytes:
    """The spiking network's shape with ReLU and softmax attention."""
    return _graph(AnnTwin(config), "ann-twin")


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
        return int(run.run(None, {"intensities": scaled})[0].argmax())

    return classify


class SpikingShape(nn.Module):
    """The shipped network's shape, for LIF neurons of any library. `fire[i]` are the neurons of layer i.

    Convolutions and matrices see all time steps at once, as these libraries advise.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        first, second = config.stem
        size, hidden = config.channels, config.channels * config.mlp_ratio
        self.config = config
        self.stem: Any = nn.ModuleList(
            [
                nn.Conv2d(1, first, 5, 2, 2),
                nn.Conv2d(first, second, 3, 1, 1),
                nn.Conv2d(second, size, 3, 2, 1),
            ]
        )
        roles = ("query", "key", "value", "projection")
        self.attends = [config.attends(1 + i) for i in range(config.blocks)]
        self.blocks: Any = nn.ModuleList(
            nn.ModuleDict(
                {name: nn.Linear(size, size) for name in roles if attends}
                | {"expand": nn.Linear(size, hidden), "contract": nn.Linear(hidden, size)}
            )
            for attends in self.attends
        )
        self.readout = nn.Linear(config.tokens * size, CLASSES)

    @property
    def layers(self) -> int:
        """Layers of neurons."""
        return 2 + sum(7 if attends else 2 for attends in self.attends) + 1

    @torch.no_grad()
    def run(self, trains: Tensor, fire: Sequence[Fire]) -> int:
        """trains [T, 1, 28, 28] -> class."""
        layer = iter(fire)
        config = self.config

        def read(stream: Tensor) -> Tensor:
            x = next(layer)(stream)
            return with_neighbours(x) if config.neighbours else x

        x = next(layer)(self.stem[0](trains))  # [T, C1, 14, 14]
        x = next(layer)(self.stem[1](x))
        stream = self.stem[2](x).flatten(2).transpose(1, 2)  # [T, L, C]
        for block, attends in zip(self.blocks, self.attends, strict=True):
            if attends:
                x = read(stream)
                q, k, v = (
                    next(layer)(block[role](x)).unflatten(-1, (config.heads, -1)).transpose(1, 2)
                    for role in ("query", "key", "value")
                )
                counts = (q @ (k.transpose(-1, -2) @ v)).transpose(1, 2).flatten(2)
                stream = stream + block["projection"](next(layer)(counts))
            stream = stream + block["contract"](next(layer)(block["expand"](read(stream))))
        potential = self.readout(next(layer)(stream).flatten(1)).sum(0)
        return int(potential.argmax())


def snntorch_neurons(count: int) -> tuple[str, list[Fire]] | None:
    """snnTorch's; None if it is not installed."""
    try:
        import snntorch
    except ImportError:
        return None

    def one() -> Fire:
        neuron = snntorch.Leaky(beta=0.5, reset_mechanism="zero")

        def fire(currents: Tensor) -> Tensor:
            v, spikes = neuron.init_leaky(), []
            for current in currents:
                spike, v = neuron(current, v)
                spikes.append(spike)
            return torch.stack(spikes)

        return fire

    return f"snnTorch {snntorch.__version__}", [one() for _ in range(count)]


def spikingjelly_neurons(count: int) -> tuple[str, list[Fire]] | None:
    """SpikingJelly's, all time steps in one call; None if it is not installed."""
    try:
        from importlib.metadata import version

        from spikingjelly.activation_based import neuron
    except ImportError:
        return None

    def one() -> Fire:
        node = neuron.LIFNode(tau=2.0, decay_input=False, v_reset=0.0, step_mode="m").eval()

        def fire(currents: Tensor) -> Tensor:
            node.reset()
            spikes: Tensor = node(currents)
            return spikes

        return fire

    return f"SpikingJelly {version('spikingjelly')}", [one() for _ in range(count)]


def spiking_libraries(config: NetworkConfig, steps: int) -> dict[str, Run]:
    """The same network for T steps, one image, in each spiking library that is installed."""
    network = SpikingShape(config).eval()
    trains = (torch.rand(steps, 1, 28, 28) < 0.12).float()
    found: dict[str, Run] = {}
    for neurons in (snntorch_neurons(network.layers), spikingjelly_neurons(network.layers)):
        if neurons is not None:
            name, fire = neurons

            def run(fire: Sequence[Fire] = fire) -> int:
                return network.run(trains, fire)

            found[f"{name}, {steps} steps"] = run
    return found
