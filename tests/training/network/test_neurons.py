"""Neurons: membrane sequences worked out by hand."""

import numpy as np
import pytest
import torch

from training.network.neurons import (
    LIF,
    decay_filter,
    leak,
    lif,
    lif_step,
    probability_table,
    round_down,
    round_nearest,
    surrogate_gradient,
    tau_of_shift,
)


def test_tau_is_that_of_the_shift() -> None:
    assert np.exp(-1 / tau_of_shift(1)) == pytest.approx(0.5)
    assert np.exp(-1 / tau_of_shift(2)) == pytest.approx(0.75)


def test_leak_in_integers_rounds_as_an_arithmetic_shift() -> None:
    v = torch.tensor([7.0, 8.0, 1.0, 0.0, -1.0, -7.0])
    assert leak(v, 1, True).tolist() == [4.0, 4.0, 1.0, 0.0, 0.0, -3.0]
    assert leak(v, 2, True).tolist() == [6.0, 6.0, 1.0, 0.0, 0.0, -5.0]
    assert leak(v, 1, True).tolist() == [x - (x >> 1) for x in (7, 8, 1, 0, -1, -7)]


def test_leak_in_float_multiplies() -> None:
    assert leak(torch.tensor([7.0, -1.0]), 2, False).tolist() == [5.25, -0.75]


def test_lif_membrane_sequence_by_hand() -> None:
    """Threshold 10, integer leak by half: 6 | 3+6=9 | 5+6=11 spikes, 0 | 6 | 3+6=9 | 5+6=11 spikes."""
    v = torch.zeros(1)
    seen, fired = [], []
    for _ in range(6):
        spikes, v = lif_step(v, torch.tensor([6.0]), torch.tensor(10.0), 1, True)
        seen.append(v.item())
        fired.append(spikes.item())
    assert seen == [6.0, 9.0, 0.0, 6.0, 9.0, 0.0]
    assert fired == [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]


def test_a_neuron_spikes_at_the_threshold_and_not_below() -> None:
    currents = torch.tensor([[9.0, 10.0, 11.0]])
    assert lif(currents, torch.tensor(10.0), 1, True).tolist() == [[0.0, 1.0, 1.0]]


@pytest.mark.parametrize("integer", [True, False])
def test_sequence_equals_steps(integer: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    currents = torch.randint(-9, 12, (6, 4, 5), generator=generator).float()
    threshold = torch.tensor([3.0, 5.0, 8.0, 1.0, 20.0])
    v, expected = torch.zeros(4, 5), []
    for current in currents:
        spikes, v = lif_step(v, current, threshold, 1, integer)
        expected.append(spikes)
    assert torch.equal(lif(currents, threshold, 1, integer), torch.stack(expected))


def test_gradient_through_time_by_hand() -> None:
    """Two steps, no spike: dL/dI_1 gets its own surrogate slope and half of step 2's."""
    currents = torch.tensor([[0.4], [0.4]], requires_grad=True)
    lif(currents, torch.tensor(1.0), 1, False).sum().backward()
    slope_1 = surrogate_gradient(torch.tensor(0.4 - 1.0)).item()
    slope_2 = surrogate_gradient(torch.tensor(0.6 - 1.0)).item()
    assert currents.grad is not None
    assert currents.grad[1].item() == pytest.approx(slope_2)
    assert currents.grad[0].item() == pytest.approx(slope_1 + 0.5 * slope_2)


def test_gradient_stops_at_a_reset() -> None:
    currents = torch.tensor([[2.0], [0.4]], requires_grad=True)
    lif(currents, torch.tensor(1.0), 1, False).sum().backward()
    assert currents.grad is not None
    assert currents.grad[0].item() == pytest.approx(surrogate_gradient(torch.tensor(1.0)).item())


def test_gradient_of_the_threshold_is_minus_that_of_the_current() -> None:
    currents = torch.tensor([[0.7, 0.7]], requires_grad=True)
    threshold = torch.tensor([1.0, 1.0], requires_grad=True)
    LIF.apply(currents, threshold, 1, False).sum().backward()  # type: ignore[no-untyped-call]
    assert currents.grad is not None and threshold.grad is not None
    assert torch.allclose(threshold.grad, -currents.grad[0])


def test_gradients_through_time_are_those_of_a_loop() -> None:
    """Six steps of three images, four channels: the recursion written down, one neuron and step at a time."""
    generator = torch.Generator().manual_seed(4)
    currents = torch.randn(6, 3, 4, generator=generator).requires_grad_()
    threshold = torch.tensor([0.5, 1.0, 2.0, 0.25], requires_grad=True)
    wanted = torch.randn(6, 3, 4, generator=generator)
    (lif(currents, threshold, 2, False) * wanted).sum().backward()
    v, before, fired = torch.zeros(3, 4), [], []
    for current in currents.detach():
        before.append(0.75 * v + current)
        spikes, v = lif_step(v, current, threshold.detach(), 2, False)
        fired.append(spikes)
    by_current, by_threshold = torch.zeros(6, 3, 4), torch.zeros(4)
    for image in range(3):
        for channel in range(4):
            limit, later = [0.5, 1.0, 2.0, 0.25][channel], 0.0
            for t in reversed(range(6)):
                distance = float(before[t][image, channel]) / limit - 1
                slope = 1 / (1 + (np.pi * distance) ** 2) / limit
                own = float(wanted[t, image, channel]) * slope
                later = own + later * 0.75 * (1 - float(fired[t][image, channel]))
                by_current[t, image, channel] = later
                by_threshold[channel] -= own
    assert 5 < sum(int(spikes.sum()) for spikes in fired) < 67
    assert currents.grad is not None and threshold.grad is not None
    assert torch.allclose(currents.grad, by_current, atol=1e-6)
    assert torch.allclose(threshold.grad, by_threshold, atol=1e-5)


def test_rounding_passes_the_gradient() -> None:
    x = torch.tensor([1.6, -1.6], requires_grad=True)
    (round_down(x).sum() + 2 * round_nearest(x).sum()).backward()
    assert round_down(x).tolist() == [1.0, -2.0]
    assert round_nearest(x).tolist() == [2.0, -2.0]
    assert x.grad is not None and x.grad.tolist() == [3.0, 3.0]


def test_decay_filter_by_hand() -> None:
    """Units of 1/16: spike 16 | 8+16=24 | 12 | 6 | 3 | 2 | 1 | 1: a trace never falls from 1 to 0 by itself."""
    spikes = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])[:, None]
    assert decay_filter(spikes, 1, 16)[:, 0].tolist() == [16.0, 24.0, 12.0, 6.0, 3.0, 2.0, 1.0, 1.0]


def test_probability_table_is_the_sigmoid_in_exact_steps() -> None:
    table = probability_table(0.25)
    half = len(table) // 2
    assert half == 64
    assert table[half] == 0.5
    assert table[half + 4] == pytest.approx(1 / (1 + np.exp(-1.0)), abs=2**-17)
    assert (np.diff(table) >= 0).all()
    assert (table * 2**16 == np.round(table * 2**16)).all()
