"""The network: shapes, arithmetic, names."""

import pytest
import torch

from tests.training.conftest import GLM, SMALL, make_glm, make_network
from training.network import spiking
from training.network.layers import layers_of
from training.network.spiking import (
    Block,
    GLMNetwork,
    NetworkConfig,
    SpikingTransformer,
    spiking_self_attention,
    with_neighbours,
)

SPIKES = (torch.rand(3, 5, 1, 28, 28, generator=torch.Generator().manual_seed(1)) < 0.3).float()
UNIFORMS = torch.rand(3, 5, 10, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("integer", [True, False])
def test_every_layer_has_the_shape_that_the_card_will_quote(
    small_network: SpikingTransformer, integer: bool
) -> None:
    small_network.integer = integer
    run = small_network(SPIKES, UNIFORMS)
    layers = layers_of(SMALL)
    assert ["input", *run.layers, "output"] == list(layers)
    for name, spikes in run.layers.items():
        assert list(spikes.shape) == [3, 5, *layers[name].shape]
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
    assert run.potentials.shape == run.spike_probabilities.shape == run.output_spikes.shape == (3, 5, 10)


def test_integer_network_computes_on_whole_numbers(small_network: SpikingTransformer) -> None:
    run = small_network(SPIKES, UNIFORMS)
    assert torch.equal(run.integer_potentials, run.integer_potentials.round())
    weight, gamma, feedback, _ = small_network.readout.constants(integer=True)
    for values in (weight, gamma, feedback):
        assert torch.equal(values, values.round())
    assert weight.abs().max() == 127


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (4, 7), (2, 1)])
def test_weights_have_as_many_bits_as_asked_for(bits: int, largest: int) -> None:
    network = make_network(NetworkConfig(stem=(4, 4), channels=8, blocks=1, heads=2, bits=bits))
    residual = network.residual(integer=True)
    (block,) = network.blocks
    assert isinstance(block, Block)
    weights = [one.integers(residual)[0].detach() for one in (network.stem.stem3, *block.writers())]
    assert max(float(weight.abs().max()) for weight in weights) == largest
    assert torch.equal(residual.v_threshold, residual.v_threshold.round())


def test_a_prefix_does_not_depend_on_what_comes_after(small_network: SpikingTransformer) -> None:
    whole, part = small_network(SPIKES, UNIFORMS), small_network(SPIKES[:2], UNIFORMS[:2])
    assert torch.equal(whole.potentials[:2], part.potentials)


def test_an_image_does_not_depend_on_its_batch(small_network: SpikingTransformer) -> None:
    whole, alone = small_network(SPIKES, UNIFORMS), small_network(SPIKES[:, 3:4], UNIFORMS[:, 3:4])
    assert torch.equal(whole.potentials[:, 3:4], alone.potentials)


@pytest.mark.parametrize("integer", [False, True])
def test_a_position_drives_its_own_token_alone(small_network: SpikingTransformer, integer: bool) -> None:
    """Silence it before attention, and only that token's first layer changes."""
    small_network.integer = integer
    before = small_network(SPIKES, UNIFORMS).layers["block1.attention_in"]
    with torch.no_grad():
        small_network.stem.position[13] = -1000.0
    after = small_network(SPIKES, UNIFORMS).layers["block1.attention_in"]
    assert before[:, :, 13].any() and not after[:, :, 13].any()
    others = torch.arange(SMALL.tokens) != 13
    assert torch.equal(before[:, :, others], after[:, :, others])


def test_a_position_is_counted_in_the_residuals_units(small_network: SpikingTransformer) -> None:
    residual, stem = small_network.residual(integer=True), small_network.stem
    place = stem.place(residual)
    assert torch.equal(place, place.round()) and place.abs().max() > 1
    assert residual.unit is not None
    assert torch.allclose(place * residual.unit, stem.position, atol=float(residual.unit.max()) / 2)
    assert torch.equal(stem.place(small_network.residual(integer=False)), stem.position)


