"""The spiking network with multi-head attention, from spike trains to output spikes. Read it top to bottom.

    spike trains [T, N, 1, 28, 28] -> decay filter (kernel A) -> stem -> blocks -> tokens
    -> readout potentials [T, N, 10] -> probabilistic spike generator, with feedback through kernel B

T time steps, N images, L tokens, C channels. Stem and blocks add to one current, the residual stream [T, N, L, C].
Each part returns what it computes, and the spikes of its layers by name.

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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from spikehead.model.encoding import MAX_SLOPE
from torch import Tensor, nn
from torch.nn import functional as F

from training.network.neurons import (
    LIFNeurons,
    decay_filter,
    leak,
    probability_table,
    round_nearest,
    table_shift,
)

CLASSES = 10
SIDE = 28

Kind = Literal["spiking-mha", "glm"]


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and time constants. A shift k is a decay by 1 - 2**-k a step.

    `kind` is the whole network, or the GLM output neurons alone: then stem, channels and blocks say nothing.
    With `position`, tokens are told their place; with `neighbours`, attention and MLPs see the tokens next to each.
    With `attention`, blocks from number `attention_from` (the first is 1) on have it; those before are MLPs alone.
    `rate_slope` belongs to the encoder's tuning curve, see `spikehead.model.encoding.firing_rates`.
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
        # A card would refuse it after the training.
        if not 1 <= self.rate_slope <= MAX_SLOPE:
            raise ValueError(f"expected a rate slope between 1 and {MAX_SLOPE}, got {self.rate_slope}")
        # Beyond the blocks, there would be no attention at all.
        if not 1 <= self.attention_from <= max(1, self.blocks):
            raise ValueError(
                f"expected attention from a block between 1 and {self.blocks}, got {self.attention_from}"
            )

    def attends(self, block: int) -> bool:
        """Tell if a block has attention; the first is 1."""
        return self.attention and block >= self.attention_from

    @property
    def tokens(self) -> int:
        return (SIDE // 4) ** 2

    @property
    def largest_weight(self) -> int:
        """The largest that `bits` hold, one of which is the sign."""
        return int(2 ** (self.bits - 1) - 1)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def fold(weight: Tensor, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Fold the running statistics of batch normalisation into a weight [C, ...] and a bias [C]."""
    assert norm.running_var is not None and norm.running_mean is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # [C]
    return weight * factor.view(-1, *[1] * (weight.dim() - 1)), norm.bias - norm.running_mean * factor


