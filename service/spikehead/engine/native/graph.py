"""From the step graph to the arrays of the native engine: every node is recognised, or the graph is refused.

The engine computes what the export writes and nothing else. So the graph is gone through in the export's order,
and each node has to be the one that stands there: same operator, inputs, output and attributes. Sizes, shifts,
weights and thresholds are read on the way.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikehead.engine.native.onnx_file import Attribute, GraphError, OnnxFile, read
from spikehead.model.card import Card, fan_out_map
from spikehead.model.encoding import CLASSES, PIXELS, SIDE

OPSET = 17
FLOAT, INT64 = 1, 7
Arrays = dict[str, Any]


def arrays_of(data: bytes, card: Card) -> Arrays:
    """What `_core.Engine` takes, from the bytes of a graph and its card.

    Raises GraphError where the graph is not one that the export of this project writes, or not the card's.
    """
    return _Reader(read(data), card).arrays()


class _Reader:
    """Goes through the nodes in order."""

    def __init__(self, file: OnnxFile, card: Card) -> None:
        self._file, self._card = file, card
        self._at = 0
        self._used: set[str] = set()
        self._states: list[str] = []
        self._layers: list[str] = []
        if file.opsets.get("", 0) != OPSET or len(file.opsets) != 1:
            raise GraphError(f"expected ONNX's opset {OPSET} alone, found {file.opsets}")

    # Single nodes and constants.

    def _next_operator(self) -> str:
        nodes = self._file.nodes
        return nodes[self._at].operator if self._at < len(nodes) else "no further node"

    def _next_output(self) -> str:
        nodes = self._file.nodes
        return nodes[self._at].outputs[0] if self._at < len(nodes) and nodes[self._at].outputs else ""

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Attribute) -> str:
        """The next node, which has to be this one. Returns its output."""
        if self._at >= len(self._file.nodes):
            raise GraphError(f"expected a node {output}, found the end of the graph")
        node = self._file.nodes[self._at]
        found = (node.operator, node.inputs, node.outputs, node.attributes)
        if found != (operator, tuple(inputs), (output,), attributes):
            raise GraphError(
                f"expected node {self._at} to be {output} = {operator}({', '.join(inputs)}) {attributes}, found "
                f"{', '.join(node.outputs)} = {node.operator}({', '.join(node.inputs)}) {node.attributes}"
            )
        self._at += 1
        return output

    def _input(self, position: int) -> str:
        """An input of the next node, whose name tells what it is."""
        nodes = self._file.nodes
        if self._at >= len(nodes) or position >= len(nodes[self._at].inputs):
            raise GraphError(f"expected a node with {position + 1} inputs, found {self._next_operator()}")
        return nodes[self._at].inputs[position]

    def _constant(self, name: str, dtype: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        array = self._file.weights.get(name)
        if array is None:
            raise GraphError(f"expected a tensor {name}, found none")
        if array.dtype != np.dtype(dtype) or (shape is not None and array.shape != shape):
            raise GraphError(
                f"expected tensor {name} as {dtype} {list(shape) if shape is not None else ''}, "
                f"found {array.dtype} {list(array.shape)}"
            )
        self._used.add(name)
        return array

    def _whole(self, name: str, shape: tuple[int, ...] | None = None) -> NDArray[np.int32]:
        """A float tensor of whole numbers below 2**24."""
        values = self._constant(name, "float32", shape)
        if not (
            np.isfinite(values).all() and (np.abs(values) < 2**24).all() and (values == np.rint(values)).all()
        ):
            raise GraphError(f"expected whole numbers below 2**24 in tensor {name}")
        return values.astype(np.int32)

    def _number(self, name: str) -> float:
        return float(self._constant(name, "float32", ()))

    def _weight(self, name: str, rank: int) -> NDArray[np.int8]:
        stored = f"{name}.int8"
        values = self._constant(stored, "int8")
        if values.ndim != rank or 0 in values.shape:
            raise GraphError(f"expected {rank} dimensions of {stored}, found {list(values.shape)}")
        self._node("Cast", [stored], name, to=FLOAT)
        return values

    def _shape(self, name: str, *sizes: int) -> str:
        found = self._constant(name, "int64", (len(sizes),)).tolist()
        if found != list(sizes):
            raise GraphError(f"expected the shape {list(sizes)} in {name}, found {found}")
        return name

    # Patterns.

    def _leaked(self, state: str, name: str) -> tuple[str, int]:
        """state - floor(state / 2**shift): the name of the result, and the shift."""
        factor = self._input(1)
        shift = self._shift_of(factor, name)
        part = self._node("Mul", [state, factor], f"{name}.part")
        lost = self._node("Floor", [part], f"{name}.lost")
        return self._node("Sub", [state, lost], f"{name}.leaked"), shift

    def _coarse(self, u: str) -> tuple[str, int]:
        """floor(u / 2**shift): the name of the result, and the shift."""
        factor = self._input(1)
        shift = self._shift_of(factor, u)
        part = self._node("Mul", [u, factor], f"{u}.part")
        return self._node("Floor", [part], f"{u}.coarse"), shift

    def _shift_of(self, factor: str, name: str) -> int:
        value = self._number(factor)
        shift = int(np.rint(-np.log2(value))) if 0 < value < 1 else 0
        if shift < 1 or 2.0**-shift != value:
            raise GraphError(f"expected a power of two below 1 as the leak of {name}, found {value}")
        return shift

    def _state(self, name: str) -> str:
        self._states.append(f"state.{name}")
        return f"state.{name}"

    def _lif(self, layer: str, current: str, channels: int, is_map: bool) -> tuple[str, NDArray[np.int32]]:
        """A layer of LIF neurons: the name of its spikes, and its thresholds [channels]."""
        leaked, shift = self._leaked(self._state(layer), layer)
        self._same_shift("membrane", shift)
        v = self._node("Add", [leaked, current], f"{layer}.v")
        shape = (channels, 1, 1) if is_map else (channels,)
        threshold = self._whole(f"{layer}.v_threshold", shape).reshape(-1)
        reached = self._node("GreaterOrEqual", [v, f"{layer}.v_threshold"], f"{layer}.reached")
        spikes = self._node("Cast", [reached], f"spikes.{layer}", to=FLOAT)
        one = self._input(0)
        if self._number(one) != 1.0:
            raise GraphError(f"expected 1 less the spikes of {layer}, found {one}")
        kept = self._node("Sub", [one, spikes], f"{layer}.kept")
        self._node("Mul", [v, kept], f"next_state.{layer}")
        self._layers.append(layer)
        return spikes, threshold

    def _same_shift(self, kernel: str, shift: int) -> None:
        wanted = self._card.kernels[kernel].shift if kernel in self._card.kernels else None
        if shift != wanted:
            raise GraphError(f"expected the shift {wanted} of kernel {kernel} (from the card), found {shift}")

    def _convolution(self, layer: str, x: str, stride: int) -> tuple[str, Arrays]:
        weight = self._weight(f"{layer}.weight", 4)
        outputs, inputs, height, width = weight.shape
        if height != width or height % 2 == 0:
            raise GraphError(f"expected a square window of odd size of {layer}, found {height} x {width}")
        bias = self._whole(f"{layer}.bias", (outputs,))
        current = self._node(
            "Conv",
            [x, f"{layer}.weight", f"{layer}.bias"],
            f"{layer}.current",
            pads=((height - 1) // 2,) * 4,
            strides=(stride, stride),
        )
        rows = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))  # [ky, kx, input, output]
        return current, _synapses(rows, height, stride, inputs, outputs, bias)

    def _matrix(self, layer: str, x: str) -> tuple[str, Arrays]:
        weight = self._weight(f"{layer}.weight", 2)
        inputs, outputs = weight.shape
        product = self._node("MatMul", [x, f"{layer}.weight"], f"{layer}.product")
        bias = self._whole(f"{layer}.bias", (outputs,))
        current = self._node("Add", [product, f"{layer}.bias"], f"{layer}.current")
        return current, _synapses(weight, 1, 1, inputs, outputs, bias)

    def _with_neighbours(self, x: str, layer: str, tokens: int, channels: int, result: Arrays) -> str:
        """Half of a token's channels, an eighth from each of the tokens around it, where the network has that."""
        found = self._next_output() == f"{layer}.row"
        if result.setdefault("neighbours", found) != found:
            raise GraphError(f"expected all blocks to see neighbours or none, found {layer} to differ")
        if not found:
            return x
        order = self._constant("neighbours", "int64", (tokens * channels,))
        if (order != _neighbour_order(tokens, channels)).any():
            raise GraphError("expected neighbours above, below, left and right in the tensor neighbours")
        flat = self._node("Reshape", [x, self._shape("shape.flat", 0, tokens * channels)], f"{layer}.row")
        moved = self._node("Gather", [flat, "neighbours"], f"{layer}.moved", axis=1)
        return self._node(
            "Reshape", [moved, self._shape("shape.tokens", 0, tokens, channels)], f"{layer}.seen"
        )

    # The network.

    def arrays(self) -> Arrays:
        card = self._card
        result: Arrays = {
            "heads": 0,
            "rate_slope": card.rate_slope,
            "reset_interval": card.reset_interval or 0,
        }
        leaked, result["shift_input"] = self._leaked(self._state("input"), "input")
        self._same_shift("A", result["shift_input"])
        result["unit_input"] = self._positive(self._input(1))
        arrived = self._node("Mul", ["spikes", self._input(1)], "input.arrived")
        x = self._node("Add", [leaked, arrived], "next_state.input")
        if self._next_output() == "input.flat":
            self._readout(x, PIXELS, result, filtered=False)
        else:
            self._hidden_layers(x, result)
        result |= {"names": self._layers, **self._fan_out()}
        self._finish()
        return result

    def _hidden_layers(self, x: str, result: Arrays) -> None:
        """Stem, blocks and readout of a network that has them."""
        card = self._card
        for layer, stride in (("stem1", 2), ("stem2", 1)):
            current, result[layer] = self._convolution(layer, x, stride)
            x, result[f"{layer}_threshold"] = self._lif(layer, current, result[layer]["outputs"], is_map=True)
        current, result["stem3"] = self._convolution("stem3", x, 2)
        channels, tokens = result["stem3"]["outputs"], (SIDE // 4) ** 2
        flat = self._node("Reshape", [current, self._shape("shape.map", 0, channels, tokens)], "stem3.flat")
        stream = self._node("Transpose", [flat], "stem3.tokens", perm=(0, 2, 1))
        result["position"] = np.empty((0, channels), np.int32)
        if self._next_output() == "stem3.placed":
            result["position"] = self._whole("position", (tokens, channels))
            stream = self._node("Add", [stream, "position"], "stem3.placed")

        thresholds: list[NDArray[np.int32]] = []

        def residual_lif(layer: str) -> str:
            spikes, threshold = self._lif(layer, stream, channels, is_map=False)
            thresholds.append(threshold)
            return spikes

        result["blocks"] = []
        while self._next_output().startswith("block"):
            name = f"block{len(result['blocks']) + 1}"
            block: Arrays = {"attends": False}
            if self._next_output().startswith(f"{name}.attention_in"):
                x = residual_lif(f"{name}.attention_in")
                x = self._with_neighbours(x, f"{name}.attention_in", tokens, channels, result)
                stream = self._attention(name, x, stream, channels, tokens, block, result)
            x = residual_lif(f"{name}.mlp_in")
            x = self._with_neighbours(x, f"{name}.mlp_in", tokens, channels, result)
            current, block["expand"] = self._matrix(f"{name}.expand", x)
            hidden = block["expand"]["outputs"]
            x, block["hidden_threshold"] = self._lif(f"{name}.mlp_hidden", current, hidden, is_map=False)
            current, block["contract"] = self._matrix(f"{name}.contract", x)
            stream = self._node("Add", [stream, current], f"{name}.out")
            result["blocks"].append(block)
        result.setdefault("neighbours", False)
        x = residual_lif("tokens")
        if any((threshold != thresholds[0]).any() for threshold in thresholds):
            raise GraphError("expected the same thresholds wherever the residual potential is read")
        result["residual_threshold"] = thresholds[0]
        self._readout(x, tokens * channels, result, filtered=True)
        result["shift_membrane"] = card.kernels["membrane"].shift

    def _attention(
        self, name: str, x: str, stream: str, channels: int, tokens: int, block: Arrays, result: Arrays
    ) -> str:
        """Spiking self-attention; returns the residual stream after it."""
        block["attends"] = True
        spikes = {}
        for role in ("query", "key", "value"):
            current, block[role] = self._matrix(f"{name}.{role}", x)
            fired, block[f"{role}_threshold"] = self._lif(f"{name}.{role}", current, channels, is_map=False)
            if not result["heads"]:
                shape = self._constant("shape.heads", "int64", (4,)).tolist()
                if shape[2] < 1 or channels % shape[2]:
                    raise GraphError(f"expected heads that divide {channels} channels, found {shape[2]}")
                result["heads"] = shape[2]
            by_head = self._shape("shape.heads", 0, tokens, result["heads"], channels // result["heads"])
            split = self._node("Reshape", [fired, by_head], f"{name}.{role}.split")
            order = (0, 2, 3, 1) if role == "key" else (0, 2, 1, 3)
            spikes[role] = self._node("Transpose", [split], f"{name}.{role}.heads", perm=order)
        pairs = self._node("MatMul", [spikes["key"], spikes["value"]], f"{name}.coincidences")
        counts = self._node("MatMul", [spikes["query"], pairs], f"{name}.counts.heads")
        counts = self._node("Transpose", [counts], f"{name}.counts.split", perm=(0, 2, 1, 3))
        counts = self._node(
            "Reshape", [counts, self._shape("shape.tokens", 0, tokens, channels)], f"{name}.counts"
        )
        x, block["attention_threshold"] = self._lif(f"{name}.attention", counts, channels, is_map=False)
        current, block["projection"] = self._matrix(f"{name}.projection", x)
        return self._node("Add", [stream, current], f"{name}.attended")

    def _readout(self, x: str, features: int, result: Arrays, filtered: bool) -> None:
        """Output neurons on spikes, whose drive is filtered then, or on pixels that have been filtered already."""
        flat = self._shape("shape.flat", 0, features)
        row = self._node("Reshape", [x, flat], "tokens.flat" if filtered else "input.flat")
        weight = self._weight("readout.weight", 2)
        if weight.shape != (features, CLASSES):
            raise GraphError(f"expected readout weights [{features}, {CLASSES}], found {list(weight.shape)}")
        drive = self._node("MatMul", [row, "readout.weight"], "readout.drive")
        if filtered:
            leaked, result["shift_readout"] = self._leaked(self._state("readout"), "readout")
            self._same_shift("readout", result["shift_readout"])
            drive = self._node("Add", [leaked, drive], "next_state.readout")
        trace = self._state("feedback")
        result["feedback"] = self._whole("readout.feedback", (CLASSES,))
        result["gamma"] = self._whole("readout.gamma", (CLASSES,))
        fed_back = self._node("Mul", [trace, "readout.feedback"], "readout.fed_back")
        driven = self._node("Add", [drive, fed_back], "readout.driven")
        u = self._node("Add", [driven, "readout.gamma"], "potential")
        table = self._constant("sigmoid", "float32")
        if table.ndim != 1 or len(table) % 2 == 0 or not ((table >= 0) & (table <= 1)).all():
            raise GraphError("expected an odd number of probabilities in the table sigmoid")
        result["sigmoid"] = np.ascontiguousarray(table)
        half = len(table) // 2
        result["shift_sigmoid"] = 0
        if self._next_operator() == "Mul":
            u, result["shift_sigmoid"] = self._coarse(u)
        low, high = self._input(1), self._input(2)
        if (self._number(low), self._number(high)) != (-half, half):
            raise GraphError(f"expected the potential clipped to {-half} and {half}, found {low} and {high}")
        clipped = self._node("Clip", [u, low, high], "potential.clipped")
        position = self._node("Add", [clipped, high], "potential.position")
        index = self._node("Cast", [position], "potential.index", to=INT64)
        p = self._node("Gather", ["sigmoid", index], "spike_probability")
        fires = self._node("Less", ["uniforms", p], "output.fires")
        y = self._node("Cast", [fires], "output_spikes", to=FLOAT)
        remembered, result["shift_feedback"] = self._leaked(trace, "feedback")
        self._same_shift("B", result["shift_feedback"])
        result["unit_feedback"] = self._positive(self._input(1))
        returned = self._node("Mul", [y, self._input(1)], "feedback.returned")
        self._node("Sub", [remembered, returned], "next_state.feedback")
        result["readout"] = np.ascontiguousarray(weight)

    def _positive(self, name: str) -> int:
        value = self._number(name)
        if not (value.is_integer() and 1 <= value <= 4096):
            raise GraphError(f"expected a whole number from 1 to 4096 in {name}, found {value}")
        return int(value)

    def _fan_out(self) -> Arrays:
        """Synapses that a spike drives, a number for each place of a layer. From the card."""
        card = self._card
        if card.layer_names != ["input", *self._layers, "output"]:
            raise GraphError(f"expected layers {card.layer_names} (from the card), found {self._layers}")
        result = []
        for layer in card.layers[1:-1]:
            synapses = fan_out_map(layer).astype(np.int32)
            place = synapses[0].reshape(-1) if synapses.ndim == 3 else synapses[:, 0]
            result.append(np.ascontiguousarray(place))
        pixels = np.ascontiguousarray(fan_out_map(card.layers[0]).astype(np.int32).reshape(-1))
        return {"fan_out": result, "input_fan_out": pixels}

    def _finish(self) -> None:
        """Nothing may be left over, and the graph's interface has to be the export's."""
        file = self._file
        if self._at != len(file.nodes):
            raise GraphError(f"expected the graph to end after {self._at} nodes, found {len(file.nodes)}")
        unused = sorted(set(file.weights) - self._used)
        if unused:
            raise GraphError(f"expected no other tensors, found {unused}")
        inputs = ["spikes", "uniforms", *self._states]
        if file.inputs != inputs:
            raise GraphError(f"expected inputs {inputs}, found {file.inputs}")
        outputs = {"potential", "spike_probability", "output_spikes"}
        outputs |= {f"next_{state}" for state in self._states} | {f"spikes.{layer}" for layer in self._layers}
        if set(file.outputs) != outputs:
            raise GraphError(f"expected outputs {sorted(outputs)}, found {sorted(file.outputs)}")


def _neighbour_order(tokens: int, channels: int) -> NDArray[np.int64]:
    """Index of the value that each one of a layer of tokens comes from [tokens * channels].

    See `training.network.spiking.with_neighbours`.
    """
    side, share = math.isqrt(tokens), channels // 8
    places = np.arange(tokens * channels).reshape(side, side, channels)
    order = places.copy()
    for number, (step, axis) in enumerate(((1, 0), (-1, 0), (1, 1), (-1, 1))):
        first = channels - (4 - number) * share
        order[..., first : first + share] = np.roll(places[..., first : first + share], step, axis)
    return order.reshape(-1)


def _synapses(
    weight: NDArray[np.int8], kernel: int, stride: int, inputs: int, outputs: int, bias: NDArray[np.int32]
) -> Arrays:
    return {
        "kernel": kernel,
        "stride": stride,
        "inputs": inputs,
        "outputs": outputs,
        "weight": np.ascontiguousarray(weight),
        "bias": np.ascontiguousarray(bias),
    }