def test_tokens_see_those_around_them_by_hand() -> None:
    """3 x 3 tokens of 8 channels: 4 their own, then one from above, below, left and right, over the edge too."""
    x = torch.arange(9.0).view(9, 1) * 10 + torch.arange(8.0)  # token and channel as digits
    seen = with_neighbours(x)
    assert seen[4].tolist() == [40, 41, 42, 43, 14, 75, 36, 57]
    assert seen[0].tolist() == [0, 1, 2, 3, 64, 35, 26, 17]


@pytest.mark.parametrize("channels", [4, 12, 64])
def test_seeing_neighbours_moves_every_spike_and_loses_none(channels: int) -> None:
    x = torch.arange(2 * 49.0 * channels).view(2, 49, channels)
    seen = with_neighbours(x)
    assert torch.equal(seen.flatten(1).sort().values, x.flatten(1))
    own = channels - channels // 8 * 4
    assert torch.equal(seen[..., :own], x[..., :own])


@pytest.mark.parametrize("neighbours", [False, True])
def test_a_token_reaches_those_next_to_it_through_the_mlp(neighbours: bool) -> None:
    """Silence one token: without attention, the others' hidden neurons notice where they see it, and nowhere else."""
    config = NetworkConfig(stem=(4, 4), channels=8, blocks=1, heads=2, attention=False, neighbours=neighbours)
    network = make_network(config)
    before = network(SPIKES, UNIFORMS).layers["block1.mlp_hidden"]
    with torch.no_grad():
        network.stem.position[24] = -1000.0  # the middle one
    after = network(SPIKES, UNIFORMS).layers["block1.mlp_hidden"]
    changed = {token for token in range(49) if not torch.equal(before[:, :, token], after[:, :, token])}
    assert 24 in changed
    assert changed <= ({24, 17, 31, 23, 25} if neighbours else {24})
    assert len(changed) > 1 or not neighbours


def test_self_attention_counts_coincidences_by_hand() -> None:
    """One head, two tokens, two channels. K^T V = [[1, 1], [0, 1]]; Q = [[1, 0], [1, 1]] -> [[1, 1], [1, 2]]."""
    key = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    value = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    query = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert spiking_self_attention(query, key, value, 1).tolist() == [[1.0, 1.0], [1.0, 2.0]]


def test_heads_do_not_see_each_other() -> None:
    query = torch.tensor([[1.0, 0.0]])
    key = torch.tensor([[0.0, 1.0]])
    value = torch.tensor([[1.0, 1.0]])
    assert spiking_self_attention(query, key, value, 2).tolist() == [[0.0, 0.0]]


def test_output_spikes_follow_probability_and_uniform(small_network: SpikingTransformer) -> None:
    run = small_network(SPIKES, UNIFORMS)
    assert torch.equal(run.output_spikes, (run.spike_probabilities > UNIFORMS).float())


def test_an_output_spike_lowers_the_next_potential(small_network: SpikingTransformer) -> None:
    """Feedback through the negative kernel: the only thing that differs is what was sampled."""
    silent = small_network(SPIKES, torch.full_like(UNIFORMS, 1.0))
    busy = small_network(SPIKES, torch.zeros_like(UNIFORMS))
    feedback = small_network.readout.constants(integer=True)[2]
    assert silent.output_spikes.sum() == 0 and bool((busy.output_spikes == 1).all())
    lowered = silent.integer_potentials[1] - busy.integer_potentials[1]
    assert torch.equal(lowered, (feedback * 16).expand_as(lowered))
    assert bool((feedback > 0).all())


def test_gradients_reach_every_parameter_in_integer_arithmetic() -> None:
    network = make_network()
    network(SPIKES, UNIFORMS).potentials.square().sum().backward()
    missing = [
        name for name, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()
    ]
    assert missing == []


def test_without_attention_there_is_no_attention() -> None:
    config = NetworkConfig(stem=(4, 4), channels=8, blocks=1, heads=2, attention=False)
    run = make_network(config)(SPIKES, UNIFORMS)
    assert [name for name in run.layers if "query" in name] == []
    assert list(layers_of(config)) == ["input", *run.layers, "output"]


