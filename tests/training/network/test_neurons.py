"""Neurons: membrane sequences worked out by hand."""

import numpy as np
import pytest
import torch

from training.network.neurons import (
    LIFNeurons,
    decay_filter,
    leak,
    probability_table,
    round_down,
    round_nearest,
    surrogate_gradient,
    tau_of_shift,
)

FLOAT = LIFNeurons(torch.tensor(1.0), 1, integer=False)


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
    neurons, v = LIFNeurons(torch.tensor(10.0), 1, integer=True), torch.zeros(1)
    seen = []
    for _ in range(6):
        spikes, v, before_reset = neurons.step(v, torch.tensor([6.0]))
        seen.append((spikes.item(), v.item(), before_reset.item()))
    assert seen == [(0, 6, 6), (0, 9, 9), (1, 0, 11), (0, 6, 6), (0, 9, 9), (1, 0, 11)]


def test_a_neuron_spikes_at_the_threshold_and_not_below() -> None:
    currents = torch.tensor([[9.0, 10.0, 11.0]])
    assert LIFNeurons(torch.tensor(10.0), 1, True).spikes(currents).tolist() == [[0.0, 1.0, 1.0]]


@pytest.mark.parametrize("shape", [(1, 1, 4, 2), (1, 1, 2, 3, 3)], ids=["tokens", "maps"])
def test_each_channel_has_its_threshold(shape: tuple[int, ...]) -> None:
    spikes = LIFNeurons(torch.tensor([1.0, 3.0]), 1, True).spikes(torch.full(shape, 2.0))
    channels = spikes.movedim(2 if len(shape) == 5 else 3, 0)
    assert bool((channels[0] == 1).all()) and not channels[1].any()


@pytest.mark.parametrize("integer", [True, False])
def test_sequence_equals_steps(integer: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    currents = torch.randint(-9, 12, (6, 4, 5), generator=generator).float()
    neurons = LIFNeurons(torch.tensor([3.0, 5.0, 8.0, 1.0, 20.0]), 1, integer)
    v, expected = torch.zeros(4, 5), []
    for current in currents:
        spikes, v, _ = neurons.step(v, current)
        expected.append(spikes)
    assert torch.equal(neurons.spikes(currents), torch.stack(expected))


def test_gradient_through_time_by_hand() -> None:
    """Two steps, no spike: dL/dI_1 gets its own surrogate slope and half of step 2's."""
    currents = torch.tensor([[0.4], [0.4]], requires_grad=True)
    FLOAT.spikes(currents).sum().backward()
    slope_1 = surrogate_gradient(torch.tensor(0.4 - 1.0)).item()
    slope_2 = surrogate_gradient(torch.tensor(0.6 - 1.0)).item()
    assert currents.grad is not None
    assert currents.grad[1].item() == pytest.approx(slope_2)
    assert currents.grad[0].item() == pytest.approx(slope_1 + 0.5 * slope_2)


def test_gradient_stops_at_a_reset() -> None:
    currents = torch.tensor([[2.0], [0.4]], requires_grad=True)
    FLOAT.spikes(currents).sum().backward()
    assert currents.grad is not None
    assert currents.grad[0].item() == pytest.approx(surrogate_gradient(torch.tensor(1.0)).item())


def test_gradient_of_the_threshold_is_minus_that_of_the_current() -> None:
    currents = torch.tensor([[0.7, 0.7]], requires_grad=True)
    threshold = torch.tensor([1.0, 1.0], requires_grad=True)
    LIFNeurons(threshold, 1, False).spikes(currents).sum().backward()
    assert currents.grad is not None and threshold.grad is not None
    assert torch.allclose(threshold.grad, -currents.grad[0])


def test_gradients_through_time_are_those_of_a_loop() -> None:
    """Six steps of three images, four channels: the recursion written down, one neuron and step at a time."""
    generator = torch.Generator().manual_seed(4)
    currents = torch.randn(6, 3, 4, generator=generator).requires_grad_()
    threshold = torch.tensor([0.5, 1.0, 2.0, 0.25], requires_grad=True)
    wanted = torch.randn(6, 3, 4, generator=generator)
    neurons = LIFNeurons(threshold, 2, False)
    (neurons.spikes(currents) * wanted).sum().backward()
    v, before, fired = torch.zeros(3, 4), [], []
    for current in currents.detach():
        before.append(0.75 * v + current)
        spikes, v, _ = neurons.step(v, current)
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


def test_no_threshold_is_over_2_to_the_15() -> None:
    """Weights of channel 0 are all zero, those of channel 1 a half of what the least unit could hold."""
    weight = torch.tensor([[0.0, 0.0], [-63 * 2.0**-15, 2.0**-15], [-1.0, 0.5]])
    neurons = LIFNeurons.driven_by([weight], 127, 1)
    assert neurons.unit is not None
    assert neurons.unit.tolist() == [2.0**-15, 2.0**-15, float(torch.tensor(1.0) / 127)]
    assert neurons.v_threshold.tolist() == [2**15, 2**15, 127]
    assert neurons.counted(weight).tolist() == [[0, 0], [-63, 1], [-127, 64]]
    assert neurons.counted(torch.tensor([1.0, -0.5, 0.25])).tolist() == [2**15, -(2**14), 32]


def test_all_that_drives_neurons_is_counted_in_one_unit() -> None:
    """The largest weight of a channel is 127 units, whichever matrix it is in."""
    small, large = torch.tensor([[0.5], [1.0]]), torch.tensor([[[-1.0, 0.0]], [[0.25, 0.5]]])
    neurons = LIFNeurons.driven_by([small, large], 127, 1)
    assert neurons.integer and neurons.v_threshold.tolist() == [127, 127]
    assert neurons.counted(small).tolist() == [[64], [127]]  # 63.5 is rounded to even
    assert neurons.counted(large).tolist() == [[[-127, 0]], [[32, 64]]]
    assert FLOAT.counted(small) is small


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