class Synapses(nn.Module):
    """Weights from one layer to the next (convolution or matrix), and batch normalisation of their currents.

    float:    current = BN(W x)                                 statistics of the batch while training
    integer:  current = round(W' / unit) x + round(b' / unit)   W', b' with the running statistics folded in
    """

    def __init__(
        self,
        config: NetworkConfig,
        shape: tuple[int, ...],
        stride: int = 1,
        gain: float = 1.0,
        input_unit: int = 1,
    ) -> None:
        super().__init__()
        self.config, self.stride, self.input_unit = config, stride, input_unit
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        self.norm = nn.BatchNorm1d(shape[0])
        nn.init.constant_(self.norm.weight, gain)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias with batch normalisation folded in."""
        weight, bias = fold(self.weight, self.norm)
        return weight / self.input_unit, bias

    def integers(self, neurons: LIFNeurons) -> tuple[Tensor, Tensor]:
        """Return weight and bias as `neurons` count them."""
        (weight, bias), largest = self.folded(), self.config.largest_weight
        return neurons.counted(weight).clamp(-largest, largest), neurons.counted(bias)

    def forward(self, x: Tensor, neurons: LIFNeurons) -> Tensor:
        """Drive `neurons`. x [T, N, ...] -> current [T, N, ...]; convolutions keep or halve height and width."""
        if neurons.integer:
            return self._product(x, *self.integers(neurons))
        current = self._product(x, self.weight, None)
        if self.input_unit != 1:
            current = current / self.input_unit
        matrix = self.weight.dim() == 2  # [T N L, C], else [T N, C, H W]
        normalised: Tensor = self.norm(current.flatten(0, 2) if matrix else current.flatten(0, 1).flatten(2))
        return normalised.view_as(current)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if weight.dim() == 2:
            return F.linear(x, weight, bias)  # [T, N, L, C_in] -> [T, N, L, C_out]
        padding = (weight.shape[-1] - 1) // 2
        current = F.conv2d(x.flatten(0, 1), weight, bias, self.stride, padding)
        return current.view(*x.shape[:2], *current.shape[1:])

    def spikes(self, x: Tensor, integer: bool) -> Tensor:
        """Drive neurons that nothing else drives. x [T, N, ...] -> their spikes [T, N, ...]."""
        neurons = neurons_of([self], integer)
        return neurons.spikes(self(x, neurons))


def neurons_of(writers: Sequence[Synapses], integer: bool) -> LIFNeurons:
    """Return the neurons that all these synapses drive. In integers, a potential has one unit whatever adds to it."""
    config = writers[0].config
    if not integer:
        return LIFNeurons(torch.ones((), device=writers[0].weight.device), config.shift_membrane, False)
    weights = [synapses.folded()[0] for synapses in writers]
    return LIFNeurons.driven_by(weights, config.largest_weight, config.shift_membrane)


class Stem(nn.Module):
    """Three convolutions, with spikes between them; the last writes the residual stream."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        first, second = config.stem
        self.stem1 = Synapses(config, (first, 1, 5, 5), stride=2, input_unit=config.trace_unit)
        self.stem2 = Synapses(config, (second, first, 3, 3))
        self.stem3 = Synapses(config, (config.channels, second, 3, 3), stride=2)
        if config.position:
            self.position = nn.Parameter(torch.zeros(config.tokens, config.channels))

    def place(self, residual: LIFNeurons) -> Tensor:
        """Return the current that tells a token where it is, [L, C], every step the same, in the stream's units."""
        return residual.counted(self.position.T).T

    def forward(self, traces: Tensor, residual: LIFNeurons) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Read traces [T, N, 1, 28, 28]. Returns stream [T, N, L, C], current into stem2, and spikes by layer."""
        stem1 = self.stem1.spikes(traces, residual.integer)  # [T, N, C1, 14, 14]
        neurons = neurons_of([self.stem2], residual.integer)
        current = self.stem2(stem1, neurons)  # [T, N, C2, 14, 14]
        stem2 = neurons.spikes(current)
        stream = self.stem3(stem2, residual).flatten(3).transpose(2, 3)  # [T, N, C, 7, 7] -> [T, N, L, C]
        if self.config.position:
            stream = stream + self.place(residual)
        return stream, current, {"stem1": stem1, "stem2": stem2}


def with_neighbours(x: Tensor) -> Tensor:
    """Move spikes: half of a token's channels stay, an eighth comes from each of the four around it. [..., L, C].

    Spikes only change places: no weight, no operation. The map is a torus: its edges are blank for digits.
    Source: the spatial shift of Yu et al., "S2-MLP: Spatial-Shift MLP Architecture for Vision", 2022.
    """
    side, share = math.isqrt(x.shape[-2]), x.shape[-1] // 8
    grid = x.unflatten(-2, (side, side))  # [..., row, column, C]
    own, above, below, left, right = grid.split([x.shape[-1] - 4 * share] + 4 * [share], -1)
    parts = [own, above.roll(1, -3), below.roll(-1, -3), left.roll(1, -2), right.roll(-1, -2)]
    return torch.cat(parts, -1).flatten(-3, -2)


def spiking_self_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Compute Q (K^T V) for each head: counts of coincidences, no softmax. Spikes [..., L, C] -> integers [..., L, C].

    Source: Spikformer's SSA. The order K^T V first costs L d^2 a head, Q K^T first L^2 d; both are exact.
    """

    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], heads, -1).transpose(-2, -3)  # [..., h, L, d]

    coincidences = split(key).transpose(-1, -2) @ split(value)  # [..., h, d, d]
    return (split(query) @ coincidences).transpose(-2, -3).flatten(-2)  # [..., L, C]


