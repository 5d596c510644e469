"""The retina: contrast, whatever the paper, the light and the pen."""

import numpy as np
import pytest
from spikehead.model.encoding import EncodingError
from spikehead.model.retina import (
    _background,
    _between_strokes,
    _coons_patch,
    _filled,
    _sharpened,
    _thinned,
    _without_lines,
    contrast,
)

from tests.service.picture_files import seven
from tests.service.retina_pictures import (
    ONE,
    clouded,
    contour,
    crossed,
    faint,
    gapped,
    letter,
    rhombus,
    ring,
    sheet,
    soft,
    specked,
)


def test_bad_input_is_refused() -> None:
    with pytest.raises(EncodingError, match=r"expected uint8 \[\.\.\., 28, 28\], got float64 \[28, 28\]"):
        contrast(seven().astype(float))
    with pytest.raises(EncodingError, match=r"expected uint8 \[\.\.\., 28, 28\], got uint8 \[2, 28\]"):
        contrast(seven()[:2])


def test_a_clean_digit_passes_unchanged() -> None:
    assert (contrast(seven()) == seven()).all()


@pytest.mark.parametrize(
    "name",
    ["inverted", "grey paper", "low contrast", "vertical band", "horizontal band", "light from one side"],
)
def test_the_same_digit_is_seen_on_any_background(name: str) -> None:
    ink = seven().astype(int)
    slope = np.linspace(20, 160, 28).astype(int)[None, :]
    pictures = {
        "inverted": 255 - ink,
        "grey paper": 120 + ink // 2,
        "low contrast": ink // 4,
        "vertical band": np.where((np.arange(28) // 9 == 1)[None, :], 255 - ink, ink),
        "horizontal band": np.where((np.arange(28) // 9 == 1)[:, None], 255 - ink, ink),
        "light from one side": np.clip(slope + ink // 3, 0, 255),
    }
    seen = contrast(pictures[name].astype(np.uint8)).astype(int)
    assert np.abs(seen - ink).mean() < 6
    assert seen[ink == 0].mean() < 5
    assert seen[ink == 255].mean() > 200


def test_lone_specks_do_not_spike() -> None:
    picture = seven()
    picture[2, 3] = picture[25, 24] = 255
    assert (contrast(picture) == seven()).all()


@pytest.mark.parametrize(("last_speck", "noisy"), [(63, False), (64, True)])
def test_ends_of_fine_lines_stay_unless_the_picture_is_noisy(last_speck: int, noisy: bool) -> None:
    """Both ends of the line stand out of all neighbours but one; with six specks more they are noise."""
    seen = contrast(specked(last_speck))[0]
    assert not seen[25].any() and not seen[2].any()
    assert seen[3:6, 4].tolist() == ([0, 255, 0] if noisy else [255, 255, 255])


def test_a_batch_is_seen_as_its_images_are() -> None:
    """Each goes another way, and none takes others along."""
    generator = np.random.default_rng(0)
    batch = generator.integers(0, 256, (8, 28, 28), dtype=np.uint8)
    batch[0] = seven()
    batch[1] = 255 - seven()
    batch[2] = np.where(np.arange(28) // 9 == 1, 255 - seven(), seven())
    batch[3] = np.maximum(seven(), 200 * np.eye(28, dtype=np.uint8))
    batch[4] = sheet((slice(6, 22), slice(10, 16)))[0]
    batch[5] = np.abs(np.arange(28) - 14)[None] * 6
    batch[6] = seven() // 3
    together = contrast(batch)
    assert all((together[i] == contrast(one)).all() for i, one in enumerate(batch))


def test_an_even_picture_has_no_contrast() -> None:
    assert contrast(np.full((28, 28), 77, np.uint8)).sum() == 0


# The background


def test_the_patch_between_four_edges_continues_slopes_and_stripes_exactly() -> None:
    far = np.arange(28, dtype=np.int32)
    slope = 2 * far[:, None] + 3 * far + 7
    stripes = np.broadcast_to(far % 5 * 40, (28, 28))
    for surface in (slope, stripes, stripes.T):
        edges = (surface[None, 0], surface[None, -1], surface[None, :, 0], surface[None, :, -1])
        for corners in ("rows", "columns"):
            assert np.array_equal(_coons_patch(np, *edges, corners)[0], surface)


def test_corners_where_edges_do_not_agree() -> None:
    """A stripe at the left that is seen by the rows alone: with the columns' corners it is all that is seen."""
    far = np.arange(28, dtype=np.int32)
    rows, columns = np.where(far == 0, 90, 0)[None], np.zeros((1, 28), np.int32)
    assert np.array_equal(
        _coons_patch(np, rows, rows, columns, columns, "columns")[0], np.broadcast_to(rows, (28, 28))
    )
    # With the rows' corners what they have and the columns have not is taken away again: a wedge.
    wedge = _coons_patch(np, rows, rows, columns, columns, "rows")[0, 14]
    assert (wedge[0], wedge[13], wedge[27]) == (0, -47, 0)


@pytest.mark.parametrize(("level", "pixels", "even"), [(255, 30, True), (255, 31, False), (12, 300, True)])
def test_a_margin_is_even_where_nine_tenths_of_it_are_alike(level: int, pixels: int, even: bool) -> None:
    image = np.zeros((1, 28, 28), np.uint8)
    image.reshape(-1)[: min(pixels, 84)] = level  # the first three rows are margin
    background, found = _background(np, image)
    assert found.tolist() == [even]
    assert not even or not background.any()


@pytest.mark.parametrize(("level", "even"), [(52, True), (53, False)])
def test_alike_are_twelve_grey_levels(level: int, even: bool) -> None:
    image = np.full((1, 28, 28), 40, np.uint8)
    image[0, :3] = level
    background, found = _background(np, image)
    assert found.tolist() == [even]
    assert background[0, 14, 14] == 40


def test_a_stroke_that_reaches_the_margin_is_no_background() -> None:
    picture = sheet((slice(0, 20), slice(12, 16)))
    assert (contrast(picture) == picture).all()


def test_a_stripe_thinner_than_the_margin_is_all_background() -> None:
    picture = seven()
    picture[:, 0] = 120
    picture[:, 9:18] = 255 - picture[:, 9:18]
    seen = contrast(picture)
    assert np.abs(seen.astype(int) - seven()).max() == 0


def test_paper_between_strokes_corrects_the_guess() -> None:
    """Paper of 10 and 30 where 0 was guessed, and ink of 200: what is under 80 is paper."""
    image = np.full((1, 28, 28), 10, np.uint8)
    image[0, 14:] = 30
    image[0, 4:20, 6:22] = 200
    image[0, 2, 2] = 80
    found = _between_strokes(np, image, np.zeros((1, 28, 28), np.uint8))[0]
    assert found[0, 0] == found[9, 2] == 10 and found[27, 27] == found[18, 2] == 30
    assert found[10, 3] == 10  # the columns from 6 on are ink
    assert found[12, 0] == (5 * 10 + 2 * 30) // 7
    # All ink in 7 x 7 pixels, so 15 x 15 count: of them a column of paper, ten rows of 10 and five of 30.
    assert found[11, 12] == (10 * 10 + 5 * 30) // 15 and found[8, 13] == 10
    # What is all ink in 15 x 15 pixels keeps the guess.
    image[0, 2:22, 4:24] = 200
    assert _between_strokes(np, image, np.full((1, 28, 28), 3, np.uint8))[0, 11, 13] == 3


def test_a_cloud_is_not_seen() -> None:
    """It is four parts of fifteen of the stroke: more than an eighth."""
    seen = contrast(clouded())[0]
    assert not seen[8:20, 7:10].any() and (seen[8:20, 13:16] > 200).all()


# What is drawn across


def test_a_line_from_side_to_side_goes() -> None:
    assert (contrast(crossed()) == ONE).all()


@pytest.mark.parametrize(("level", "stays"), [(47, True), (48, False)])
def test_ink_of_48_grey_levels_reaches_a_side(level: int, stays: bool) -> None:
    seen = _without_lines(np, crossed(level)[None], np.array([True]))[0]
    assert (seen == (crossed(level) if stays else ONE)).all()


def test_a_line_in_noise_stays() -> None:
    """In noise ink at two sides of the picture means nothing."""
    picture = crossed()
    picture[1:27:8, 2:28:12] = 255
    seen = contrast(picture)
    assert (seen == crossed()).all()


def test_a_line_over_uneven_paper_stays() -> None:
    """There it is not told from paper surely enough to be taken away."""
    picture = np.broadcast_to(4 * np.arange(28), (28, 28)).astype(np.uint8)
    picture[5:23, 12:15] += 120
    picture[17, :] = np.maximum(picture[17], 4 * np.arange(28) + 60)
    assert (contrast(picture)[17] > 100).all()


def test_what_reaches_one_side_alone_stays() -> None:
    picture = crossed()
    picture[17, 22:] = 0
    assert (contrast(picture) == picture).all()


def test_two_strokes_that_reach_the_same_side_stay() -> None:
    picture = sheet((slice(0, 20), slice(8, 9)), (slice(0, 20), slice(18, 19)))
    assert (_without_lines(np, picture, np.array([True])) == picture).all()


def test_a_line_over_paper_that_is_not_clear_stays() -> None:
    assert (_without_lines(np, crossed()[None], np.array([False]))[0] == crossed()).all()


@pytest.mark.parametrize(("width", "stays"), [(13, True), (14, False)])
def test_a_picture_of_thin_strokes_alone_keeps_them(width: int, stays: bool) -> None:
    """28 pixels of a line, and a stroke of 2 x 7 that opening leaves: a third of all ink, or less."""
    picture = sheet((slice(20, 21), slice(0, 28)), (slice(4, 6), slice(2, 2 + width // 2)))
    seen = _without_lines(np, picture, np.array([True]))
    assert seen[0, 20].any() == stays and seen[0, 4:6].any()


# Contours


@pytest.mark.parametrize("inside", [2, 3, 4])
def test_contours_of_strokes_are_filled(inside: int) -> None:
    """A stroke of which only the edges are there: up to four pixels between them."""
    picture = sheet(*ring(5, 11, 17, inside + 2))
    assert (_filled(np, picture) == sheet((slice(5, 22), slice(11, 13 + inside)))).all()


def test_bays_and_wide_holes_of_contours_stay_paper() -> None:
    """Strokes of three pixels: an E, whose bays are as narrow as they are, and a frame around 8 x 8 pixels."""
    hole = sheet((slice(6, 20), slice(6, 20)))
    hole[0, 9:17, 9:17] = 0
    turned = [np.rot90(letter(), quarter, (1, 2)) for quarter in range(4)]
    for strokes in (hole, *turned, *(one[:, :, ::-1] for one in turned)):
        assert (_filled(np, contour(strokes)) == np.maximum(contour(strokes), strokes)).all()


@pytest.mark.parametrize(("width", "filled"), [(2, True), (3, True), (4, False)])
def test_contours_with_gaps_are_filled_where_lines_are_close(width: int, filled: bool) -> None:
    """What is outside flows into it: three pixels are closed nevertheless, and not four, as where it is whole."""
    seen = _filled(np, gapped(width))
    whole = contour(sheet((slice(4, 24), slice(12, 12 + width))))
    assert (_filled(np, whole)[0, 4:24, 11 : 13 + width] == 255).all()
    assert (seen == (_filled(np, whole) if filled else gapped(width))).all()


def test_the_network_gets_to_see_contours_filled() -> None:
    """And not thinned after that, though they are wide then."""
    strokes = sheet((slice(4, 24), slice(12, 15)))
    assert (contrast(contour(strokes)) == np.maximum(contour(strokes), strokes)).all()


@pytest.mark.parametrize(("besides", "filled"), [(22, True), (23, False)])
def test_contours_enclose_half_of_their_ink(besides: int, filled: bool) -> None:
    """38 pixels of ink enclose 30; a line besides has 22 more, or 23."""
    picture = sheet(*ring(5, 11, 17, 4), (slice(27, 28), slice(0, besides)))
    assert (_filled(np, picture)[0, 6:21, 12:14] == 255).all() == filled


def test_a_loop_of_a_fine_pen_stays() -> None:
    picture = sheet(*ring(5, 9, 17, 8))
    assert (_filled(np, picture) == picture).all()


@pytest.mark.parametrize(("level", "stays"), [(50, False), (51, True)])
def test_lines_alone_have_no_core(level: int, stays: bool) -> None:
    """Of 38 pixels and a dot of 3 x 3 erosion leaves the dot's middle: a 200th of all ink from 51 grey levels on."""
    picture = sheet(*ring(5, 11, 17, 4))
    picture[0, 24:27, 10:13] = level
    assert (_filled(np, picture) == picture).all() == stays


def test_so_does_what_has_a_stroke_of_three_pixels() -> None:
    picture = sheet(*ring(5, 11, 17, 4), (slice(24, 27), slice(10, 13)))
    assert (_filled(np, picture) == picture).all()


# Stroke width


def test_a_thick_stroke_gets_as_thin_as_a_pen_s() -> None:
    """6 x 20: of 120 pixels erosion by 4 x 4 leaves 51; of 5 x 19 it leaves 32 of 95; of 4 x 18 only 15 of 72."""
    thick, thin = sheet((slice(3, 23), slice(9, 15))), sheet((slice(4, 22), slice(10, 14)))
    assert (_thinned(np, thick) == thin).all()
    assert (contrast(thick) == thin).all()


def test_three_pixels_at_most_are_taken() -> None:
    assert (_thinned(np, sheet((slice(4, 24), slice(4, 24)))) == sheet((slice(5, 22), slice(5, 22)))).all()


@pytest.mark.parametrize(("length", "thins"), [(19, False), (20, True)])
def test_thick_is_what_keeps_three_tenths_of_its_ink(length: int, thins: bool) -> None:
    """Of a stroke five pixels wide: 2 x 16 of 95, 2 x 17 of 100, and a line of 15 pixels or 13 besides."""
    kept, ink = 2 * (length - 3), 5 * length
    line = kept * 10 // 3 - ink
    assert (kept * 10 >= 3 * (ink + line)) and line >= 0
    picture = sheet((slice(4, 4 + length), slice(6, 11)), (slice(2, 3), slice(0, line + (not thins))))
    assert (_thinned(np, picture) != picture).any() == thins


# Focus


def test_a_blurred_picture_gets_its_edges_back() -> None:
    """Rising by 6 of 10 levels it is blurred. A pixel gains what it is above the mean of 7 x 7."""
    picture = np.zeros((1, 28, 28), np.uint8)
    picture[0, 6:22, 10:19] = np.array([40, 80, 120, 160, 200, 160, 120, 80, 40], np.uint8)
    picture[0, [5, 22], 10:19] = picture[0, 6, 10:19] // 2
    seen = _sharpened(np, picture)[0]
    assert seen[13, 14] == 255  # 400 - (200 + 2 * (160 + 120 + 80)) / 7
    assert seen[13, 11] == 2 * 80 - 600 // 7 - 1 == 74  # (0 + 0 + 40 + 80 + 120 + 160 + 200) / 7 is 85.7
    assert seen[13, 9] == seen[13, 19] == 0


@pytest.mark.parametrize(("step", "blurred"), [(124, True), (125, False)])
def test_a_step_of_five_eighths_is_sharp(step: int, blurred: bool) -> None:
    for picture in (soft(step), soft(step).swapaxes(1, 2)):
        assert (_sharpened(np, picture) != picture).any() == blurred


def test_a_blurred_stroke_as_the_network_sees_it() -> None:
    """Of 100, 200 and 100 levels: twice that less the mean of 7 x 7, which is 400 / 7."""
    picture = sheet((slice(4, 24), slice(12, 15)), level=100)
    picture[0, 5:23, 13] = 200
    for seen in (contrast(picture)[0], contrast(picture.swapaxes(1, 2))[0].T):
        assert seen[13, 10:17].tolist() == [0, 0, 142, 255, 142, 0, 0]


def test_strokes_are_thinned_before_they_are_sharpened() -> None:
    """Sharpened first, a smeared stroke would not be thick any more."""
    picture = np.zeros((1, 28, 28), np.uint8)
    picture[0, 4:24, 9:18] = np.array([40, 80, 120, 160, 160, 160, 120, 80, 40], np.uint8)
    picture[0, [3, 24], 9:18] = picture[0, 4, 9:18] // 2
    seen, before = _sharpened(np, _thinned(np, picture)), _thinned(np, _sharpened(np, picture))
    assert (contrast(picture) == seen.astype(int) * 255 // seen.max() * (seen * 8.0 >= seen.max())).all()
    assert (seen != before).any()


def test_contours_are_filled_before_they_are_sharpened() -> None:
    """Sharpened first, they would have too much ink to enclose half of it."""
    assert contrast(rhombus())[0, 14, 14] == 59
    assert _filled(np, _sharpened(np, rhombus()))[0, 14, 14] == 0


# Floor and gain


def test_an_eighth_of_the_largest_contrast_is_seen() -> None:
    assert contrast(faint(80, 10))[0, 10, [11, 18]].tolist() == [255, 10 * 255 // 80]
    assert contrast(faint(80, 9))[0, 10, [11, 18]].tolist() == [255, 0]


@pytest.mark.parametrize(("peak", "seen"), [(33, 255), (32, 255), (31, 247), (16, 127)])
def test_hardly_any_ink_is_not_made_much_of(peak: int, seen: int) -> None:
    assert contrast(faint(peak, 0)).max() == seen
