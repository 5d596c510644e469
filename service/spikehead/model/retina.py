"""The retina: from a picture's brightness to contrast, whatever paper, light and pen it was made with.

Integer arithmetic makes it the same to the bit on every machine. It is written once, for numpy's arrays, which the
service has, and torch's tensors, which a training on a GPU has: `xp` is the library of a function's arrays, under the
names of the array API standard (https://data-apis.org/array-api/latest/). The native engine's retina (`retina.cpp`)
equals this one and is built with the constants below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
from array_api_compat import array_namespace

from spikehead.model.encoding import SIDE, EncodingError

# Grey levels by which a speck differs from its neighbours. Fewer specks than these are corners and ends of strokes.
SPECK = 64
SPECKS = 8
# Pixels of paper around the digit (MNIST's fill 20 x 20 of 28 x 28), and of a median along this margin.
MARGIN = 3
MARGIN_WINDOW = 5
# Grey levels by which even paper may differ from its median, and the share of the margin that does not differ more:
# strokes may reach it. Otherwise the median wins unless another guess leaves under four fifths of its ink.
EVEN = 12
EVEN_SHARE = (9, 10)
GUESS_WEIGHTS = (4, 5, 5)
# Ink is as far from the paper as this share of the largest distance. Paper is looked for in windows of 7 x 7 pixels,
# and of 15 x 15 if the smaller one is all ink.
INK_SHARE = (4, 10)
PAPER_RADII = (3, 7)
# Grey levels by which ink that reaches the picture's edge differs from paper, and the share of the ink that opening
# keeps unless all strokes are thin.
REACHES = 48
KEPT_SHARE = (1, 3)
# Contours are lines alone, of which erosion by 3 x 3 pixels leaves less ink than the first share, and the closing of
# gaps makes more than the second. Gaps are narrower than these pixels: enclosed by lines, and any.
CORE_SHARE = (1, 200)
CLOSED_SHARE = (3, 2)
INSIDE_CLOSING = 5
CLOSING = 4
# Pixels of a stroke that no pen of MNIST's writers made. While so much of the ink is in such strokes, they are thinned
# by one pixel, three at most.
THICK = 4
THICK_SHARE = (3, 10)
THINNINGS = 3
# A sharp picture has a step of this share of its largest contrast between two pixels. A surround is 7 x 7 pixels.
STEEP_SHARE = (5, 8)
SURROUND = 3
# Contrast below this is not amplified to the full rate. Contrast below an eighth of the largest does not spike.
MIN_PEAK = 32
FLOOR_DIVISOR = 8

Images = TypeVar("Images")
Array = Any
"""A numpy array or a torch tensor. If nothing else is said, it is pictures, uint8 [N, 28, 28]."""


def contrast(images: Images) -> Images:
    """Turn brightness into contrast, in integer operations.

    1. *Despeckle*: a pixel is clamped between the darkest and the brightest of its eight neighbours, so that
       a lone outlier disappears and a stroke stays. In a noisy picture, it is between the second darkest and
       the second brightest; noisy is one where that changes at least 8 pixels by at least 64 grey levels.
    2. *Lateral inhibition*: the background is estimated and subtracted (see `_background`). What is left
       is the distance from the background, whichever of the two is brighter.
    3. *Lines*: if ink reaches two sides of even paper without noise, something is drawn across the digit. What is
       thinner than 2 x 2 pixels goes, unless that is nearly all (see `_without_lines`).
    4. *Stroke width*: strokes much wider than a pen's are made thinner (see `_thinned`).
    5. *Contours*: if a picture shows fine lines around strokes alone, they are filled (see `_filled`).
    6. *Focus*: in a picture without a sharp edge, each pixel gains its height above the mean of its surround (see
       `_sharpened`). Not sooner: strokes that are smeared by motion are thinned because they are wide.
    7. *Floor*: contrast under an eighth of the picture's largest becomes 0.
    8. *Gain*: the largest contrast becomes 255 (unless it is under 32: then there is hardly any ink).

    A digit on black, as in MNIST, passes almost unchanged.

    Shapes: images uint8 [..., 28, 28] -> uint8 [..., 28, 28], an array or a tensor as they are, on their device.
    Raises EncodingError for any other shape or type.
    """
    pictures: Array = images
    # numpy follows the standard by itself; array_api_compat's copy of it would take 9 MB and loads `unittest`.
    xp: Any = np if isinstance(images, np.ndarray) else array_namespace(pictures)
    if pictures.dtype != xp.uint8 or pictures.shape[-2:] != (SIDE, SIDE):
        raise EncodingError(f"expected uint8 [..., 28, 28], got {pictures.dtype} {list(pictures.shape)}")
    clean, noisy = _despeckled(xp, pictures.reshape(-1, SIDE, SIDE))
    background, even = _background(xp, clean)
    distance = _without_lines(xp, _difference(xp, clean, background), even & ~noisy)
    distance = _sharpened(xp, _filled(xp, _thinned(xp, distance)))
    peak = xp.clip(_peak(xp, distance), MIN_PEAK, 255)[:, None, None]
    gained = xp.astype(distance * _is_seen(xp, distance), xp.int32) * 255 // peak
    seen: Images = xp.astype(gained, xp.uint8).reshape(pictures.shape)
    return seen


def _despeckled(xp: Any, images: Array) -> tuple[Array, Array]:
    """Clamp each pixel between its lowest and highest neighbours, or the second ones if the picture is noisy.

    Returns the pictures, and bool [N]: noisy or not.
    """
    rows = xp.concat([images[:, :1], images, images[:, -1:]], axis=1)
    padded = xp.concat([rows[:, :, :1], rows, rows[:, :, -1:]], axis=2)  # [N, 30, 30]
    # The eight neighbours are four pairs: left and right, and above and below in each of three columns.
    left, right = padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    darker, brighter = xp.minimum(padded[:, :-2], padded[:, 2:]), xp.maximum(padded[:, :-2], padded[:, 2:])
    low1 = high2 = xp.minimum(left, right)
    low2 = high1 = xp.maximum(left, right)
    for x in range(3):
        low, high = darker[:, :, x : x + SIDE], brighter[:, :, x : x + SIDE]
        low2 = xp.minimum(xp.maximum(low1, low), xp.minimum(low2, high))
        high2 = xp.maximum(xp.minimum(high1, high), xp.maximum(high2, low))
        low1, high1 = xp.minimum(low1, low), xp.maximum(high1, high)
    strict = xp.clip(images, low2, high2)
    noisy = _ink(xp, _difference(xp, strict, images) >= SPECK) >= SPECKS
    return _either(xp, noisy, strict, xp.clip(images, low1, high1)), noisy


def _background(xp: Any, images: Array) -> tuple[Array, Array]:
    """Estimate what the pictures would be without ink. Returns that, and bool [N]: the margin is even or not.

    An even margin's median is the background of the whole picture; an uneven one tells less, see `_guessed`.
    """
    frame = xp.ones((SIDE, SIDE), dtype=xp.bool, device=images.device)
    frame[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    margin = xp.sort(images[:, frame], axis=1)  # [N, 300]
    size = margin.shape[1]
    median = margin[:, size // 2, None]  # [N, 1]
    near = xp.sum(_difference(xp, margin, median) <= EVEN, axis=1, dtype=xp.int32)
    even = _at_least(near, EVEN_SHARE, size)
    return _changed(xp, ~even, _guessed, xp.zeros_like(images) + median[:, :, None], images), even


def _guessed(xp: Any, flat: Array, images: Array) -> Array:
    """Guess at a background whose margin is uneven.

    Three guesses compete: the margin's median everywhere (`flat`), and the margin continued inwards in two ways. The
    one that leaves the least ink wins; the later ones must leave clearly less. Then the paper between the strokes
    corrects it.
    """
    best, least = flat, GUESS_WEIGHTS[0] * _ink(xp, _difference(xp, images, flat))
    for weight, guess in zip(GUESS_WEIGHTS[1:], _continued_margin(xp, images), strict=True):
        left = weight * _ink(xp, _difference(xp, images, guess))
        best = _either(xp, left < least, guess, best)
        least = xp.minimum(least, left)
    return _between_strokes(xp, images, best)


def _continued_margin(xp: Any, images: Array) -> list[Array]:
    """Continue the margin inwards: two Coons patches of the four edges.

    They follow light that changes slowly, and stripes that cross the whole picture, exactly. In the first the corners
    are the ends of the rows, in the second those of the columns: a stripe at the edge that is thinner than the margin
    is seen by the edges that it crosses alone.
    """
    top, bottom = _edge(xp, images[:, :MARGIN]), _edge(xp, images[:, -MARGIN:])
    left, right = _edge(xp, images[:, :, :MARGIN].mT), _edge(xp, images[:, :, -MARGIN:].mT)
    patches = [_coons_patch(xp, top, bottom, left, right, corners) for corners in ("rows", "columns")]
    return [xp.astype(xp.clip(patch, 0, 255), xp.uint8) for patch in patches]


def _coons_patch(
    xp: Any, top: Array, bottom: Array, left: Array, right: Array, corners_of: Literal["rows", "columns"]
) -> Array:
    """Span a surface between four edges, rounded down. int32 [N, 28] each -> int32 [N, 28, 28].

    `corners_of`: if the edges do not agree in the corners, those of `top` and `bottom` count, or of `left` and `right`.
    Source: Coons, "Surfaces for Computer-Aided Design of Space Forms", 1967.
    """
    last = SIDE - 1
    far = xp.arange(SIDE, dtype=xp.int32, device=top.device)
    near = last - far
    rows = near[:, None] * top[:, None, :] + far[:, None] * bottom[:, None, :]
    columns = near * left[:, :, None] + far * right[:, :, None]
    if corners_of == "rows":
        corner = [top[:, 0], top[:, -1], bottom[:, 0], bottom[:, -1]]
    else:
        corner = [left[:, 0], right[:, 0], left[:, -1], right[:, -1]]
    upper = near * corner[0][:, None] + far * corner[1][:, None]  # [N, 28]
    lower = near * corner[2][:, None] + far * corner[3][:, None]
    corners = near[:, None] * upper[:, None, :] + far[:, None] * lower[:, None, :]
    return (last * (rows + columns) - corners) // last**2


def _edge(xp: Any, strip: Array) -> Array:
    """Take the median over the strip's depth and 5 pixels along it. uint8 [N, 3, 28] -> int32 [N, 28]."""
    half = MARGIN_WINDOW // 2
    padded = xp.concat([strip[:, :, :1]] * half + [strip] + [strip[:, :, -1:]] * half, axis=2)
    windows = xp.concat([padded[:, :, i : i + SIDE] for i in range(MARGIN_WINDOW)], axis=1)  # [N, 15, 28]
    return xp.astype(xp.sort(windows, axis=1)[:, windows.shape[1] // 2], xp.int32)


def _between_strokes(xp: Any, images: Array, guess: Array) -> Array:
    """Correct the guess at the background by the paper between the strokes.

    Paper is away from the guess by less than four tenths of the largest distance. The guess is corrected by the mean
    difference of paper in 7 x 7 pixels, rounded down; in 15 x 15 if all of those are ink; or not at all.
    """
    above = xp.astype(images, xp.int32) - xp.astype(guess, xp.int32)
    distance = xp.abs(above)
    paper = ~_at_least(distance, INK_SHARE, xp.max(distance, axis=(1, 2), keepdims=True))
    correction = xp.zeros_like(above)
    for radius in reversed(PAPER_RADII):
        count = _window_sum(xp, xp.astype(paper, xp.int32), radius)
        # Never negative: such quotients round alike in every language.
        total = _window_sum(xp, (above + 255) * paper, radius)
        correction = xp.where(count > 0, total // xp.clip(count, 1, SIDE**2) - 255, correction)
    return xp.astype(xp.clip(guess + correction, 0, 255), xp.uint8)


def _without_lines(xp: Any, distance: Array, clear: Array) -> Array:
    """Open by 2 x 2 pixels if a picture is `clear` (bool [N]) and has ink at two of its sides or more.

    A digit ends before the picture does, so ink at its sides is something else: a line through it, a scribble.
    If opening would leave less than a third of the ink, the digit is drawn as thinly itself: then all stays.
    """
    sides = xp.stack([distance[:, 0], distance[:, -1], distance[:, :, 0], distance[:, :, -1]])  # [4, N, 28]
    reached = xp.sum(xp.max(sides, axis=2) >= REACHES, axis=0, dtype=xp.int32)

    def opened(xp: Any, before: Array) -> Array:
        after = _grown(xp, _shrunk(xp, before))
        return _either(xp, _at_least(_ink(xp, after), KEPT_SHARE, _ink(xp, before)), after, before)

    return _changed(xp, clear & (reached >= 2), opened, distance)


def _thinned(xp: Any, distance: Array, times: int = THINNINGS) -> Array:
    """Erode by 2 x 2 pixels, three times at most, while erosion by 4 x 4 leaves three tenths of the ink."""
    if not times:
        return distance
    thick = _at_least(_ink(xp, _shrunk(xp, distance, THICK - 1)), THICK_SHARE, _ink(xp, distance))

    def thinner(xp: Any, before: Array) -> Array:
        # Turned round, the other two sides lose a pixel next time, so that the digit stays where it is.
        turned = xp.flip(_shrunk(xp, before), axis=(1, 2))
        return xp.flip(_thinned(xp, turned, times - 1), axis=(1, 2))

    return _changed(xp, thick, thinner, distance)


def _filled(xp: Any, distance: Array) -> Array:
    """Fill contours: lines thinner than 3 pixels with half as much between them as their ink.

    Paper close between lines is filled, but not what one gets to from outside, so that a 3 keeps its bays. If that
    adds too little, as if a contour has gaps, all that lies close between lines is filled, bays too. Strokes of fine
    pens are as thin, but there is not as much between them.
    """
    hollow = ~_at_least(_ink(xp, _shrunk(xp, distance, 2)), CORE_SHARE, _ink(xp, distance))

    def filled(xp: Any, before: Array) -> Array:
        ink, result = _ink(xp, before), before
        inside = xp.where(_outside(xp, before), before, _closed(xp, before, INSIDE_CLOSING))
        # The better one is last.
        for after in (_closed(xp, before, CLOSING), inside):
            result = _either(xp, _at_least(_ink(xp, after), CLOSED_SHARE, ink), after, result)
        return result

    return _changed(xp, hollow, filled, distance)


def _outside(xp: Any, distance: Array) -> Array:
    """Find the paper that one gets to from outside the picture, from pixel to pixel by their sides. bool."""
    paper = xp.ones((len(distance), SIDE + 2, SIDE + 2), dtype=xp.bool, device=distance.device)
    paper[:, 1:-1, 1:-1] = ~_is_seen(xp, distance)
    reached = xp.zeros_like(paper)
    reached[:, 0] = True
    while True:
        further = reached & paper
        further[:, 1:] |= reached[:, :-1]
        further[:, :-1] |= reached[:, 1:]
        further[:, :, 1:] |= reached[:, :, :-1]
        further[:, :, :-1] |= reached[:, :, 1:]
        further &= paper
        if (further == reached).all():
            return reached[:, 1:-1, 1:-1]
        reached = further


def _sharpened(xp: Any, distance: Array) -> Array:
    """Add to each pixel of a blurred picture its height above its surround's mean.

    Centre and surround, as a retina's ganglion cells see them: it makes up for optics. A sharp picture, as one has
    from a scanner, stays as it is: somewhere ink ends from one pixel to the next.
    """
    down = _difference(xp, distance[:, 1:], distance[:, :-1])
    across = _difference(xp, distance[:, :, 1:], distance[:, :, :-1])
    steepest = xp.maximum(_peak(xp, down), _peak(xp, across))

    def sharper(xp: Any, before: Array) -> Array:
        levels, area = xp.astype(before, xp.int32), (2 * SURROUND + 1) ** 2
        after = (2 * area * levels - _window_sum(xp, levels, SURROUND)) // area
        return xp.astype(xp.clip(after, 0, 255), xp.uint8)

    return _changed(xp, ~_at_least(steepest, STEEP_SHARE, _peak(xp, distance)), sharper, distance)


def _closed(xp: Any, distance: Array, size: int) -> Array:
    """Dilate and erode by `size` pixels: gaps that are narrower are closed."""
    # Growth over the edges is lost.
    return xp.maximum(distance, _shrunk(xp, _grown(xp, distance, size - 1), size - 1))


def _shrunk(xp: Any, distance: Array, times: int = 1) -> Array:
    """Erode by 2 x 2 pixels, of which each is the first. Around the picture is no ink."""
    for _ in range(times):
        rows = xp.zeros_like(distance)
        rows[:, :-1] = xp.minimum(distance[:, :-1], distance[:, 1:])
        distance = xp.zeros_like(distance)
        distance[:, :, :-1] = xp.minimum(rows[:, :, :-1], rows[:, :, 1:])
    return distance


def _grown(xp: Any, distance: Array, times: int = 1) -> Array:
    """Dilate by 2 x 2 pixels, of which each is the last: what is left of strokes gets its width back."""
    for _ in range(times):
        rows = xp.asarray(distance, copy=True)
        rows[:, 1:] = xp.maximum(distance[:, 1:], distance[:, :-1])
        distance = xp.asarray(rows, copy=True)
        distance[:, :, 1:] = xp.maximum(rows[:, :, 1:], rows[:, :, :-1])
    return distance


def _window_sum(xp: Any, values: Array, radius: int) -> Array:
    """Sum over the window around each pixel, as far as it is in the picture. int32 [N, 28, 28]."""
    place = xp.arange(SIDE, device=values.device)
    first, behind = xp.clip(place - radius, 0, SIDE), xp.clip(place + radius + 1, 0, SIDE)
    for axis in (1, 2):
        total = xp.cumulative_sum(values, axis=axis, dtype=xp.int32, include_initial=True)
        values = xp.take(total, behind, axis=axis) - xp.take(total, first, axis=axis)
    return values


def _at_least(part: Array, share: tuple[int, int], whole: Array | int) -> Array:
    """Compare a part with a share (numerator, denominator) of a whole, in 32 bits, as products are large. bool."""
    return part * share[1] >= whole * share[0]


def _is_seen(xp: Any, distance: Array) -> Array:
    """Find the contrast that is not under the floor. bool."""
    peak = _peak(xp, distance)[:, None, None]
    return _at_least(xp.astype(distance, xp.int32), (1, FLOOR_DIVISOR), peak)


def _ink(xp: Any, distance: Array) -> Array:
    """Sum up the contrast of each picture. int32 [N]."""
    return xp.sum(distance, axis=(1, 2), dtype=xp.int32)


def _peak(xp: Any, distance: Array) -> Array:
    """Find the largest contrast of each picture. int32 [N]."""
    return xp.astype(xp.max(distance, axis=(1, 2)), xp.int32)


def _difference(xp: Any, one: Array, other: Array) -> Array:
    """Subtract the lower from the higher: bytes have no sign."""
    return xp.maximum(one, other) - xp.minimum(one, other)


def _either(xp: Any, these: Array, one: Array, other: Array) -> Array:
    """Take the pictures of `one` that are marked, bool [N], and the others of `other`."""
    return xp.where(these[:, None, None], one, other)


def _changed(xp: Any, these: Array, change: Callable[..., Array], pictures: Array, *others: Array) -> Array:
    """Change the pictures that are marked, bool [N], by `change(xp, pictures, *others)` of those alone."""
    chosen = xp.nonzero(these)[0]
    if not len(chosen):
        return pictures
    result = xp.asarray(pictures, copy=True)
    result[chosen] = change(xp, pictures[chosen], *(other[chosen] for other in others))
    return result