class Attention(nn.Module):
    """Spiking multi-head self-attention, a branch off the residual stream."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        square = (config.channels, config.channels)
        self.query = Synapses(config, square)
        self.key = Synapses(config, square)
        self.value = Synapses(config, square)
        self.projection = Synapses(config, square, gain=0.5)
        self.threshold = nn.Parameter(torch.full((config.channels,), 2.0))

    def counters(self) -> LIFNeurons:
        """Return the neurons that read coincidences: always integers, and so is their threshold, at least 1."""
        return LIFNeurons(round_nearest(self.threshold.clamp(min=1.0)), self.config.shift_membrane, True)

    def forward(self, stream: Tensor, residual: LIFNeurons) -> tuple[Tensor, dict[str, Tensor]]:
        """Read the stream [T, N, L, C]. Returns what attention adds to it, of its shape, and spikes by layer."""
        layers = {"attention_in": residual.spikes(stream)}  # [T, N, L, C], and so are all below
        x = with_neighbours(layers["attention_in"]) if self.config.neighbours else layers["attention_in"]
        for role, synapses in (("query", self.query), ("key", self.key), ("value", self.value)):
            layers[role] = synapses.spikes(x, residual.integer)
        counts = spiking_self_attention(layers["query"], layers["key"], layers["value"], self.config.heads)
        layers["attention"] = self.counters().spikes(counts)
        return self.projection(layers["attention"], residual), layers


class SpikingMLP(nn.Module):
    """Two matrices with spikes between them, a branch off the residual stream."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        channels, hidden = config.channels, config.channels * config.mlp_ratio
        self.expand = Synapses(config, (hidden, channels))
        self.contract = Synapses(config, (channels, hidden), gain=0.5)

    def forward(self, stream: Tensor, residual: LIFNeurons) -> tuple[Tensor, dict[str, Tensor]]:
        """Read the stream [T, N, L, C]. Returns what the MLP adds to it, of its shape, and spikes by layer."""
        mlp_in = residual.spikes(stream)  # [T, N, L, C]
        x = with_neighbours(mlp_in) if self.config.neighbours else mlp_in
        hidden = self.expand.spikes(x, residual.integer)  # [T, N, L, mlp_ratio C]
        return self.contract(hidden, residual), {"mlp_in": mlp_in, "mlp_hidden": hidden}


class Block(nn.Module):
    """Attention, unless `config` wants none in the block of this number, and an MLP."""

    def __init__(self, config: NetworkConfig, number: int) -> None:
        super().__init__()
        self.attention = Attention(config) if config.attends(number) else None
        self.mlp = SpikingMLP(config)

    def writers(self) -> list[Synapses]:
        """Return what adds to the residual stream."""
        return [*([self.attention.projection] if self.attention else []), self.mlp.contract]

    def forward(self, stream: Tensor, residual: LIFNeurons) -> tuple[Tensor, dict[str, Tensor]]:
        """Add to the stream [T, N, L, C]. Returns it, and spikes by layer."""
        layers: dict[str, Tensor] = {}
        if self.attention is not None:
            added, layers = self.attention(stream, residual)
            stream = stream + added
        added, others = self.mlp(stream, residual)
        return stream + added, layers | others


@dataclass
class Run:
    """The values of one simulation of a batch."""

    potentials: Tensor  # [T, N, 10] logits, differentiable
    integer_potentials: Tensor  # [T, N, 10] the same in integer units (0 in float arithmetic)
    spike_probabilities: Tensor  # [T, N, 10]
    output_spikes: Tensor  # [T, N, 10] {0, 1}
    layers: dict[str, Tensor] = field(default_factory=dict)  # name -> spikes [T, N, ...]
    currents: dict[str, Tensor] = field(default_factory=dict)  # what drives "stem2" and "tokens", [T, N, ...]


