"""Distortions: each worked out on a picture where its effect can be told by hand, all of them from a seed."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.distortions import DISTORTIONS, Picture, distorted

BLACK = np.zeros((28, 28), np.uint8)
GREY = np.full((28, 28), 90, np.uint8)
WHITE = np.full((28, 28), 255, np.uint8)


def dot(level: int = 255) -> Picture:
    """One pixel of ink, in row 9, column 14."""
    image = BLACK.copy()
    image[9, 14] = level
    return image


def square(level: int = 200) -> Picture:
    """Ink in rows 8 to 10, columns 13 to 15."""
    image = BLACK.copy()
    image[8:11, 13:16] = level
    return image


def distort(name: str, image: Picture, seed: int = 0) -> Picture:
    return DISTORTIONS[name](image, np.random.default_rng(seed))


def ink(image: Picture) -> dict[tuple[int, int], int]:
    """(row, column) -> level of what is not black."""
    return {(int(y), int(x)): int(image[y, x]) for y, x in np.argwhere(image)}


# All of them


@pytest.fixture(scope="module")
def digits(drawn: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> NDArray[np.uint8]:
    return drawn[0][:6]


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_picture_is_changed_and_follows_from_its_seed(name: str, digits: NDArray[np.uint8]) -> None:
    before = digits.copy()
    found = distorted(digits, name, 1)
    assert np.array_equal(digits, before)
    assert found.shape == digits.shape and found.dtype == np.uint8
    assert all((one != other).any() for one, other in zip(found, digits, strict=True))
    assert np.array_equal(distorted(digits, name, 1), found)
    assert np.array_equal(distorted(digits[:2], name, 1), found[:2])  # whatever comes after it


FIXED = {
    "gaussian_blur", "pixelated", "bright_background", "inverted", "thinner", "thicker", "outline",
    "contour",
}  # fmt: skip
"""Those that have nothing to draw by chance."""


@pytest.mark.parametrize("name", DISTORTIONS)
def test_chance_is_another_for_every_seed_and_image(name: str, digits: NDArray[np.uint8]) -> None:
    twins = np.repeat(digits[:1], 6, axis=0)
    found = {image.tobytes() for seed in (1, 2) for image in distorted(twins, name, seed)}
    assert len(found) == (1 if name in FIXED else 12) or (name == "stripes" and len(found) > 1)


def test_distortions_of_one_image_do_not_share_their_chance(
    digits: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that add the same kind of noise would else add the same."""
    drawn: list[float] = []

    def note(image: Picture, random: np.random.Generator) -> Picture:
        drawn.append(random.random())
        return image

    for name in ("fog", "shadow"):
        monkeypatch.setitem(DISTORTIONS, name, note)
        distorted(digits[:1], name, 1)
    assert len(set(drawn)) == 2


def test_an_unknown_distortion() -> None:
    with pytest.raises(KeyError, match="rain"):
        distorted(BLACK[None], "rain", 1)


def test_there_are_twenty_three() -> None:
    assert len(DISTORTIONS) == 23
    assert all(name == function.__name__ and function.__doc__ for name, function in DISTORTIONS.items())


# Noise


def test_gaussian_noise_has_fifty_grey_levels() -> None:
    found = np.concatenate([distort("gaussian_noise", np.full_like(GREY, 128), seed) for seed in range(20)])
    middle = found[(found > 0) & (found < 255)].astype(float)  # 2.5 standard deviations either way
    assert middle.mean() == pytest.approx(128, abs=2)
    assert middle.std() == pytest.approx(48, abs=2)  # 50, less what was cut off at the ends


def test_shot_noise_counts_photons() -> None:
    """Whole sixths of white, 42.5 grey levels each, rounded to even; no light, no photon."""
    assert not distort("shot_noise", BLACK).any()
    found = np.stack([distort("shot_noise", WHITE, seed) for seed in range(20)])
    assert set(np.unique(found)) == {0, 42, 85, 128, 170, 212, 255}
    few = sum(np.exp(-6) * 6.0**k / np.prod(range(1, k + 1)) for k in range(6))  # fewer than six photons
    assert (found < 255).mean() == pytest.approx(few, abs=0.015)


def test_speckle_noise_leaves_paper_alone() -> None:
    found = distort("speckle_noise", square(100))
    assert set(ink(found)) <= set(ink(square()))
    spread = np.concatenate([distort("speckle_noise", np.full_like(GREY, 100), seed) for seed in range(20)])
    assert spread.std() == pytest.approx(49, abs=2)  # half of the ink, but never under 0


