"""The step graph: one time step of a trained network as ONNX, plain standard operators on whole numbers.

    inputs   spikes [N, 1, 28, 28], uniforms [N, 10], state.* (start at 0)
    outputs  potential, spike_probability, output_spikes [N, 10], next_state.*, spikes.<layer>

Weights are stored as int8 and cast to float32 on the way in: the values are the same integers, and
float32 computes with them exactly because everything stays below 2**24 (`Builder.bounds` proves it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.network.neurons import EXACT_LIMIT, probability_table, round_nearest, table_shift
from training.network.spiking import (
    CLASSES,
    SIDE,
    Block,
    GLMNetwork,
    Membrane,
    SpikingNetwork,
    SpikingTransformer,
    Synapses,
    with_neighbours,
)

OPSET = 17
IR_VERSION = 9


class ExportError(RuntimeError):
    """The network cannot be exported. The message says what was expected and what came."""


class Builder:
    """Collects nodes, weights, states and outputs, and a bound on every integer it computes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.states: dict[str, list[int]] = {}
        self.spiking: dict[str, list[int]] = {}
        self.outputs: list[onnx.ValueInfoProto] = []
        self.bounds: dict[str, float] = {}

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(f"number.{value!r}", np.array(value, np.float32))

    def weights(self, name: str, values: NDArray[np.float32]) -> str:
        """int8 in the file, float32 in the graph."""
        self.constant(name + ".int8", values.astype(np.int8))
        return self.node("Cast", [name + ".int8"], name, to=TensorProto.FLOAT)

    def state(self, name: str, shape: list[int]) -> str:
        self.states[f"state.{name}"] = shape
        return f"state.{name}"

    def leaked(self, state: str, shift: int, name: str) -> str:
        """state - floor(state / 2**shift)."""
        lost = self.node(
            "Floor", [self.node("Mul", [state, self.number(2.0**-shift)], f"{name}.part")], f"{name}.lost"
        )
        return self.node("Sub", [state, lost], f"{name}.leaked")

    def bound(self, name: str, value: float) -> None:
        if value >= EXACT_LIMIT:
            raise ExportError(f"expected all values of {name} below 2**24, got a bound of {value:g}")
        self.bounds[name] = value

    def with_neighbours(self, spikes: str, layer: str, tokens: int, channels: int) -> str:
        """`training.network.spiking.with_neighbours`: a permutation of all values of a layer of tokens."""
        places = torch.arange(tokens * channels).view(tokens, channels)
        order = self.constant("neighbours", with_neighbours(places).flatten().numpy())
        row = self.constant("shape.flat", np.array([0, tokens * channels], np.int64))
        flat = self.node("Reshape", [spikes, row], f"{layer}.row")
        moved = self.node("Gather", [flat, order], f"{layer}.moved", axis=1)
        merged = self.constant("shape.tokens", np.array([0, tokens, channels], np.int64))
        return self.node("Reshape", [moved, merged], f"{layer}.seen")

    def lif(
        self, name: str, current: str, bound: float, v_threshold: NDArray[Any], shift: int, shape: list[int]
    ) -> str:
        """Leaky integrate-and-fire (`training.network.neurons.lif_step`)."""
        self.bound(name, bound * 2**shift)
        leaked = self.leaked(self.state(name, shape), shift, name)
        v = self.node("Add", [leaked, current], f"{name}.v")
        limit = (
            v_threshold.astype(np.float32).reshape(-1, 1, 1)
            if len(shape) == 3
            else v_threshold.astype(np.float32)
        )
        reached = self.node(
            "GreaterOrEqual", [v, self.constant(f"{name}.v_threshold", limit)], f"{name}.reached"
        )
        spikes = self.node("Cast", [reached], f"spikes.{name}", to=TensorProto.FLOAT)
        self.spiking[name] = shape
        kept = self.node("Sub", [self.number(1), spikes], f"{name}.kept")
        self.node("Mul", [v, kept], f"next_state.{name}")
        return spikes


def as_numpy(tensor: Any) -> NDArray[np.float32]:
    """A tensor's values, detached."""
    return np.asarray(tensor.detach().cpu().numpy(), np.float32)


def _reach(weight: NDArray[np.float32], bias: NDArray[np.float32], largest_input: float) -> float:
    """No current of these synapses can be larger than this."""
    return float((np.abs(weight).reshape(len(weight), -1).sum(1) * largest_input + np.abs(bias)).max())