def test_attention_may_begin_in_a_later_block() -> None:
    """The block before has its MLP alone."""
    config = NetworkConfig(stem=(4, 4), channels=8, blocks=2, heads=2, attention_from=2)
    run = make_network(config)(SPIKES, UNIFORMS)
    assert [name for name in run.layers if "query" in name] == ["block2.query"]
    assert list(layers_of(config)) == ["input", *run.layers, "output"]
    assert [config.attends(block) for block in (1, 2)] == [False, True]


@pytest.mark.parametrize("block", [0, 3])
def test_attention_cannot_begin_where_there_is_no_block(block: int) -> None:
    with pytest.raises(ValueError, match=f"expected attention from a block between 1 and 2, got {block}"):
        NetworkConfig(attention_from=block)


def test_shipped_configuration_stays_under_its_budget() -> None:
    assert sum(p.numel() for p in SpikingTransformer().parameters()) <= 300_000


def test_a_configuration_says_which_network_it_is() -> None:
    assert isinstance(spiking.make_network(SMALL), SpikingTransformer)
    network = spiking.make_network(GLM)
    assert isinstance(network, GLMNetwork)
    assert sum(p.numel() for p in network.parameters()) == 784 * 10 + 10 + 10


@pytest.mark.parametrize("integer", [True, False])
def test_output_neurons_alone_by_hand(integer: bool) -> None:
    """Pixel 5 fires twice: traces of 16, 24, 12 sixteenths. One integer is a quarter of a logit.

    Class 0 weighs it by 127 integers a sixteenth; every class has a gamma of 2 and a feedback of 1 a sixteenth.
    Class 0: 127 * 16 + 2, fires | 127 * 24 + 2 - 16, fires | 127 * 12 + 2 - (8 + 16).
    Class 1: 2, fires at a uniform of 0.5 | 2 - 16, does not | 2 - 8.
    Class 2: 2, does not fire at a uniform of 0.7 | 2, does | 2 - 16.
    """
    network = GLMNetwork(GLM).eval()
    network.integer = integer
    with torch.no_grad():
        network.readout.weight.zero_()
        network.readout.weight[0, 5] = 127 * 16 / 4
        network.readout.gamma.fill_(2 / 4)
        network.readout.feedback.fill_(16 / 4)
    spikes = torch.zeros(3, 1, 1, 28, 28)
    spikes[:2, 0, 0, 0, 5] = 1
    uniforms = torch.full((3, 1, 10), 0.5)
    uniforms[0, 0, 2] = 0.7
    run = network(spikes, uniforms)
    by_hand = torch.tensor([[2034.0, 2, 2], [3034, -14, 2], [1502, -6, -14]])
    assert run.potentials[:, 0, :3].tolist() == (by_hand / 4).tolist()
    assert run.integer_potentials[:, 0, :3].tolist() == (by_hand * integer).tolist()
    assert run.output_spikes[:, 0, :3].tolist() == [[1, 1, 0], [1, 0, 1], [1, 0, 0]]
    assert run.spike_probabilities[:, 0, 1].tolist() == pytest.approx(
        torch.sigmoid(by_hand[:, 1] / 4).tolist(), abs=2**-17
    )
    assert run.layers == {}
    assert run.potentials.shape == run.spike_probabilities.shape == (3, 1, 10)


def test_output_neurons_alone_compute_on_whole_numbers_and_learn() -> None:
    network = make_glm()
    run = network(SPIKES, UNIFORMS)
    assert torch.equal(run.integer_potentials, run.integer_potentials.round())
    run.potentials.square().sum().backward()
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in network.parameters()
    )


@pytest.mark.parametrize("slope", [0, 17])
def test_a_slope_that_no_card_would_take_is_refused_before_the_training(slope: int) -> None:
    with pytest.raises(ValueError, match=f"expected a rate slope between 1 and 16, got {slope}"):
        NetworkConfig(rate_slope=slope)