def test_salt_and_pepper_is_a_tenth_in_equal_parts() -> None:
    found = np.stack([distort("salt_and_pepper", GREY, seed) for seed in range(20)])
    assert set(np.unique(found)) == {0, 90, 255}
    assert (found == 0).mean() == pytest.approx(0.05, abs=0.005)
    assert (found == 255).mean() == pytest.approx(0.05, abs=0.005)


# Blur


@pytest.mark.parametrize("name", ["gaussian_blur", "glass_blur", "pixelated"])
def test_blur_leaves_an_even_picture_alone(name: str) -> None:
    assert np.array_equal(distort(name, GREY), GREY)


def test_gaussian_blur_spreads_alike_in_all_directions() -> None:
    found = distort("gaussian_blur", dot()).astype(int)
    around = found[5:14, 10:19]
    for turned in (around.T, around[::-1], around[:, ::-1]):
        assert np.abs(around - turned).max() <= 1  # Pillow rounds after each pass
    assert found.max() == found[9, 14] < 40
    assert found.sum() == pytest.approx(255, abs=20)


def test_motion_blur_draws_a_point_out_to_a_line() -> None:
    """Seven positions, one pixel apart: a seventh of the light at most at each, along a line of six pixels."""
    found = distort("motion_blur", dot())
    places = np.argwhere(found) - [9, 14]
    assert np.abs(places).max() in (3, 4)
    spread = np.linalg.svd(places - places.mean(0), compute_uv=False)
    assert spread[0] > 2 * spread[1]
    assert int(found.astype(int).sum()) == pytest.approx(255, abs=20)


def test_glass_blur_moves_a_pixel_by_one_at_the_most() -> None:
    found = np.stack([distort("glass_blur", dot(), seed) for seed in range(10)])
    places = np.argwhere(found.max(0) > 30) - [9, 14]
    assert len(places) and np.abs(places).max() <= 2  # one by chance, one by the blur


def test_pixelated_has_twelve_pixels_a_side() -> None:
    """A column of light 7 pixels wide is 3 of the 12: everything outside of them and their neighbours is black."""
    image = BLACK.copy()
    image[:, 7:14] = 255
    found = distort("pixelated", image)
    assert (found == found[:1]).all()
    assert (found[0, 9:12] == 255).all() and not found[0, :5].any() and not found[0, 16:].any()


# Something over the digit


def test_occlusion_is_a_black_patch_of_49_pixels_on_the_middle() -> None:
    corners = set()
    for seed in range(60):
        rows, columns = np.nonzero(distort("occlusion", WHITE, seed) == 0)
        assert len(rows) == 49
        assert np.ptp(rows) == np.ptp(columns) == 6
        corners |= {rows.min(), columns.min()}
    assert corners == set(range(6, 16))
    assert np.array_equal(distort("occlusion", BLACK), BLACK)


@pytest.mark.parametrize(
    ("name", "level", "least", "most"),
    [("line", 200, 20, 90), ("dotted_line", 255, 8, 60), ("zigzag", 200, 30, 160), ("spatter", 255, 10, 150)],
)
def test_what_is_drawn_over_a_digit_adds_ink_alone(name: str, level: int, least: int, most: int) -> None:
    for seed in range(10):
        drawn = distort(name, BLACK, seed)
        assert drawn.max() <= level
        assert least <= np.count_nonzero(drawn) <= most
        assert np.array_equal(distort(name, GREY, seed), np.maximum(drawn, GREY))


def test_a_line_crosses_the_whole_picture() -> None:
    """From border to border, near the middle, in the ink of its own."""
    for seed in range(10):
        found = distort("line", BLACK, seed)
        places = np.argwhere(found > 0)
        assert np.ptp(places, axis=0).max() >= 20
        assert np.abs(places - 13.5).sum(1).min() <= 8  # at most 5 pixels from the middle
        assert found.max() > 120


def test_a_dotted_line_has_gaps() -> None:
    """Ten dashes at the most, each apart from the next."""
    found = distort("dotted_line", BLACK, 3) > 0
    parts, left = 0, {tuple(place) for place in np.argwhere(found).tolist()}
    while left:
        parts += 1
        edge = [left.pop()]
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
    assert 4 <= parts <= 10


# Light and paper


