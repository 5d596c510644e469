"""Neurons as pure steps: input and state in, spikes and state out. Time comes first: [T, N, ...].

Two arithmetics share each formula. In *float* the leak is a multiplication; in *integer* (what is exported)
it is a shift, `v - floor(v / 2**shift)`, on integers that float32 holds exactly. The integer values never
reach 2**24, so no order of summation can change a spike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

EXACT_LIMIT = 2**24
"""Integers up to here are exact in float32."""


def tau_of_shift(shift: int) -> float:
    """Return the time constant, in time steps, of a decay by 1 - 2**-shift a step: exp(-1 / tau) = 1 - 2**-shift."""
    return -1.0 / float(np.log1p(-(2.0**-shift)))


def leak(v: Tensor, shift: int, integer: bool) -> Tensor:
    """Decay by 1 - 2**-shift, one time step. Any shape; integer potentials stay integer.

    The gradient is that of the multiplication in both arithmetics (straight through the rounding).
    """
    if not integer:
        return v * (1.0 - 2.0**-shift)
    return v - round_down(v * 2.0**-shift)


def round_down(x: Tensor) -> Tensor:
    """Round down; the gradient is that of x."""
    return x + (x.floor() - x).detach()


def round_nearest(x: Tensor) -> Tensor:
    """Round to the nearest integer; the gradient is that of x."""
    return x + (x.round() - x).detach()


def surrogate_gradient(distance: Tensor) -> Tensor:
    """Stand in for the derivative of a spike: 1 / (1 + (pi x)^2), x = (v - threshold) / threshold.

    Source: the arctan surrogate of Fang et al., "Incorporating Learnable Membrane Time Constant", 2021.
    """
    return 1.0 / (1.0 + (torch.pi * distance).square())


class LIFNeurons:
    """The leaky integrate-and-fire neurons of a layer, in float or in integers. Nothing here changes: state is passed.

        v <- leak(v) + current;   spike = v >= v_threshold;   v <- 0 if it spiked

    v_threshold: one number, or one for each channel [C]. unit [C]: what one integer of potential stands for; None if
    weights and biases are counted as they are.
    """

    def __init__(self, v_threshold: Tensor, shift: int, integer: bool, unit: Tensor | None = None) -> None:
        self.v_threshold, self.shift, self.integer, self.unit = v_threshold, shift, integer, unit

    @classmethod
    def driven_by(cls, weights: Sequence[Tensor], largest: int, shift: int) -> LIFNeurons:
        """Return neurons in integers. The largest of all `weights` [C, ...] of a channel counts as `largest` units."""
        peak = torch.stack([w.detach().abs().flatten(1).amax(1) for w in weights]).amax(0)  # [C]
        # A unit under 2**-15 of the threshold would let potentials outgrow 2**24.
        unit = (peak / largest).clamp(min=2.0**-15)
        return cls((1.0 / unit).round(), shift, True, unit)

    def counted(self, values: Tensor) -> Tensor:
        """Count weights, biases or constant currents [C, ...] in units, rounded; in float, leave them as they are."""
        if self.unit is None:
            return values
        return round_nearest(values / self.unit.view(-1, *[1] * (values.dim() - 1)))

    def step(self, v: Tensor, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Advance by one time step. v, current [N, ...] -> spikes {0, 1}, v, and v before the reset. No gradient."""
        before_reset = leak(v, self.shift, self.integer) + current
        spikes = (before_reset >= self.v_threshold).to(v.dtype)
        return spikes, before_reset * (1.0 - spikes), before_reset

    def spikes(self, currents: Tensor) -> Tensor:
        """Fire through all time steps, from v = 0. Tokens [T, N, L, C] or maps [T, N, C, H, W] -> spikes {0, 1}."""
        v_threshold = self.v_threshold
        # A single number stays one: as a tensor with axes it would turn currents of bfloat16 into float32.
        if currents.dim() == 5 and v_threshold.dim() == 1:
            v_threshold = v_threshold.view(-1, 1, 1)
        result: Tensor = _Spikes.apply(currents, v_threshold, self.shift, self.integer)  # type: ignore[no-untyped-call]
        return result


class _Spikes(torch.autograd.Function):
    """`LIFNeurons.step` over all time steps, with a surrogate gradient; the reset carries no gradient."""

    # No writes in place: torch.compile fuses these loops into one pass over memory only if there are none.

    @staticmethod
    def forward(ctx: Any, currents: Tensor, v_threshold: Tensor, shift: int, integer: bool) -> Tensor:
        neurons, steps = LIFNeurons(v_threshold, shift, integer), []
        v = torch.zeros_like(currents[0])
        for current in currents.unbind(0):
            spikes, v, before_reset = neurons.step(v, current)
            steps.append((spikes, before_reset))
        result, potentials = (torch.stack(values) for values in zip(*steps, strict=True))  # [T, N, ...] each
        ctx.save_for_backward(potentials, result, v_threshold)
        ctx.shift = shift
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_spikes,) = grads
        potentials, spikes, v_threshold = ctx.saved_tensors
        by_spike = grad_spikes * surrogate_gradient(potentials / v_threshold - 1.0) / v_threshold
        later = torch.zeros_like(by_spike[0])
        grad_currents = []
        for t in reversed(range(len(spikes))):
            later = by_spike[t] + later * (1.0 - spikes[t]) * (1.0 - 2.0**-ctx.shift)
            grad_currents.append(later)
        grad_threshold = by_spike.neg().sum_to_size(v_threshold.shape) if ctx.needs_input_grad[1] else None
        return torch.stack(grad_currents[::-1]), grad_threshold, None, None


def decay_filter(spikes: Tensor, shift: int, unit: int) -> Tensor:
    """Filter spike trains by kernel A: a_t = leak(a_{t-1}) + unit * x_t, in integers of 1/unit.

    spikes [T, N, ...] {0, 1} -> [T, N, ...], at most unit * 2**shift. The design's a_t = exp(-1/tau) a_{t-1} + x_t.
    """
    trace = torch.zeros_like(spikes[0])
    traces = []
    for x in spikes:
        trace = leak(trace, shift, True) + unit * x
        traces.append(trace)
    return torch.stack(traces)


REACH = 16.0
"""Logits beyond which a spike is as good as certain, either way."""

MOST_ENTRIES = 2**14


def table_shift(potential_scale: float) -> int:
    """Return the number of low bits that a table ignores: 0 unless it would have over 2**14 entries."""
    return max(0, int(np.ceil(np.log2(2 * REACH / potential_scale / MOST_ENTRIES))))


def probability_table(potential_scale: float, levels: int = 2**16) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Tabulate sigmoid(potential) for every integer potential within +-`REACH` logits, in multiples of 1/levels.

    A table, because a rounded sigmoid differs between machines in its last bit, and that bit could flip an
    output spike. Entry i + len // 2 is for the potentials u with u >> `table_shift` = i, at their middle.
    float32 [about 2 * REACH / potential_scale, at most 2**14 and 3].
    """
    width = 2 ** table_shift(potential_scale)
    half = int(np.ceil(REACH / potential_scale / width))
    middle = np.arange(-half, half + 1) * width + (width - 1) / 2
    logits = middle * potential_scale
    return np.asarray(np.round(levels / (1.0 + np.exp(-logits))) / levels, np.float32)
