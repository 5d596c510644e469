"""Neurons as pure steps: input and state in, spikes and state out. Time comes first: [T, N, ...].

Two arithmetics share each formula. In *float* the leak is a multiplication; in *integer* (what is exported)
it is a shift, `v - floor(v / 2**shift)`, on integers that float32 holds exactly. The integer values never
reach 2**24, so no order of summation can change a spike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

EXACT_LIMIT = 2**24
"""Integers up to here are exact in float32."""


def tau_of_shift(shift: int) -> float:
    """Time constant, in time steps, of the decay by 1 - 2**-shift a step: exp(-1 / tau) = 1 - 2**-shift."""
    return -1.0 / float(np.log1p(-(2.0**-shift)))


def leak(v: Tensor, shift: int, integer: bool) -> Tensor:
    """One step of exponential decay by 1 - 2**-shift. Any shape; integer potentials stay integer.

    The gradient is that of the multiplication in both arithmetics (straight through the rounding).
    """
    if not integer:
        return v * (1.0 - 2.0**-shift)
    return v - round_down(v * 2.0**-shift)


def round_down(x: Tensor) -> Tensor:
    """floor(x), with the gradient of x."""
    return x + (x.floor() - x).detach()


def round_nearest(x: Tensor) -> Tensor:
    """round(x), with the gradient of x."""
    return x + (x.round() - x).detach()


def surrogate_gradient(distance: Tensor) -> Tensor:
    """Stands for the derivative of a spike: 1 / (1 + (pi x)^2), x = (v - threshold) / threshold.

    Source: the arctan surrogate of Fang et al., "Incorporating Learnable Membrane Time Constant", 2021.
    """
    return 1.0 / (1.0 + (torch.pi * distance).square())


def lif_step(
    v: Tensor, current: Tensor, v_threshold: Tensor, shift: int, integer: bool
) -> tuple[Tensor, Tensor]:
    """Leaky integrate-and-fire, one time step.

        v <- leak(v) + current;   spike = v >= v_threshold;   v <- 0 where it spiked

    v, current [N, ...]; v_threshold broadcasts. Returns (spikes {0, 1}, v). No gradient: see `LIF`.
    """
    v = leak(v, shift, integer) + current
    spikes = (v >= v_threshold).to(v.dtype)
    return spikes, v * (1.0 - spikes)


class LIF(torch.autograd.Function):
    """`lif_step` over all time steps, with a surrogate gradient; the reset carries no gradient.

    currents [T, N, ...], v_threshold broadcastable to [N, ...] -> spikes [T, N, ...].
    """

    # No writes in place: torch.compile fuses these loops into one pass over memory only where there are none.

    @staticmethod
    def forward(ctx: Any, currents: Tensor, v_threshold: Tensor, shift: int, integer: bool) -> Tensor:
        before_reset, spikes = [], []
        v = torch.zeros_like(currents[0])
        for current in currents.unbind(0):
            v = leak(v, shift, integer) + current
            before_reset.append(v)
            spikes.append((v >= v_threshold).to(v.dtype))
            v = v * (1.0 - spikes[-1])
        result = torch.stack(spikes)
        ctx.save_for_backward(torch.stack(before_reset), result, v_threshold)
        ctx.shift = shift
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_spikes,) = grads
        before_reset, spikes, v_threshold = ctx.saved_tensors
        by_spike = grad_spikes * surrogate_gradient(before_reset / v_threshold - 1.0) / v_threshold
        later = torch.zeros_like(by_spike[0])
        grad_currents = []
        for t in reversed(range(len(spikes))):
            later = by_spike[t] + later * (1.0 - spikes[t]) * (1.0 - 2.0**-ctx.shift)
            grad_currents.append(later)
        grad_threshold = by_spike.neg().sum_to_size(v_threshold.shape) if ctx.needs_input_grad[1] else None
        return torch.stack(grad_currents[::-1]), grad_threshold, None, None


def lif(currents: Tensor, v_threshold: Tensor, shift: int, integer: bool) -> Tensor:
    """Spikes of a layer of LIF neurons. currents [T, N, ...] -> [T, N, ...] {0, 1}."""
    spikes: Tensor = LIF.apply(currents, v_threshold, shift, integer)  # type: ignore[no-untyped-call]
    return spikes


def decay_filter(spikes: Tensor, shift: int, unit: int) -> Tensor:
    """Kernel A: filtered spike trains a_t = leak(a_{t-1}) + unit * x_t, in integers of 1/unit.

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
    """Potentials share an entry of the table by so many low bits: 0 unless it would have over 2**14 entries."""
    return max(0, int(np.ceil(np.log2(2 * REACH / potential_scale / MOST_ENTRIES))))


def probability_table(potential_scale: float, levels: int = 2**16) -> np.ndarray[Any, np.dtype[np.float32]]:
    """sigmoid(potential) for every integer potential within +-`REACH` logits, in multiples of 1/levels.

    A table, because a rounded sigmoid differs between machines in its last bit, and that bit could flip an
    output spike. Entry i + len // 2 is for the potentials u with u >> `table_shift` = i, at their middle.
    float32 [about 2 * REACH / potential_scale, at most 2**14 and 3].
    """
    width = 2 ** table_shift(potential_scale)
    half = int(np.ceil(REACH / potential_scale / width))
    middle = np.arange(-half, half + 1) * width + (width - 1) / 2
    logits = middle * potential_scale
    return np.asarray(np.round(levels / (1.0 + np.exp(-logits))) / levels, np.float32)