def build(network: SpikingNetwork, name: str) -> onnx.ModelProto:
    """The step graph of a network in integer arithmetic. Raises ExportError where values could reach 2**24."""
    config, graph = network.config, Builder()

    # Decay filter, kernel A.
    leaked = graph.leaked(graph.state("input", [1, SIDE, SIDE]), config.shift_input, "input")
    arrived = graph.node("Mul", ["spikes", graph.number(config.trace_unit)], "input.arrived")
    traces = graph.node("Add", [leaked, arrived], "next_state.input")
    largest_trace = float(config.trace_unit * 2**config.shift_input)

    if isinstance(network, GLMNetwork):
        _readout(graph, network, traces, SIDE * SIDE, largest_trace, filtered=False)
    else:
        tokens = _hidden_layers(graph, network, traces, largest_trace)
        _readout(graph, network, tokens, config.tokens * config.channels, 1.0, filtered=True)
    return _model(graph, name)


def _hidden_layers(graph: Builder, network: SpikingTransformer, traces: str, largest_trace: float) -> str:
    """Stem and blocks, from filtered spike trains to the tokens' spikes."""
    config = network.config
    largest = config.largest_weight
    membrane = config.shift_membrane

    def convolution(
        layer: str, synapses: Synapses, x: str, parts: Membrane, index: int, peak: float
    ) -> tuple[str, float]:
        weight, bias = as_numpy(parts.weights[index]), as_numpy(parts.biases[index])
        padding = (weight.shape[-1] - 1) // 2
        inputs = [x, graph.weights(f"{layer}.weight", weight), graph.constant(f"{layer}.bias", bias)]
        stride = synapses.stride
        current = graph.node("Conv", inputs, f"{layer}.current", pads=[padding] * 4, strides=[stride, stride])
        return current, _reach(weight, bias, peak)

    def matrix(layer: str, x: str, parts: Membrane, index: int) -> tuple[str, float]:
        weight, bias = as_numpy(parts.weights[index]), as_numpy(parts.biases[index])
        product = graph.node("MatMul", [x, graph.weights(f"{layer}.weight", weight.T)], f"{layer}.product")
        current = graph.node("Add", [product, graph.constant(f"{layer}.bias", bias)], f"{layer}.current")
        return current, _reach(weight, bias, 1.0)

    # Stem.
    first, second = config.stem
    half = SIDE // 2
    parts = Membrane([network.stem1], largest)
    current, bound = convolution("stem1", network.stem1, traces, parts, 0, largest_trace)
    x = graph.lif("stem1", current, bound, as_numpy(parts.v_threshold), membrane, [first, half, half])
    parts = Membrane([network.stem2], largest)
    current, bound = convolution("stem2", network.stem2, x, parts, 0, 1.0)
    x = graph.lif("stem2", current, bound, as_numpy(parts.v_threshold), membrane, [second, half, half])
    writers = network.residual_writers()
    residual = Membrane(writers, largest)
    residual_threshold = as_numpy(residual.v_threshold)
    current, stream_bound = convolution("stem3", network.stem3, x, residual, 0, 1.0)
    tokens, channels, heads = config.tokens, config.channels, config.heads
    width = channels // heads
    flat = graph.constant("shape.map", np.array([0, channels, tokens], np.int64))
    current = graph.node("Reshape", [current, flat], "stem3.flat")
    stream = graph.node("Transpose", [current], "stem3.tokens", perm=[0, 2, 1])  # [N, L, C]
    if config.position:
        position = as_numpy(network.place(residual))
        stream = graph.node("Add", [stream, graph.constant("position", position)], "stem3.placed")
        stream_bound += float(np.abs(position).max())

    def residual_lif(layer: str) -> str:
        return graph.lif(layer, stream, stream_bound, residual_threshold, membrane, [tokens, channels])

    # Blocks.
    for number, block in enumerate(network.blocks, 1):
        assert isinstance(block, Block)
        layer = f"block{number}"
        if block.attends:
            by_head = graph.constant("shape.heads", np.array([0, tokens, heads, width], np.int64))
            merged = graph.constant("shape.tokens", np.array([0, tokens, channels], np.int64))
            x = residual_lif(f"{layer}.attention_in")
            if config.neighbours:
                x = graph.with_neighbours(x, f"{layer}.attention_in", tokens, channels)
            roles = {}
            for role, synapses in (("query", block.query), ("key", block.key), ("value", block.value)):
                parts = Membrane([synapses], largest)
                current, bound = matrix(f"{layer}.{role}", x, parts, 0)
                spikes = graph.lif(
                    f"{layer}.{role}",
                    current,
                    bound,
                    as_numpy(parts.v_threshold),
                    membrane,
                    [tokens, channels],
                )
                split = graph.node("Reshape", [spikes, by_head], f"{layer}.{role}.split")
                order = [0, 2, 3, 1] if role == "key" else [0, 2, 1, 3]
                roles[role] = graph.node("Transpose", [split], f"{layer}.{role}.heads", perm=order)
            pairs = graph.node("MatMul", [roles["key"], roles["value"]], f"{layer}.coincidences")  # K^T V
            counts = graph.node("MatMul", [roles["query"], pairs], f"{layer}.counts.heads")
            counts = graph.node("Transpose", [counts], f"{layer}.counts.split", perm=[0, 2, 1, 3])
            counts = graph.node("Reshape", [counts, merged], f"{layer}.counts")
            threshold = as_numpy(round_nearest(block.attention_threshold.clamp(min=1.0)))
            x = graph.lif(
                f"{layer}.attention", counts, float(tokens * width), threshold, membrane, [tokens, channels]
            )
            current, bound = matrix(f"{layer}.projection", x, residual, writers.index(block.projection))
            stream, stream_bound = (
                graph.node("Add", [stream, current], f"{layer}.attended"),
                stream_bound + bound,
            )
        x = residual_lif(f"{layer}.mlp_in")
        if config.neighbours:
            x = graph.with_neighbours(x, f"{layer}.mlp_in", tokens, channels)
        parts = Membrane([block.expand], largest)
        current, bound = matrix(f"{layer}.expand", x, parts, 0)
        shape = [tokens, channels * config.mlp_ratio]
        x = graph.lif(f"{layer}.mlp_hidden", current, bound, as_numpy(parts.v_threshold), membrane, shape)
        current, bound = matrix(f"{layer}.contract", x, residual, writers.index(block.contract))
        stream, stream_bound = graph.node("Add", [stream, current], f"{layer}.out"), stream_bound + bound
    return residual_lif("tokens")