class Readout(nn.Module):
    """Probabilistic (GLM) output neurons: membrane potentials, spikes drawn from them, feedback.

        u_t = drive_t + w_fb (B * y)_t + gamma,   p_t = sigmoid(u_t),   y_t ~ Bernoulli(p_t)

    They read spikes, and filter what those drive: the filter is linear, so it can come after the weights, with 10
    states instead of as many as `features`. Or they read traces that are `filtered` already.
    """

    def __init__(self, config: NetworkConfig, features: int, filtered: bool = False) -> None:
        super().__init__()
        self.config, self.filtered = config, filtered
        # One spike in what is read.
        self.unit = config.trace_unit if filtered else 1
        self.weight = nn.Parameter(torch.randn(CLASSES, features) * 0.02)
        self.gamma = nn.Parameter(torch.full((CLASSES,), -2.0))
        # At least 0: kernel B itself is negative.
        self.feedback = nn.Parameter(torch.full((CLASSES,), 1.0))

    def constants(self, integer: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return weight [10, features], gamma [10], feedback [10], and the logits of one unit of potential."""
        weight = self.weight / self.unit if self.unit != 1 else self.weight
        feedback = self.feedback.clamp(min=0.0) / self.config.trace_unit
        if not integer:
            return weight, self.gamma, feedback, torch.ones((), device=feedback.device)
        # float32, as the card will hold it and the exported graph will be checked against.
        scale = weight.detach().abs().max() / self.config.largest_weight
        weight, gamma, feedback = (round_nearest(one / scale) for one in (weight, self.gamma, feedback))
        return weight, gamma, feedback, scale

    def forward(self, x: Tensor, uniforms: Tensor, integer: bool) -> Run:
        """Read x [T, N, features], and fire if a probability is over its number of `uniforms` [T, N, 10] in [0, 1)."""
        config = self.config
        weight, gamma, feedback, scale = self.constants(integer)
        drive = F.linear(x, weight)  # [T, N, 10]
        # The trace is (B * y): negative.
        potential, trace = torch.zeros_like(drive[0]), torch.zeros_like(drive[0])  # [N, 10]
        table, coarse = None, 1.0
        if integer and not self.training:
            table = torch.from_numpy(probability_table(float(scale))).to(drive.device)
            coarse = 2.0 ** -table_shift(float(scale))
        potentials, probabilities, outputs = [], [], []
        for current, uniform in zip(drive, uniforms, strict=True):  # [N, 10]
            potential = current if self.filtered else leak(potential, config.shift_readout, integer) + current
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
        return Run(u * scale, u.detach() * integer, torch.stack(probabilities), torch.stack(outputs))


class SpikingTransformer(nn.Module):
    """The whole network."""

    def __init__(self, config: NetworkConfig = NetworkConfig()) -> None:
        super().__init__()
        self.config, self.integer = config, False
        self.readout = Readout(config, config.tokens * config.channels)
        self.stem = Stem(config)
        self.blocks = nn.ModuleList(Block(config, 1 + i) for i in range(config.blocks))

    def residual(self, integer: bool) -> LIFNeurons:
        """Return the neurons that read the residual stream: all that adds to it shares their units."""
        writers = [self.stem.stem3]
        for block in self.blocks:
            assert isinstance(block, Block)
            writers += block.writers()
        return neurons_of(writers, integer)

    def forward(self, spikes: Tensor, uniforms: Tensor) -> Run:
        """Simulate T steps. spikes [T, N, 1, 28, 28] {0, 1}, uniforms [T, N, 10] in [0, 1) -> Run."""
        config, residual = self.config, self.residual(self.integer)
        traces = decay_filter(spikes, config.shift_input, config.trace_unit)  # [T, N, 1, 28, 28]
        stream, stem2, layers = self.stem(traces, residual)  # [T, N, L, C]
        for number, block in enumerate(self.blocks, 1):
            stream, of_block = block(stream, residual)
            layers |= {f"block{number}.{name}": spikes for name, spikes in of_block.items()}
        layers["tokens"] = residual.spikes(stream)  # [T, N, L, C]
        run: Run = self.readout(layers["tokens"].flatten(2), uniforms, self.integer)
        return replace(run, layers=layers, currents={"stem2": stem2, "tokens": stream})


class GLMNetwork(nn.Module):
    """The probabilistic spiking network alone: output neurons that read the filtered pixels. No hidden layer.

    u_t = W a_t + w_fb (B * y)_t + gamma. Source: Jang, Simeone, Gardner, Gruning, eq. 4, one layer.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config, self.integer = config, False
        self.readout = Readout(config, SIDE * SIDE, filtered=True)

    def forward(self, spikes: Tensor, uniforms: Tensor) -> Run:
        """Simulate T steps. spikes [T, N, 1, 28, 28] {0, 1}, uniforms [T, N, 10] in [0, 1) -> Run."""
        traces = decay_filter(spikes, self.config.shift_input, self.config.trace_unit)  # [T, N, 1, 28, 28]
        run: Run = self.readout(traces.flatten(2), uniforms, self.integer)
        return run


SpikingNetwork = SpikingTransformer | GLMNetwork


def make_network(config: NetworkConfig) -> SpikingNetwork:
    """Return the network of a configuration, untrained."""
    return GLMNetwork(config) if config.kind == "glm" else SpikingTransformer(config)
