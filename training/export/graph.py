"""The step graph: one time step of a trained network as ONNX, plain standard operators on whole numbers.

    inputs   spikes [N, 1, 28, 28], uniforms [N, 10], state.* (start at 0)
    outputs  potential, spike_probability, output_spikes [N, 10], next_state.*, spikes.<layer>

Weights are stored as int8 and cast to float32 on the way in: the values are the same integers, and
float32 computes with them exactly because everything stays below 2**24 (`Builder.bounds` proves it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.network.layers import layers_of
from training.network.neurons import EXACT_LIMIT, LIFNeurons, probability_table, table_shift
from training.network.spiking import (
    CLASSES,
    SIDE,
    Attention,
    Block,
    GLMNetwork,
    NetworkConfig,
    Readout,
    SpikingMLP,
    SpikingNetwork,
    Stem,
    Synapses,
    neurons_of,
    with_neighbours,
)

OPSET = 17
IR_VERSION = 9
V_THRESHOLD = ".v_threshold"
"""Ends the name of every tensor of thresholds."""


class ExportError(RuntimeError):
    """The network cannot be exported."""


Current = tuple[str, float]
"""A tensor of the graph, and what no value in it exceeds."""


class Builder:
    """Collects nodes, weights, states and outputs, and a bound on every integer it computes."""

    def __init__(self, shapes: Mapping[str, list[int]] | None = None) -> None:
        """`shapes` are those of the layers of spikes, without the batch."""
        self.shapes = shapes or {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.states: dict[str, list[int]] = {}
        self.spiking: dict[str, list[int]] = {}
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
        """Store int8 in the file, and cast it to float32 in the graph."""
        self.constant(name + ".int8", values.astype(np.int8))
        return self.node("Cast", [name + ".int8"], name, to=TensorProto.FLOAT)

    def state(self, name: str, shape: list[int]) -> str:
        self.states[f"state.{name}"] = shape
        return f"state.{name}"

    def leaked(self, state: str, shift: int, name: str) -> str:
        """Leak: state - floor(state / 2**shift)."""
        part = self.node("Mul", [state, self.number(2.0**-shift)], f"{name}.part")
        lost = self.node("Floor", [part], f"{name}.lost")
        return self.node("Sub", [state, lost], f"{name}.leaked")

    def bound(self, name: str, value: float) -> None:
        if value >= EXACT_LIMIT:
            raise ExportError(f"expected all values of {name} below 2**24, got a bound of {value:g}")
        self.bounds[name] = value

    def tokens(self, x: str, name: str, config: NetworkConfig) -> str:
        """Make tokens of a map: [N, C, 7, 7] -> [N, L, C]."""
        flat = self.constant("shape.map", np.array([0, config.channels, config.tokens], np.int64))
        return self.node(
            "Transpose", [self.node("Reshape", [x, flat], f"{name}.flat")], f"{name}.tokens", perm=[0, 2, 1]
        )

    def token_shapes(self, config: NetworkConfig) -> tuple[str, str]:
        """Name the shapes [N, L, h, d] and [N, L, C]."""
        tokens, channels, heads = config.tokens, config.channels, config.heads
        by_head = self.constant("shape.heads", np.array([0, tokens, heads, channels // heads], np.int64))
        return by_head, self.constant("shape.tokens", np.array([0, tokens, channels], np.int64))

    def seen(self, x: str, layer: str, config: NetworkConfig) -> str:
        """Let tokens see their neighbours, if `config` wants it (`training.network.spiking.with_neighbours`)."""
        if not config.neighbours:
            return x
        size = config.tokens * config.channels
        order = with_neighbours(torch.arange(size).view(config.tokens, config.channels)).flatten().numpy()
        places = self.constant("neighbours", order)
        row = self.constant("shape.flat", np.array([0, size], np.int64))
        flat = self.node("Reshape", [x, row], f"{layer}.row")
        moved = self.node("Gather", [flat, places], f"{layer}.moved", axis=1)
        merged = self.constant("shape.tokens", np.array([0, config.tokens, config.channels], np.int64))
        return self.node("Reshape", [moved, merged], f"{layer}.seen")

    def current(
        self, name: str, x: str, synapses: Synapses, neurons: LIFNeurons, largest_input: float = 1.0
    ) -> Current:
        """Drive neurons (`training.network.spiking.Synapses.forward`). No value of `x` exceeds `largest_input`."""
        weight, bias = (as_numpy(values) for values in synapses.integers(neurons))
        bound = _reach(weight, bias, largest_input)
        if weight.ndim == 2:
            product = self.node("MatMul", [x, self.weights(f"{name}.weight", weight.T)], f"{name}.product")
            return self.node("Add", [product, self.constant(f"{name}.bias", bias)], f"{name}.current"), bound
        inputs = [x, self.weights(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        pads, strides = [(weight.shape[-1] - 1) // 2] * 4, [synapses.stride] * 2
        return self.node("Conv", inputs, f"{name}.current", pads=pads, strides=strides), bound

    def add(self, name: str, stream: Current, current: Current) -> Current:
        return self.node("Add", [stream[0], current[0]], name), stream[1] + current[1]

    def lif(self, name: str, current: Current, neurons: LIFNeurons) -> str:
        """Leaky integrate-and-fire (`training.network.neurons.LIFNeurons.step`)."""
        self.bound(name, current[1] * 2**neurons.shift)
        self.spiking[name] = shape = self.shapes[name]
        leaked = self.leaked(self.state(name, shape), neurons.shift, name)
        v = self.node("Add", [leaked, current[0]], f"{name}.v")
        limit = as_numpy(neurons.v_threshold).reshape((-1, 1, 1) if len(shape) == 3 else -1)
        inputs = [v, self.constant(name + V_THRESHOLD, limit)]
        reached = self.node("GreaterOrEqual", inputs, f"{name}.reached")
        spikes = self.node("Cast", [reached], f"spikes.{name}", to=TensorProto.FLOAT)
        kept = self.node("Sub", [self.number(1), spikes], f"{name}.kept")
        self.node("Mul", [v, kept], f"next_state.{name}")
        return spikes

    def fire(self, name: str, x: str, synapses: Synapses, layer: str = "", largest_input: float = 1.0) -> str:
        """Drive neurons that nothing else drives (`training.network.spiking.Synapses.spikes`), called as `layer`."""
        neurons = neurons_of([synapses], integer=True)
        return self.lif(layer or name, self.current(name, x, synapses, neurons, largest_input), neurons)


def as_numpy(tensor: Any) -> NDArray[np.float32]:
    """Return a tensor's values, detached."""
    return np.asarray(tensor.detach().cpu().numpy(), np.float32)