def _readout(
    graph: Builder, network: SpikingNetwork, x: str, features: int, largest_input: float, filtered: bool
) -> None:
    """GLM output neurons: feedback through the negative kernel B, Bernoulli spikes.

    They read spikes, whose drive is `filtered` then, or pixels that have been filtered already.
    """
    config = network.config
    readout, gamma_values, feedback_values, scale = network.readout_parameters()
    weight, gamma, feedback = as_numpy(readout), as_numpy(gamma_values), as_numpy(feedback_values)
    reach = _reach(weight, gamma, largest_input) * (2**config.shift_readout if filtered else 1)
    graph.bound("potential", reach + float(feedback.max()) * config.trace_unit * 2**config.shift_feedback)
    flat = graph.constant("shape.flat", np.array([0, features], np.int64))
    row = graph.node("Reshape", [x, flat], "tokens.flat" if filtered else "input.flat")
    drive = graph.node("MatMul", [row, graph.weights("readout.weight", weight.T)], "readout.drive")
    if filtered:
        left = graph.leaked(graph.state("readout", [CLASSES]), config.shift_readout, "readout")
        drive = graph.node("Add", [left, drive], "next_state.readout")
    trace = graph.state("feedback", [CLASSES])
    fed_back = graph.node("Mul", [trace, graph.constant("readout.feedback", feedback)], "readout.fed_back")
    u = graph.node("Add", [drive, fed_back], "readout.driven")
    u = graph.node("Add", [u, graph.constant("readout.gamma", gamma)], "potential")

    table = probability_table(float(scale))
    half = len(table) // 2
    shift = table_shift(float(scale))
    if shift:
        part = graph.node("Mul", [u, graph.number(2.0**-shift)], "potential.part")
        u = graph.node("Floor", [part], "potential.coarse")
    clipped = graph.node("Clip", [u, graph.number(-half), graph.number(half)], "potential.clipped")
    position = graph.node("Add", [clipped, graph.number(half)], "potential.position")
    index = graph.node("Cast", [position], "potential.index", to=TensorProto.INT64)
    p = graph.node("Gather", [graph.constant("sigmoid", table), index], "spike_probability")
    fires = graph.node("Less", ["uniforms", p], "output.fires")
    y = graph.node("Cast", [fires], "output_spikes", to=TensorProto.FLOAT)
    remembered = graph.leaked(trace, config.shift_feedback, "feedback")
    returned = graph.node("Mul", [y, graph.number(config.trace_unit)], "feedback.returned")
    graph.node("Sub", [remembered, returned], "next_state.feedback")


def _model(graph: Builder, name: str) -> onnx.ModelProto:
    inputs = [value("spikes", [1, SIDE, SIDE]), value("uniforms", [CLASSES])]
    inputs += [value(state, shape) for state, shape in graph.states.items()]
    outputs = [value(tensor, [CLASSES]) for tensor in ("potential", "spike_probability", "output_spikes")]
    outputs += [value(f"next_{state}", shape) for state, shape in graph.states.items()]
    outputs += [value(f"spikes.{layer}", shape) for layer, shape in graph.spiking.items()]
    return checked_model(graph, name, inputs, outputs)


def value(tensor: str, shape: list[int]) -> onnx.ValueInfoProto:
    """An input or output of a graph, for N images."""
    return helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["N", *shape])


def checked_model(
    graph: Builder, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """The finished graph, as ONNX wants it."""
    proto = helper.make_model(
        helper.make_graph(graph.nodes, name, inputs, outputs, list(graph.initializers.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="spikehead",
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto
