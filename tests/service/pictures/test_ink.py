"""From colours to ink: polarity, colour, shading, noise, blank sheets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from spikehead.pictures.components import digit_mask
from spikehead.pictures.ink import find_ink

from tests.service.picture_files import png
from tests.service.pictures.conftest import REFERENCE, bar, close, ready, refused, seven


def test_polarity() -> None:
    assert close(ready(seven(ink=255, paper=0)), REFERENCE, 1)
    assert close(ready(seven(ink=200, paper=60)), REFERENCE, 1)


@pytest.mark.parametrize("ink", [(220, 30, 30), (20, 120, 40), (30, 60, 200), (250, 200, 0)])
def test_coloured_ink(ink: tuple[int, int, int]) -> None:
    assert close(ready(seven(ink=ink, paper=(255, 255, 255), mode="RGB")), REFERENCE, 3)


def test_ink_that_differs_from_its_paper_in_colour_alone() -> None:
    picture = seven(ink=(200, 60, 60), paper=(60, 128, 200), mode="RGB")
    assert close(ready(picture), REFERENCE, 3)


def test_shaded_paper() -> None:
    y, x = np.mgrid[0:200, 0:200]
    light = 120 + 0.5 * x + 0.12 * y
    picture = Image.fromarray((np.asarray(seven()) / 255 * light + 10).clip(0, 255).astype(np.uint8))
    assert close(ready(picture), REFERENCE, 4)


def test_noisy_photo() -> None:
    random = np.random.default_rng(0)
    values = np.where(np.asarray(seven()) < 128, 60, 190) + random.normal(0, 8, (200, 200))
    assert close(ready(Image.fromarray(values.clip(0, 255).astype(np.uint8)), "JPEG", quality=50), REFERENCE)


def test_noise_on_a_large_sheet_is_no_tiny_digit() -> None:
    noise = np.random.default_rng(0).normal(235, 9, (1500, 2000))
    refused("blank-image", png(np.clip(noise, 0, 255).astype(np.uint8)))


def test_faint_ink_of_eighteen_grey_levels_is_read() -> None:
    assert bar(np.full((200, 200), 240, np.uint8), 222, slice(40, 160), slice(80, 120)).max() == 255


@pytest.mark.parametrize("level", [0, 127, 255])
def test_blank_sheets(level: int) -> None:
    refused("blank-image", png(np.full((90, 60), level, np.uint8)))


def test_shading_and_noise_are_no_ink() -> None:
    y, x = np.mgrid[0:150, 0:200]
    random = np.random.default_rng(0)
    refused("blank-image", png((100 + 0.5 * x + 0.2 * y + random.normal(0, 2, x.shape)).astype(np.uint8)))


def test_ink_of_a_gradient_is_only_the_stroke() -> None:
    picture = np.zeros((60, 60, 3), np.float32) + np.linspace(100, 200, 60, dtype=np.float32)[:, None, None]
    picture[20:40, 28:32] -= 90
    ink = find_ink(picture)
    assert (
        digit_mask(ink) == (np.abs(np.mgrid[0:60, 0:60] - [[[29.5]], [[29.5]]]) < [[[10]], [[2]]]).all(axis=0)
    ).all()