def _reach(weight: NDArray[np.float32], bias: NDArray[np.float32], largest_input: float) -> float:
    """Bound the currents that inputs up to `largest_input` drive."""
    return float((np.abs(weight).reshape(len(weight), -1).sum(1) * largest_input + np.abs(bias)).max())


def build(network: SpikingNetwork, name: str) -> onnx.ModelProto:
    """Build the step graph of a network in integer arithmetic. Raises ExportError if values could reach 2**24."""
    config = network.config
    graph = Builder({name: layer.shape for name, layer in layers_of(config).items()})

    # Decay filter, kernel A.
    leaked = graph.leaked(graph.state("input", [1, SIDE, SIDE]), config.shift_input, "input")
    arrived = graph.node("Mul", ["spikes", graph.number(config.trace_unit)], "input.arrived")
    traces = graph.node("Add", [leaked, arrived], "next_state.input")
    largest_trace = float(config.trace_unit * 2**config.shift_input)

    if isinstance(network, GLMNetwork):
        _readout(graph, network.readout, traces, largest_trace)
        return _model(graph, name)
    residual = network.residual(integer=True)
    stream = _stem(graph, network.stem, traces, largest_trace, residual)
    for number, block in enumerate(network.blocks, 1):
        assert isinstance(block, Block)
        if block.attention is not None:
            stream = _attention(graph, f"block{number}", block.attention, stream, residual)
        stream = _mlp(graph, f"block{number}", block.mlp, stream, residual)
    _readout(graph, network.readout, graph.lif("tokens", stream, residual), 1.0)
    return _model(graph, name)


