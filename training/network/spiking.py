"""The spiking network with multi-head attention, from spike trains to output spikes. Read it top to bottom.

    spike trains [T, N, 1, 28, 28] -> decay filter (kernel A) -> stem -> blocks -> tokens
    -> readout potentials [T, N, 10] -> probabilistic spike generator, with feedback through kernel B

The same code runs in two arithmetics. *float*: weights and batch normalisation, to find a good network fast.
*integer* (`network.integer = True`): batch normalisation is folded, weights are int8 (or fewer bits), thresholds,
biases and potentials are integers, the leak is a shift. That is what `training.export.artifact` writes; values are
integers held in float32, so training in it and running the exported graph give the same spikes.

Sources: probabilistic output layer after Jang, Simeone, Gardner, Gruning, "An Introduction to Probabilistic
Spiking Neural Networks" (2019); spiking self-attention after Zhou et al., "Spikformer" (2023); residual on
membrane potentials after Hu et al., "Advancing Spiking Neural Networks toward Deep Residual Learning" (2021).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from spikehead.model.encoding import MAX_SLOPE
from torch import Tensor, nn
from torch.nn import functional as F

from training.network.neurons import (
    decay_filter,
    leak,
    lif,
    probability_table,
    round_nearest,
    table_shift,
    tau_of_shift,
)

CLASSES = 10
SIDE = 28


Kind = Literal["spiking-mha", "glm"]


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and time constants. A shift k is a decay by 1 - 2**-k a step.

    `kind` is the whole network, or the GLM output neurons alone: then stem, channels and blocks say nothing.
    `position` tells tokens where they are, with `neighbours` attention and MLPs see those next to them.
    With `attention`, blocks from number `attention_from` (the first is 1) on have it; those before are MLPs alone.
    `rate_slope` is that of the encoder's tuning curve, see `spikehead.model.encoding.firing_rates`.
    """

    kind: Kind = "spiking-mha"
    stem: tuple[int, int] = (32, 32)
    channels: int = 64
    blocks: int = 2
    heads: int = 4
    mlp_ratio: int = 2
    attention: bool = True
    attention_from: int = 1
    position: bool = True
    neighbours: bool = True
    bits: int = 8
    rate_slope: int = 1
    shift_input: int = 1
    shift_membrane: int = 1
    shift_readout: int = 2
    shift_feedback: int = 1
    trace_unit: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.rate_slope <= MAX_SLOPE:  # a card would refuse it after the training
            raise ValueError(f"expected a rate slope between 1 and {MAX_SLOPE}, got {self.rate_slope}")
        if not 1 <= self.attention_from <= max(1, self.blocks):  # beyond them would be attention nowhere
            raise ValueError(
                f"expected attention from a block between 1 and {self.blocks}, got {self.attention_from}"
            )

    def attends(self, block: int) -> bool:
        """Whether a block has attention; the first is 1."""
        return self.attention and block >= self.attention_from

    @property
    def tokens(self) -> int:
        return (SIDE // 4) ** 2

    @property
    def largest_weight(self) -> int:
        """Of a synapse of so many bits, one of them the sign."""
        return int(2 ** (self.bits - 1) - 1)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Synapses(nn.Module):
    """Weights from one layer to the next (convolution or matrix), and batch normalisation of their currents.

    float:    current = BN(W x)                           batch statistics while training
    integer:  current = round(W' / unit) x + round(b' / unit)   W', b' with the running statistics folded in
    """

    def __init__(
        self, shape: tuple[int, ...], stride: int = 1, gain: float = 1.0, input_unit: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        self.norm = nn.BatchNorm1d(shape[0])
        nn.init.constant_(self.norm.weight, gain)
        self.stride = stride
        self.input_unit = input_unit

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias with the running statistics of batch normalisation folded in."""
        assert self.norm.running_var is not None and self.norm.running_mean is not None
        factor = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)  # [C_out]
        weight = self.weight * factor.view(-1, *[1] * (self.weight.dim() - 1)) / self.input_unit
        return weight, self.norm.bias - self.norm.running_mean * factor

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [T, N, ...] -> current [T, N, ...]; convolutions keep or halve height and width."""
        if weight.dim() == 2:
            return F.linear(x, weight, bias)  # [T, N, L, C_in] -> [T, N, L, C_out]
        padding = (weight.shape[-1] - 1) // 2
        current = F.conv2d(x.flatten(0, 1), weight, bias, self.stride, padding)
        return current.view(*x.shape[:2], *current.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Current in float. x [T, N, ...]."""
        current = self.apply_weight(x, self.weight, None)
        if self.input_unit != 1:
            current = current / self.input_unit
        matrix = self.weight.dim() == 2  # [T N L, C], else [T N, C, H W]
        normalised: Tensor = self.norm(current.flatten(0, 2) if matrix else current.flatten(0, 1).flatten(2))
        return normalised.view_as(current)


class Membrane:
    """The integer parameters of one layer: what a neuron's `unit` (one integer of potential) is worth."""

    def __init__(self, writers: list[Synapses], largest: int) -> None:
        folded = [synapses.folded() for synapses in writers]
        peak = torch.stack([w.detach().abs().flatten(1).amax(1) for w, _ in folded]).amax(0)  # [C]
        # A unit under 2**-15 of the threshold would let potentials outgrow 2**24.
        self.unit = (peak / largest).clamp(min=2.0**-15)
        self.weights = [
            round_nearest(w / self.unit.view(-1, *[1] * (w.dim() - 1))).clamp(-largest, largest)
            for w, _ in folded
        ]
        self.biases = [round_nearest(b / self.unit) for _, b in folded]
        self.v_threshold = (1.0 / self.unit).round()  # [C]


class Block(nn.Module):
    """Spiking multi-head self-attention and a spiking MLP, each a branch off the residual potential.

    Or the MLP alone, where `config` wants no attention in the block of this number.
    """

    def __init__(self, config: NetworkConfig, number: int) -> None:
        super().__init__()
        channels, hidden = config.channels, config.channels * config.mlp_ratio
        self.attends = config.attends(number)
        if self.attends:
            self.query = Synapses((channels, channels))
            self.key = Synapses((channels, channels))
            self.value = Synapses((channels, channels))
            self.projection = Synapses((channels, channels), gain=0.5)
            self.attention_threshold = nn.Parameter(torch.full((channels,), 2.0))
        self.expand = Synapses((hidden, channels))
        self.contract = Synapses((channels, hidden), gain=0.5)


def spiking_self_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Q (K^T V) for each head: counts of coincidences, no softmax. Spikes [..., L, C] -> integers [..., L, C].

    Source: Spikformer's SSA. The order K^T V first costs L d^2 a head, Q K^T first L^2 d; both are exact.
    """

    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], heads, -1).transpose(-2, -3)  # [..., h, L, d]

    coincidences = split(key).transpose(-1, -2) @ split(value)  # [..., h, d, d]
    return (split(query) @ coincidences).transpose(-2, -3).flatten(-2)  # [..., L, C]


def with_neighbours(x: Tensor) -> Tensor:
    """Half of a token's channels as they are, an eighth from each of the four tokens around it. [..., L, C] -> same.

    Spikes only change places: no weight, no operation. The map is a torus: its edges are blank for digits.
    Source: the spatial shift of Yu et al., "S2-MLP: Spatial-Shift MLP Architecture for Vision", 2022.
    """
    side, share = math.isqrt(x.shape[-2]), x.shape[-1] // 8
    grid = x.unflatten(-2, (side, side))  # [..., row, column, C]
    own, above, below, left, right = grid.split([x.shape[-1] - 4 * share] + 4 * [share], -1)
    parts = [own, above.roll(1, -3), below.roll(-1, -3), left.roll(1, -2), right.roll(-1, -2)]
    return torch.cat(parts, -1).flatten(-3, -2)


@dataclass
class Run:
    """What one simulation of a batch gave. T steps, N images."""

    potentials: Tensor  # [T, N, 10] logits, differentiable
    integer_potentials: Tensor  # [T, N, 10] the same in integer units (0 in float arithmetic)
    spike_probabilities: Tensor  # [T, N, 10]
    output_spikes: Tensor  # [T, N, 10] {0, 1}
    layers: dict[str, Tensor]  # name -> spikes [T, N, ...]
    currents: dict[str, Tensor] = field(default_factory=dict)  # what drives "stem2" and "tokens", [T, N, ...]


class ProbabilisticReadout(nn.Module):
    """GLM output neurons, the end of every network here: membrane potentials, spikes drawn from them, feedback.

    u_t = drive_t + w_fb (B * y)_t + gamma,   p_t = sigmoid(u_t),   y_t ~ Bernoulli(p_t)

    `features` spikes or filtered spikes are read, of which one counts as `unit` in integers.
    """

    def __init__(self, config: NetworkConfig, features: int, unit: int = 1) -> None:
        super().__init__()
        self.config = config
        self.integer = False
        self.unit = unit
        self.readout = nn.Parameter(torch.randn(CLASSES, features) * 0.02)
        self.gamma = nn.Parameter(torch.full((CLASSES,), -2.0))
        self.feedback = nn.Parameter(torch.full((CLASSES,), 1.0))  # >= 0; kernel B itself is negative

    def _read_out(self, features: Tensor, uniforms: Tensor, layers: dict[str, Tensor], filtered: bool) -> Run:
        """Potentials and output spikes from what the neurons read, [T, N, F]; `filtered` leaks what drives them.

        The filter is linear, so it can come after the weights: 10 states, not F.
        """
        config = self.config
        weight, gamma, feedback, scale = self.readout_parameters()
        drive = F.linear(features, weight)  # [T, N, 10]
        potential = torch.zeros_like(drive[0])
        trace = torch.zeros_like(drive[0])  # (B * y): negative
        table, coarse = None, 1.0
        if self.integer and not self.training:
            table = torch.from_numpy(probability_table(float(scale))).to(drive.device)
            coarse = 2.0 ** -table_shift(float(scale))
        potentials, probabilities, outputs = [], [], []
        for current, uniform in zip(drive, uniforms, strict=True):
            potential = leak(potential, config.shift_readout, self.integer) + current if filtered else current
            u = potential + feedback * trace + gamma
            if table is None:
                p = torch.sigmoid(u * scale)
            else:
                half = len(table) // 2
                p = table[((u * coarse).floor().clamp(-half, half) + half).long()]
            y = (uniform < p).to(u.dtype)
            trace = leak(trace, config.shift_feedback, True) - config.trace_unit * y
            potentials.append(u)
            probabilities.append(p)
            outputs.append(y)
        u = torch.stack(potentials)
        return Run(
            u * scale, u.detach() * self.integer, torch.stack(probabilities), torch.stack(outputs), layers
        )

    def readout_parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(weight [10, features], gamma [10], feedback [10], logits of one unit) in the present arithmetic."""
        weight = self.readout / self.unit if self.unit != 1 else self.readout
        feedback = self.feedback.clamp(min=0.0) / self.config.trace_unit
        if not self.integer:
            return weight, self.gamma, feedback, torch.ones((), device=feedback.device)
        # float32, as the card will hold it and the exported graph will be checked against.
        scale = weight.detach().abs().max() / self.config.largest_weight
        return (
            round_nearest(weight / scale),
            round_nearest(self.gamma / scale),
            round_nearest(feedback / scale),
            scale,
        )


class GLMNetwork(ProbabilisticReadout):
    """The probabilistic spiking network alone: output neurons that read the filtered pixels. No hidden layer.

    u_t = W a_t + w_fb (B * y)_t + gamma. Source: Jang, Simeone, Gardner, Gruning, eq. 4, one layer.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, SIDE * SIDE, config.trace_unit)

    def forward(self, spikes: Tensor, uniforms: Tensor) -> Run:
        """spikes [T, N, 1, 28, 28] {0, 1}, uniforms [T, N, 10] in [0, 1) -> Run."""
        traces = decay_filter(spikes, self.config.shift_input, self.config.trace_unit)  # [T, N, 1, 28, 28]
        return self._read_out(traces.flatten(2), uniforms, {}, filtered=False)


class SpikingTransformer(ProbabilisticReadout):
    """The whole network. `forward` simulates T steps from spike trains and uniform numbers."""

    def __init__(self, config: NetworkConfig = NetworkConfig()) -> None:
        super().__init__(config, config.tokens * config.channels)
        first, second = config.stem
        self.stem1 = Synapses((first, 1, 5, 5), stride=2, input_unit=config.trace_unit)
        self.stem2 = Synapses((second, first, 3, 3))
        self.stem3 = Synapses((config.channels, second, 3, 3), stride=2)
        if config.position:
            self.position = nn.Parameter(torch.zeros(config.tokens, config.channels))
        self.blocks = nn.ModuleList(Block(config, 1 + i) for i in range(config.blocks))

    def forward(self, spikes: Tensor, uniforms: Tensor) -> Run:
        """spikes [T, N, 1, 28, 28] {0, 1}, uniforms [T, N, 10] in [0, 1) -> Run."""
        config, layers = self.config, {}
        traces = decay_filter(spikes, config.shift_input, config.trace_unit)  # [T, N, 1, 28, 28]

        stem1, stem2 = self._membrane([self.stem1]), self._membrane([self.stem2])
        residual = self._membrane(self.residual_writers())
        x = layers["stem1"] = self._spikes(
            self._current(self.stem1, traces, stem1), stem1
        )  # [T, N, C1, 14, 14]
        currents = {"stem2": self._current(self.stem2, x, stem2)}
        x = layers["stem2"] = self._spikes(currents["stem2"], stem2)  # [T, N, C2, 14, 14]
        x = self._current(self.stem3, x, residual)  # [T, N, C, 7, 7]
        potential = x.flatten(3).transpose(2, 3)  # [T, N, L, C]: the residual stream, a current
        if config.position:
            potential = potential + self.place(residual[1])

        for number, block in enumerate(self.blocks, 1):
            assert isinstance(block, Block)
            name = f"block{number}."
            if block.attends:
                x = layers[name + "attention_in"] = self._spikes(potential, residual)
                x = with_neighbours(x) if config.neighbours else x
                qkv = []
                for role, synapses in (("query", block.query), ("key", block.key), ("value", block.value)):
                    membrane = self._membrane([synapses])
                    qkv.append(self._spikes(self._current(synapses, x, membrane), membrane))
                    layers[name + role] = qkv[-1]
                counts = spiking_self_attention(qkv[0], qkv[1], qkv[2], config.heads)
                # Counts of coincidences are integers already: their threshold is one too, at least 1.
                threshold = round_nearest(block.attention_threshold.clamp(min=1.0))
                x = lif(counts, threshold, config.shift_membrane, True)
                layers[name + "attention"] = x
                potential = potential + self._current(block.projection, x, residual)
            x = layers[name + "mlp_in"] = self._spikes(potential, residual)
            x = with_neighbours(x) if config.neighbours else x
            hidden = self._membrane([block.expand])
            x = layers[name + "mlp_hidden"] = self._spikes(self._current(block.expand, x, hidden), hidden)
            potential = potential + self._current(block.contract, x, residual)

        currents["tokens"] = potential
        x = layers["tokens"] = self._spikes(potential, residual)  # [T, N, L, C]
        run = self._read_out(x.flatten(2), uniforms, layers, filtered=True)
        return replace(run, currents=currents)

    def place(self, residual: Membrane | None) -> Tensor:
        """Current that tells a token where it is, [L, C], every step the same, in the residual's units."""
        return self.position if residual is None else round_nearest(self.position / residual.unit)

    def residual_writers(self) -> list[Synapses]:
        """Everything that adds to the residual potential, and so shares its units."""
        writers = [self.stem3]
        for block in self.blocks:
            assert isinstance(block, Block)
            writers += [block.projection, block.contract] if block.attends else [block.contract]
        return writers

    def _membrane(self, writers: list[Synapses]) -> tuple[list[Synapses], Membrane | None]:
        return writers, Membrane(writers, self.config.largest_weight) if self.integer else None

    def _current(
        self, synapses: Synapses, x: Tensor, membrane: tuple[list[Synapses], Membrane | None]
    ) -> Tensor:
        writers, integers = membrane
        if integers is None:
            current: Tensor = synapses(x)
            return current
        index = writers.index(synapses)
        return synapses.apply_weight(x, integers.weights[index], integers.biases[index])

    def _spikes(self, current: Tensor, membrane: tuple[list[Synapses], Membrane | None]) -> Tensor:
        integers = membrane[1]
        if integers is None:
            return lif(current, torch.ones((), device=current.device), self.config.shift_membrane, False)
        threshold = integers.v_threshold
        if current.dim() == 5:
            threshold = threshold.view(-1, 1, 1)  # [C, 1, 1] for feature maps, [C] for tokens
        return lif(current, threshold, self.config.shift_membrane, True)

    @property
    def tau(self) -> float:
        """Membrane time constant in time steps."""
        return tau_of_shift(self.config.shift_membrane)


SpikingNetwork = SpikingTransformer | GLMNetwork


def make_network(config: NetworkConfig) -> SpikingNetwork:
    """The network of a configuration, untrained."""
    return GLMNetwork(config) if config.kind == "glm" else SpikingTransformer(config)


def fan_outs(config: NetworkConfig) -> dict[str, dict[str, Any]]:
    """Synapses that one spike of each layer drives, `spikehead.model.card.FanOut` by layer name, in layer order.

    Queries meet the d columns of K^T V. A key spike meets the value spikes of its token and head, whose
    number varies, so keys and values are counted by coincidences and have no fan-out of their own.
    """
    if config.kind == "glm":
        return {"input": {"targets": CLASSES}, "output": {"targets": 1}}
    first, second = config.stem
    size = config.channels
    result: dict[str, dict[str, Any]] = {
        "input": _window(first, SIDE, 5, 2),
        "stem1": _window(second, SIDE // 2, 3, 1),
        "stem2": _window(size, SIDE // 2, 3, 2),
    }
    for number in range(1, config.blocks + 1):
        name = f"block{number}."
        if config.attends(number):
            result[name + "attention_in"] = {"targets": 3 * size}
            result[name + "query"] = {"targets": size // config.heads}
            result[name + "key"] = {"targets": 0}
            result[name + "value"] = {"targets": 0}
            result[name + "attention"] = {"targets": size}
        result[name + "mlp_in"] = {"targets": size * config.mlp_ratio}
        result[name + "mlp_hidden"] = {"targets": size}
    result["tokens"] = {"targets": CLASSES}
    result["output"] = {"targets": 1}
    return result


def _window(targets: int, side: int, kernel: int, stride: int) -> dict[str, Any]:
    """Fan-out of a convolution: how many windows see each row (and column), padding as `Synapses` does."""
    _, seen = windows(side, kernel, stride, (kernel - 1) // 2)
    return {"targets": targets, "rows": seen, "columns": seen}


def windows(side: int, kernel: int, stride: int, padding: int) -> tuple[int, list[int]]:
    """A convolution along one side: how many windows there are, and how many see each of its places."""
    count = (side + 2 * padding - kernel) // stride + 1
    return count, [sum(0 <= i + padding - o * stride < kernel for o in range(count)) for i in range(side)]


def layer_shapes(config: NetworkConfig) -> dict[str, list[int]]:
    """Shape of each layer of spikes without time and batch, in layer order."""
    if config.kind == "glm":
        return {"input": [1, SIDE, SIDE], "output": [CLASSES]}
    first, second = config.stem
    shapes = {
        "input": [1, SIDE, SIDE],
        "stem1": [first, SIDE // 2, SIDE // 2],
        "stem2": [second, SIDE // 2, SIDE // 2],
    }
    for name in fan_outs(config):
        if name.endswith("mlp_hidden"):
            shapes[name] = [config.tokens, config.channels * config.mlp_ratio]
        elif name.startswith("block") or name == "tokens":
            shapes[name] = [config.tokens, config.channels]
    return shapes | {"output": [CLASSES]}