def test_low_contrast_is_80_levels_on_even_paper() -> None:
    papers = set()
    for seed in range(20):
        found = distort("low_contrast", np.where(square() > 0, 255, 0).astype(np.uint8), seed)
        paper, written = int(found[0, 0]), int(found[9, 14])
        assert written - paper == 80 and 0 <= paper <= 120
        assert set(np.unique(found)) == {paper, written}
        papers.add(paper)
    assert len(papers) > 10


def test_bright_background_by_hand() -> None:
    image = BLACK.copy()
    image[0, :4] = [0, 1, 145, 200]
    assert distort("bright_background", image)[0, :5].tolist() == [110, 111, 255, 255, 110]


def test_inverted_by_hand() -> None:
    image = np.arange(784).reshape(28, 28).astype(np.uint8)
    found = distort("inverted", image)
    assert (found.astype(int) + image == 255).all()
    assert np.array_equal(distort("inverted", found), image)


def test_shadow_falls_from_one_side() -> None:
    """On black, a ramp: its mean is half of 150, its middle too, and opposite pixels share 150 between them."""
    found = distort("shadow", BLACK, 2).astype(int)
    assert found.min() >= 0 and 100 < np.ptp(found) <= 150
    assert np.abs(found + found[::-1, ::-1] - 150).max() <= 1
    assert (np.diff(found, axis=0) >= 0).all() or (np.diff(found, axis=0) <= 0).all()
    assert (np.diff(found, axis=1) >= 0).all() or (np.diff(found, axis=1) <= 0).all()
    assert (distort("shadow", WHITE, 2) == 255).all()  # white stays white


def test_fog_hides_up_to_130_levels() -> None:
    found = distort("fog", BLACK, 2)
    assert (found.min(), found.max()) == (0, 130)
    assert (distort("fog", WHITE, 2) == 255).all()
    assert np.abs(np.diff(found.astype(int), axis=0)).max() < 60  # clouds, not noise


def test_stripes_are_bands_of_seven_columns() -> None:
    starts = set()
    for seed in range(40):
        found = distort("stripes", dot(), seed)
        negative = found[0] == 255
        assert (found[:, negative] == 255 - dot()[:, negative]).all()
        assert (found[:, ~negative] == dot()[:, ~negative]).all()
        assert negative.sum() == 14
        edges = np.flatnonzero(np.diff(negative.astype(int)))
        assert set(np.diff(edges)) == {7}
        starts.add(int(edges[0]) % 7)
    assert starts == set(range(7))


# The pen


def test_thicker_by_hand() -> None:
    block = {(y, x): 180 for y in (8, 9, 10) for x in (13, 14, 15)}
    assert ink(distort("thicker", dot(180))) == block


def test_thinner_by_hand() -> None:
    """Of a square of 3 x 3 the middle alone has no dark neighbour; the rest is half as dark."""
    expected = {(y, x): 100 for y in (8, 9, 10) for x in (13, 14, 15)} | {(9, 14): 200}
    assert ink(distort("thinner", square(200))) == expected
    assert ink(distort("thinner", dot(60))) == {(9, 14): 30}


def test_outline_by_hand() -> None:
    """A square of 5 x 5: everything within a pixel of its edge, and not its middle. Faint ink has no outline."""
    image = BLACK.copy()
    image[8:13, 10:15] = 129
    wide = {(y, x) for y in range(7, 14) for x in range(9, 16)}
    inside = {(y, x) for y in range(9, 12) for x in range(11, 14)}
    assert ink(distort("outline", image)) == dict.fromkeys(wide - inside, 255)
    image[image > 0] = 128
    assert not distort("outline", image).any()


def test_contour_by_hand() -> None:
    """Around a pixel and the two right of it: what touches them by a side, in the picture. Faint ink is none."""
    image = BLACK.copy()
    image[0, 10:13] = 128
    image[20, 20] = 127
    around = {(0, 9), (0, 13), (1, 10), (1, 11), (1, 12)}
    assert ink(distort("contour", image)) == dict.fromkeys(around, 255)


@pytest.mark.parametrize(
    ("name", "expected"), [("thicker", WHITE), ("thinner", WHITE), ("outline", BLACK), ("contour", BLACK)]
)
def test_where_there_is_no_edge_the_pen_does_not_matter(name: str, expected: Picture) -> None:
    assert np.array_equal(distort(name, WHITE), expected)