def _stem(graph: Builder, stem: Stem, traces: str, largest_trace: float, residual: LIFNeurons) -> Current:
    x = graph.fire("stem1", traces, stem.stem1, largest_input=largest_trace)
    x = graph.fire("stem2", x, stem.stem2)
    current, bound = graph.current("stem3", x, stem.stem3, residual)
    stream = graph.tokens(current, "stem3", stem.config), bound
    if not stem.config.position:
        return stream
    place = as_numpy(stem.place(residual))
    return graph.add("stem3.placed", stream, (graph.constant("position", place), float(np.abs(place).max())))


def _attention(
    graph: Builder, name: str, attention: Attention, stream: Current, residual: LIFNeurons
) -> Current:
    config = attention.config
    by_head, merged = graph.token_shapes(config)
    x = graph.seen(graph.lif(f"{name}.attention_in", stream, residual), f"{name}.attention_in", config)
    heads = {}
    for role, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        spikes = graph.fire(f"{name}.{role}", x, getattr(attention, role))
        split = graph.node("Reshape", [spikes, by_head], f"{name}.{role}.split")
        heads[role] = graph.node("Transpose", [split], f"{name}.{role}.heads", perm=order)
    pairs = graph.node("MatMul", [heads["key"], heads["value"]], f"{name}.coincidences")  # K^T V
    counts = graph.node("MatMul", [heads["query"], pairs], f"{name}.counts.heads")
    counts = graph.node("Transpose", [counts], f"{name}.counts.split", perm=[0, 2, 1, 3])
    counts = graph.node("Reshape", [counts, merged], f"{name}.counts")
    most = float(config.tokens * (config.channels // config.heads))
    x = graph.lif(f"{name}.attention", (counts, most), attention.counters())
    current = graph.current(f"{name}.projection", x, attention.projection, residual)
    return graph.add(f"{name}.attended", stream, current)


def _mlp(graph: Builder, name: str, mlp: SpikingMLP, stream: Current, residual: LIFNeurons) -> Current:
    x = graph.seen(graph.lif(f"{name}.mlp_in", stream, residual), f"{name}.mlp_in", mlp.config)
    x = graph.fire(f"{name}.expand", x, mlp.expand, layer=f"{name}.mlp_hidden")
    return graph.add(f"{name}.out", stream, graph.current(f"{name}.contract", x, mlp.contract, residual))


def _readout(graph: Builder, readout: Readout, x: str, largest_input: float) -> None:
    config, filtered = readout.config, readout.filtered
    *values, scale = readout.constants(integer=True)
    weight, gamma, feedback = (as_numpy(one) for one in values)
    reach = _reach(weight, gamma, largest_input) * (1 if filtered else 2**config.shift_readout)
    graph.bound("potential", reach + float(feedback.max()) * config.trace_unit * 2**config.shift_feedback)
    flat = graph.constant("shape.flat", np.array([0, weight.shape[1]], np.int64))
    row = graph.node("Reshape", [x, flat], "input.flat" if filtered else "tokens.flat")
    drive = graph.node("MatMul", [row, graph.weights("readout.weight", weight.T)], "readout.drive")
    if not filtered:
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
    """Describe an input or output of a graph, for N images."""
    return helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["N", *shape])


def checked_model(
    graph: Builder, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """Finish a graph, as ONNX wants it."""
    proto = helper.make_model(
        helper.make_graph(graph.nodes, name, inputs, outputs, list(graph.initializers.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="spikehead",
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto
