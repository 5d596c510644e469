"""The encoder: exact spikes for a seed, and rates."""

import hashlib

import numpy as np
import pytest
from spikehead.model.encoding import EncodingError, encode, firing_rates, input_spikes, output_uniforms

from tests.service.picture_files import seven


def test_spikes_of_a_seed_are_these_on_every_machine() -> None:
    image = np.arange(784, dtype=np.uint16).reshape(28, 28).astype(np.uint8)
    spikes = input_spikes(image, seed=7, steps=4)
    assert spikes.shape == (4, 1, 28, 28) and spikes.dtype == np.uint8
    assert spikes.sum((1, 2, 3)).tolist() == SPIKE_COUNTS
    assert hashlib.sha256(np.packbits(spikes).tobytes()).hexdigest() == SPIKE_HASH


SPIKE_COUNTS = [394, 398, 394, 390]
SPIKE_HASH = "25fe352b59737ddeda1ed11f230ef4daeb9455bb3eff137d76bb861205ad2e2d"


def test_uniforms_of_a_seed_are_these_on_every_machine() -> None:
    uniforms = output_uniforms(seed=7, steps=2)
    assert uniforms.dtype == np.float32 and uniforms.shape == (2, 10)
    assert (uniforms * 2**24 == np.round(uniforms * 2**24)).all()
    assert (uniforms[0, :3] * 2**24).astype(int).tolist() == UNIFORMS


UNIFORMS = [15434906, 14657383, 13089334]


def test_rates_are_whole_256ths() -> None:
    assert firing_rates(np.array([0, 1, 127, 128, 254, 255], np.uint8)).tolist() == [0, 1, 127, 129, 255, 256]


def test_rates_along_a_steeper_tuning_curve() -> None:
    """Slope 3 around half contrast: 0 up to a third, everything from two thirds on; half stays half."""
    levels = np.array([0, 85, 86, 127, 128, 169, 170, 171, 255], np.uint8)
    assert firing_rates(levels, 3).tolist() == [0, 0, 2, 125, 131, 254, 256, 256, 256]
    assert firing_rates(levels, 16).tolist() == [0, 0, 0, 112, 144, 256, 256, 256, 256]
    every = np.arange(256, dtype=np.uint8)
    for slope in range(1, 17):
        found = firing_rates(every, slope).astype(int)
        assert found[0] == 0 and found[255] == 256 and (np.diff(found) >= 0).all(), slope


@pytest.mark.parametrize("encoder", ["bernoulli", "regular"])
def test_trains_follow_the_tuning_curve(encoder: str) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[0, :4] = [60, 110, 150, 200]
    trains, _ = encode(image[None], [5], 400, encoder, slope=3)  # type: ignore[arg-type]
    assert np.array_equal(trains[:, 0], input_spikes(image, 5, 400, encoder, 3))  # type: ignore[arg-type]
    wanted = firing_rates(image[0, :4], 3) / 256
    assert wanted[0] == 0.0 and wanted[3] == 1.0
    assert trains[:, 0, 0, 0, :4].mean(0) == pytest.approx(wanted, abs=0.06)


@pytest.mark.parametrize("encoder", ["bernoulli", "regular"])
def test_black_never_fires_and_white_always_does(encoder: str) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[14:] = 255
    spikes = input_spikes(image, 3, 50, encoder)  # type: ignore[arg-type]
    assert spikes[:, 0, :14].sum() == 0
    assert spikes[:, 0, 14:].all()


def test_bernoulli_reaches_its_rate() -> None:
    spikes = input_spikes(np.full((28, 28), 64, np.uint8), 1, 200)
    assert spikes.mean() == pytest.approx(0.25, abs=0.005)


def test_regular_spaces_spikes_evenly() -> None:
    spikes = input_spikes(np.full((28, 28), 64, np.uint8), 1, 16, "regular")[:, 0, 0, 0]
    assert np.flatnonzero(spikes).tolist() == [1, 5, 9, 13]


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    image = seven()
    assert (input_spikes(image, 9, 8)[:3] == input_spikes(image, 9, 3)).all()
    assert (output_uniforms(9, 8)[:3] == output_uniforms(9, 3)).all()


def test_a_batch_is_its_images_alone() -> None:
    images = np.stack([seven(), np.full((28, 28), 100, np.uint8)])
    spikes, uniforms = encode(images, [11, 2**64 - 1], 5)
    for i, seed in enumerate([11, 2**64 - 1]):
        assert (spikes[:, i] == input_spikes(images[i], seed, 5)).all()
        assert (uniforms[:, i] == output_uniforms(seed, 5)).all()


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_is_not_of_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(EncodingError, match=f"expected a seed between 0 and 2\\*\\*64 - 1, got {seed}"):
        input_spikes(seven(), seed, 1)


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(EncodingError, match="at least 1 time step, got 0"):
        input_spikes(seven(), 0, 0)
    with pytest.raises(EncodingError, match="expected an encoder among bernoulli, regular, got 'poisson'"):
        encode(seven()[None], [0], 1, "poisson")  # type: ignore[arg-type]
    with pytest.raises(EncodingError, match="one seed an image, got 2 for 1 images"):
        encode(seven()[None], [0, 1], 1)
