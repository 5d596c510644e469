"""A conventional network as an ONNX graph with the interface of a spiking one, so that the service can answer with it.

    inputs   intensities [N, 1, 28, 28], uniforms [N, 10]
    outputs  potential [N, 10] (logits in multiples of `POTENTIAL_UNIT`), spike_probability, output_spikes,
             spikes.<layer> (which values of a layer are not 0)

One time step, no state. A `Description` says what a card needs to know: layers, fan-outs, products.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import TensorProto
from spikehead.model.card import FanOut, Layer, synapses_of
from torch import Tensor, nn

from training.export.graph import Builder, as_numpy, checked_model, value
from training.network.ann import AnnTwin, LeNet5, MnistCnn, Normalised, TwinBlock
from training.network.layers import windows
from training.network.spiking import CLASSES, SIDE, NetworkConfig

POTENTIAL_UNIT = 2.0**-12
AnyAnn = AnnTwin | LeNet5 | MnistCnn


@dataclass
class Description:
    """The layers as a card describes them: shape without batch, and fan-out (`spikehead.model.card.FanOut`)."""

    shapes: dict[str, list[int]] = field(default_factory=lambda: {"input": [1, SIDE, SIDE]})
    fan_outs: dict[str, dict[str, Any]] = field(default_factory=dict)
    fixed_multiply_accumulates: int = 0

    @property
    def dense_multiply_accumulates(self) -> int:
        """Products of an image if no value were 0."""
        layers = [
            Layer(name=name, shape=shape, fan_out=FanOut(**self.fan_outs[name]))
            for name, shape in self.shapes.items()
            if name != "output"
        ]
        return sum(synapses_of(layer) for layer in layers) + self.fixed_multiply_accumulates


class AnnBuilder(Builder):
    """Adds layers one after the other; `x` is the last output, `layer` the values that come next to be weighed."""

    def __init__(self, counting: bool) -> None:
        super().__init__()
        self.counting = counting
        self.described = Description()
        self.x, self.layer, self.shape = "intensities", "input", [1, SIDE, SIDE]

    def _weights(self, name: str, weight: Tensor, bias: Tensor) -> list[str]:
        return [
            self.constant(f"{name}.weight", as_numpy(weight)),
            self.constant(f"{name}.bias", as_numpy(bias)),
        ]

    def convolution(self, name: str, weight: Tensor, bias: Tensor, stride: int, padding: int) -> None:
        attributes = {"pads": [padding] * 4, "strides": [stride, stride]}
        self.x = self.node("Conv", [self.x, *self._weights(name, weight, bias)], f"{name}.sum", **attributes)
        outputs, _, kernel, _ = weight.shape
        (height, rows), (width, columns) = (windows(side, kernel, stride, padding) for side in self.shape[1:])
        self.described.fan_outs[self.layer] = {"targets": outputs, "rows": rows, "columns": columns}
        self.shape = [outputs, height, width]

    def linear(self, name: str, weight: Tensor, bias: Tensor) -> None:
        """Weigh features [N, F]."""
        self.x = self.node("Gemm", [self.x, *self._weights(name, weight, bias)], f"{name}.sum", transB=1)
        self.driven(weight)
        self.shape = [len(weight)]

    def driven(self, weight: Tensor) -> None:
        """Note that the present layer drives these synapses, a matrix, at each of its places."""
        known = self.described.fan_outs.setdefault(self.layer, {"targets": 0})
        known["targets"] += len(weight)

    def matrix(self, name: str, x: str, synapses: Normalised) -> str:
        """Weigh tokens [N, L, C]."""
        weight, bias = synapses.folded()
        names = self._weights(name, weight.T, bias)
        product = self.node("MatMul", [x, names[0]], f"{name}.product")
        return self.node("Add", [product, names[1]], f"{name}.current")

    def named(self, layer: str) -> None:
        """Count the present values: they are those of a layer."""
        self.layer = layer
        self.described.shapes[layer] = list(self.shape)
        if self.counting:
            zero = self.number(0)
            active = self.node("Greater", [self.x, zero], f"{layer}.active")
            self.node("Cast", [active], f"spikes.{layer}", to=TensorProto.FLOAT)
            self.spiking[layer] = list(self.shape)

    def relu(self, name: str) -> None:
        self.x = self.node("Relu", [self.x], f"{name}.relu")


def build(network: AnyAnn, name: str, counting: bool = True) -> tuple[onnx.ModelProto, Description]:
    """Build the graph and its description. Without `counting`, the graph computes `potential` alone."""
    graph = AnnBuilder(counting)
    if isinstance(network, AnnTwin):
        _twin(graph, network)
    else:
        _sequence(graph, network.layers)
    described = graph.described
    described.shapes["output"] = [CLASSES]
    described.fan_outs["output"] = {"targets": 1}
    logits = graph.x
    if not counting:
        graph.node("Identity", [logits], "potential")
        return _model(graph, name), described
    scaled = graph.node("Mul", [logits, graph.number(1 / POTENTIAL_UNIT)], "potential.scaled")
    whole = graph.node("Round", [scaled], "potential")
    back = graph.node("Mul", [whole, graph.number(POTENTIAL_UNIT)], "potential.logits")
    p = graph.node("Sigmoid", [back], "spike_probability")
    fires = graph.node("Less", ["uniforms", p], "output.fires")
    graph.node("Cast", [fires], "output_spikes", to=TensorProto.FLOAT)
    return _model(graph, name), described


def _sequence(graph: AnnBuilder, layers: nn.Sequential) -> None:
    """Add convolutions, ReLU, pooling, linear layers. Dropout does nothing any more."""
    parts = [part for part in layers if not isinstance(part, nn.Dropout)]
    number = 0
    for position, part in enumerate(parts):
        if isinstance(part, nn.Conv2d | nn.Linear):
            number += 1
            assert part.bias is not None
            name = f"layer{number}"
            if isinstance(part, nn.Conv2d):
                stride, padding = int(part.stride[0]), int(part.padding[0])
                graph.convolution(name, part.weight, part.bias, stride, padding)
            else:
                graph.linear(name, part.weight, part.bias)
        elif isinstance(part, nn.ReLU):
            graph.relu(f"layer{number}")
            if not isinstance(parts[position + 1], nn.MaxPool2d):
                graph.named(f"layer{number}")
        elif isinstance(part, nn.MaxPool2d):
            graph.x = graph.node("MaxPool", [graph.x], f"pool{number}", kernel_shape=[2, 2], strides=[2, 2])
            graph.shape = [graph.shape[0], graph.shape[1] // 2, graph.shape[2] // 2]
            graph.named(f"layer{number}")
        else:
            assert isinstance(part, nn.Flatten)
            graph.x = graph.node("Flatten", [graph.x], "flat")


def _twin(graph: AnnBuilder, network: AnnTwin) -> None:
    config = network.config
    tokens, channels = config.tokens, config.channels

    def convolution(name: str, synapses: Normalised) -> None:
        assert isinstance(synapses.weight, nn.Conv2d)
        stride, padding = int(synapses.weight.stride[0]), int(synapses.weight.padding[0])
        graph.convolution(name, *synapses.folded(), stride, padding)

    convolution("stem1", network.stem1)
    graph.relu("stem1")
    graph.named("stem1")
    convolution("stem2", network.stem2)
    graph.relu("stem2")
    graph.named("stem2")
    convolution("stem3", network.stem3)
    stream = graph.tokens(graph.x, "stem3", config)
    if config.position:
        place = graph.constant("position", as_numpy(network.position))
        stream = graph.node("Add", [stream, place], "stem3.placed")

    def activate(layer: str, x: str, width: int) -> str:
        graph.x, graph.shape = x, [tokens, width]
        graph.relu(layer)
        graph.named(layer)
        return graph.x

    for number, block in enumerate(network.blocks, 1):
        assert isinstance(block, TwinBlock)
        name = f"block{number}"
        if block.attends:
            x = activate(f"{name}.attention_in", stream, channels)
            x = graph.seen(x, f"{name}.attention_in", config)
            for role in (block.query, block.key, block.value):
                graph.driven(role.weight.weight)
            attended = _attention(graph, name, block, x, config)
            projected = graph.matrix(f"{name}.projection", attended, block.projection)
            stream = graph.node("Add", [stream, projected], f"{name}.attended")
            # Q K^T, its product with V, and the projection of the mean: none of their factors is ever 0.
            products = 2 * tokens * tokens * channels + tokens * channels**2
            graph.described.fixed_multiply_accumulates += products
        x = graph.seen(activate(f"{name}.mlp_in", stream, channels), f"{name}.mlp_in", config)
        graph.driven(block.expand.weight.weight)
        hidden = graph.matrix(f"{name}.expand", x, block.expand)
        x = activate(f"{name}.mlp_hidden", hidden, channels * config.mlp_ratio)
        graph.driven(block.contract.weight.weight)
        added = graph.matrix(f"{name}.contract", x, block.contract)
        stream = graph.node("Add", [stream, added], f"{name}.out")
    graph.x = activate("tokens", stream, channels)
    graph.x = graph.node("Flatten", [graph.x], "tokens.flat")
    graph.driven(network.readout.weight)
    names = graph._weights("readout", network.readout.weight, network.readout.bias)
    graph.x = graph.node("Gemm", [graph.x, *names], "readout.sum", transB=1)


def _attention(graph: AnnBuilder, name: str, block: TwinBlock, x: str, config: NetworkConfig) -> str:
    by_head, merged = graph.token_shapes(config)
    heads = {}
    for role, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        current = graph.matrix(f"{name}.{role}", x, getattr(block, role))
        split = graph.node("Reshape", [current, by_head], f"{name}.{role}.split")
        heads[role] = graph.node("Transpose", [split], f"{name}.{role}.heads", perm=order)
    products = graph.node("MatMul", [heads["query"], heads["key"]], f"{name}.products")
    width = config.channels // config.heads
    scaled = graph.node("Mul", [products, graph.number(width**-0.5)], f"{name}.scaled")
    weights = graph.node("Softmax", [scaled], f"{name}.weights", axis=-1)
    mean = graph.node("MatMul", [weights, heads["value"]], f"{name}.mean")
    together = graph.node("Transpose", [mean], f"{name}.mean.split", perm=[0, 2, 1, 3])
    return graph.node("Reshape", [together, merged], f"{name}.mean.tokens")


def _model(graph: AnnBuilder, name: str) -> onnx.ModelProto:
    inputs, outputs = [value("intensities", [1, SIDE, SIDE])], [value("potential", [CLASSES])]
    if graph.counting:
        inputs.append(value("uniforms", [CLASSES]))
        outputs += [value(tensor, [CLASSES]) for tensor in ("spike_probability", "output_spikes")]
        outputs += [value(f"spikes.{layer}", shape) for layer, shape in graph.spiking.items()]
    return checked_model(graph, name, inputs, outputs)
