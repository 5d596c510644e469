"""The retina: from a picture's brightness to contrast, whatever paper, light and pen it was made with.

Integer arithmetic makes it the same to the bit on every machine. Training, evaluation and the service all use this one
module; the native engine's retina (`retina.cpp`) and that of a training on a GPU (`training.data.retina`) equal it.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spikehead.model.encoding import SIDE, EncodingError

SPECK = 64  # grey levels by which a pixel stands out of its neighbours to be a speck
SPECKS = 8  # a picture of fewer has corners and ends of strokes, not noise
MARGIN = 3  # MNIST's digits fill 20 x 20 pixels of 28 x 28: the frame around them is paper
MARGIN_WINDOW = 5  # along the frame, a median over so many pixels
EVEN = 12  # grey levels that paper of one brightness may differ from its median
EVEN_SHARE = (9, 10)  # of a margin's pixels are so: strokes may reach an even one
GUESS_WEIGHTS = (4, 5, 5)  # the margin's median wins unless another leaves under four fifths of its ink
INK_SHARE = (4, 10)  # of the largest distance from the paper, and what is as far is ink
PAPER_RADII = (3, 7)  # paper is looked for in 7 x 7 pixels, and where they are all ink in 15 x 15
REACHES = 48  # grey levels by which ink that reaches the picture's edge differs from paper
KEPT_SHARE = (1, 3)  # of the ink: a picture of which opening leaves less had no strokes but thin ones
CORE_SHARE = (1, 200)  # of the ink: what erosion by 3 x 3 leaves less of is lines alone
INSIDE_CLOSING = 5  # closes gaps of up to 4 pixels, where lines enclose them
CLOSING = 4  # closes gaps of up to 3 pixels, enclosed or not
CLOSED_SHARE = (3, 2)  # of the ink: where a closing makes so much of it, there were contours
THICK = 4  # pixels: strokes as wide are no pen's that MNIST's digits were written with, ...
THICK_SHARE = (3, 10)  # ... if so much of the ink is in them
THINNINGS = 3  # at most
STEEP_SHARE = (5, 8)  # of the largest contrast: a sharp picture has such a step between two pixels
SURROUND = 3  # the surround of a pixel is 7 x 7 pixels
MIN_PEAK = 32  # contrast below this is not amplified to full rate
FLOOR_DIVISOR = 8  # contrast below an eighth of the peak does not spike


def contrast(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The retina: brightness to contrast, in integer operations.

    1. *Despeckle*: a pixel is clamped between the darkest and the brightest of its eight neighbours, so that
       a lone outlier disappears and a stroke stays. In a noisy picture, it is between the second darkest and
       the second brightest; noisy is one where that changes at least 8 pixels by at least 64 grey levels.
    2. *Lateral inhibition*: the background is estimated and subtracted (see `_background`). What is left
       is the distance from the background, whichever of the two is brighter.
    3. *Lines*: where ink reaches two sides of even paper without noise, something is drawn across the digit. What is
       thinner than 2 x 2 pixels goes, unless that is nearly all (see `_without_lines`).
    4. *Stroke width*: strokes much wider than a pen's are made thinner (see `_thinned`).
    5. *Contours*: where a picture shows fine lines around strokes alone, they are filled (see `_filled`).
    6. *Focus*: in a picture without a sharp edge, each pixel gains what it is above the mean of its surround (see
       `_sharpened`). Not sooner: strokes that are smeared by motion are thinned by what they are wider.
    7. *Floor*: what lies under an eighth of the image's largest contrast becomes 0.
    8. *Gain*: the largest contrast becomes 255 (unless it is under 32: then there is hardly any ink).

    A digit on black, as in MNIST, passes almost unchanged.

    Shapes: images uint8 [..., 28, 28] -> uint8 [..., 28, 28].
    Raises EncodingError for any other shape or type.
    """
    if images.dtype != np.uint8 or images.shape[-2:] != (SIDE, SIDE):
        raise EncodingError(f"expected uint8 [..., 28, 28], got {images.dtype} {list(images.shape)}")
    flat = images.reshape(-1, SIDE, SIDE)
    clean, noisy = _despeckle(flat)
    background, even = _background(clean)
    distance = np.abs(clean.astype(np.int16) - background).astype(np.uint8)  # [N, 28, 28]
    distance = _sharpened(_filled(_thinned(_without_lines(distance, even & ~noisy))))
    peak = distance.max(axis=(1, 2), keepdims=True).astype(np.int32)  # [N, 1, 1]
    kept = np.where(distance.astype(np.int32) * FLOOR_DIVISOR >= peak, distance, 0).astype(np.int32)
    gained = kept * 255 // np.maximum(peak, MIN_PEAK)
    return np.asarray(gained.reshape(images.shape), np.uint8)


def at_least(part: Any, share: tuple[int, int], whole: Any) -> Any:
    """Whether a part is that share (parts, of so many) of a whole. Of 32 bits, as products are large."""
    return part * share[1] >= whole * share[0]


def _despeckle(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Clamp each pixel between its lowest and highest neighbours, or between the second ones; which pictures are noisy.

    [N, 28, 28] uint8 -> the same, [N].
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    high1 = high2 = np.zeros_like(images)
    low1 = low2 = np.full_like(images, 255)
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) == (1, 1):
                continue
            neighbour = padded[:, dy : dy + SIDE, dx : dx + SIDE]
            high2 = np.maximum(high2, np.minimum(high1, neighbour))
            high1 = np.maximum(high1, neighbour)
            low2 = np.minimum(low2, np.maximum(low1, neighbour))
            low1 = np.minimum(low1, neighbour)
    strict = np.clip(images, low2, high2)
    change = np.maximum(strict, images) - np.minimum(strict, images)
    noisy = (change >= SPECK).sum(axis=(1, 2)) >= SPECKS  # [N]
    return np.where(noisy[:, None, None], strict, np.clip(images, low1, high1)), noisy


def _background(images: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """What the picture would be without ink, and whether its margin is even. [N, 28, 28] uint8 -> int16, [N].

    An even margin is the background of the whole image. Where the margin is uneven, three guesses compete: the
    margin's median everywhere, and the margin continued inwards in two ways. The one that leaves the least ink wins;
    the later ones must leave clearly less. Then the paper between the strokes is looked at (see `_between_strokes`).
    """
    frame = np.ones((SIDE, SIDE), bool)
    frame[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    margin = np.sort(images[:, frame], axis=1).astype(np.int16)  # [N, 300]
    median = margin[:, margin.shape[1] // 2]
    near = (np.abs(margin - median[:, None]) <= EVEN).sum(axis=1)
    even = at_least(near, EVEN_SHARE, margin.shape[1])
    result = np.broadcast_to(median[:, None, None], images.shape).copy()
    uneven = np.flatnonzero(~even)
    if len(uneven):
        some = images[uneven]
        guesses = np.stack([result[uneven], *_continued_margin(some)])  # [3, n, 28, 28]
        ink = np.abs(some - guesses).sum(axis=(2, 3), dtype=np.int32)  # [3, n]
        best = np.argmin(ink * np.array(GUESS_WEIGHTS)[:, None], axis=0)
        result[uneven] = _between_strokes(some, guesses[best, np.arange(len(uneven))])
    return result, even


def _continued_margin(images: NDArray[np.uint8]) -> list[NDArray[np.int16]]:
    """The margin continued inwards: Coons patches of the four edges. Two of [N, 28, 28] int16.

    They follow light that changes slowly, and stripes that cross the whole image, exactly. In the first the corners
    are the ends of the rows, in the second those of the columns: a stripe at the edge that is thinner than the margin
    is seen by the edges that it crosses alone.
    """
    top, bottom = _edge(images[:, :MARGIN]), _edge(images[:, -MARGIN:])  # [N, 28]
    left, right = _edge(images[:, :, :MARGIN].swapaxes(1, 2)), _edge(images[:, :, -MARGIN:].swapaxes(1, 2))
    far = np.arange(SIDE, dtype=np.int32)
    return [
        np.asarray(np.clip(coons_patch(top, bottom, left, right, far, corners), 0, 255), np.int16)
        for corners in ("rows", "columns")
    ]


def coons_patch(
    top: Any, bottom: Any, left: Any, right: Any, far: Any, corners_of: Literal["rows", "columns"]
) -> Any:
    """The surface between four edges, rounded down. Integers [N, 28], arrays or tensors -> [N, 28, 28].

    `far` is how far each place is from the first edge: 0 to 27. `corners_of`: whose ends the corners are, where the
    edges do not agree: those of `top` and `bottom`, or of `left` and `right`.
    Source: Coons, "Surfaces for Computer-Aided Design of Space Forms", 1967.
    """
    last = SIDE - 1
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


def _edge(strip: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Median over the strip's depth and 5 pixels along it. [N, 3, 28] -> int32 [N, 28]."""
    half = MARGIN_WINDOW // 2
    padded = np.pad(strip, ((0, 0), (0, 0), (half, half)), mode="edge")
    windows = np.concatenate(
        [padded[:, :, i : i + SIDE] for i in range(MARGIN_WINDOW)], axis=1
    )  # [N, 15, 28]
    return np.partition(windows, windows.shape[1] // 2, axis=1)[:, windows.shape[1] // 2].astype(np.int32)


def _between_strokes(images: NDArray[np.uint8], guess: NDArray[np.int16]) -> NDArray[np.int16]:
    """The guess at the background, corrected by what the paper between the strokes is. [N, 28, 28] int16.

    Paper is what is away from the guess by less than four tenths of the largest distance. By how much it is above or
    below the guess is its mean over 7 x 7 pixels, rounded down; over 15 x 15 where those are all ink; or not at all.
    """
    above = images.astype(np.int32) - guess
    distance = np.abs(above)
    paper = ~at_least(distance, INK_SHARE, distance.max(axis=(1, 2), keepdims=True))
    total = np.where(paper, above + 255, 0)  # never negative: such quotients round alike in every language
    correction = np.zeros_like(above)
    for radius in reversed(PAPER_RADII):
        count, amount = _window_sum(paper.astype(np.int32), radius), _window_sum(total, radius)
        correction = np.where(count > 0, amount // np.maximum(count, 1) - 255, correction)
    return np.asarray(np.clip(guess + correction, 0, 255), np.int16)


def _window_sum(values: NDArray[np.int32], radius: int) -> NDArray[np.int32]:
    """Sum over the window around each place, as far as it is in the picture. [N, 28, 28]."""
    for axis in (1, 2):
        padding = [(0, 0)] * 3
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(values, padding), axis=axis, dtype=np.int32)
        width = 2 * radius + 1
        values = total.take(range(width, width + SIDE), axis) - total.take(range(SIDE), axis)
    return values


def _without_lines(distance: NDArray[np.uint8], clear: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Open by 2 x 2 what has ink at two sides of the picture or more, where it is `clear`. [N, 28, 28], [N].

    A digit ends before the picture does, so what reaches its sides is something else: a line through it, a scribble.
    Where opening would leave less than a third of the ink, the digit is drawn as thinly itself: then all stays.
    """
    ends = np.stack([distance[:, 0], distance[:, -1], distance[:, :, 0], distance[:, :, -1]], 1)  # [N, 4, 28]
    crossed = np.flatnonzero(clear & ((ends >= REACHES).any(2).sum(1) >= 2))
    if not len(crossed):
        return distance
    before = distance[crossed]
    opened = _grown(_shrunk(before))
    enough = at_least(_ink(opened), KEPT_SHARE, _ink(before))
    result = distance.copy()
    result[crossed] = np.where(enough[:, None, None], opened, before)
    return result


def _thinned(distance: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Erode by 2 x 2, three times at most, while erosion by 4 x 4 leaves three tenths of the ink. [N, 28, 28].

    Each time the other two sides of the strokes lose a pixel, so that the digit stays where it is.
    """
    result = distance.copy()
    for time in range(THINNINGS):
        ink = _ink(result)
        thick = np.flatnonzero(at_least(_ink(_shrunk(result, THICK - 1)), THICK_SHARE, ink))
        if not len(thick):
            break
        # Turned round, what is taken away lies on the other sides.
        step = -1 if time % 2 else 1
        result[thick] = _shrunk(result[thick, ::step, ::step])[:, ::step, ::step]
    return result


def _filled(distance: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill contours: lines thinner than 3 pixels with half as much between them as their ink. [N, 28, 28].

    What lies close between lines is filled, but not what one gets to from outside, so that a 3 keeps its bays. If that
    adds too little, as where a contour has gaps, all that lies close between lines is, bays too. Strokes of fine pens
    are as thin, but there is not as much between them.
    """
    ink = _ink(distance)
    hollow = np.flatnonzero(~at_least(_ink(_shrunk(distance, 2)), CORE_SHARE, ink))
    if not len(hollow):
        return distance
    before, ink = distance[hollow], ink[hollow]
    inside = np.where(_outside(before), before, _closed(before, INSIDE_CLOSING))
    result = distance.copy()
    for filled in (_closed(before, CLOSING), inside):  # the better one last
        contours = at_least(_ink(filled), CLOSED_SHARE, ink)
        result[hollow[contours]] = filled[contours]
    return result


def _outside(distance: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Paper that one gets to from outside the picture, from pixel to pixel by their sides. [N, 28, 28]."""
    ink = at_least(
        distance.astype(np.int32),
        (1, FLOOR_DIVISOR),
        distance.max(axis=(1, 2), keepdims=True).astype(np.int32),
    )
    return np.asarray(flooded(np.pad(~ink, ((0, 0), (1, 1), (1, 1)), constant_values=True))[:, 1:-1, 1:-1])


def flooded(paper: Any) -> Any:
    """Where water gets to that enters at the top and flows by pixels' sides. bool [N, H, W], array or tensor."""
    reached = paper & ~paper  # nothing yet
    reached[:, 0] = paper[:, 0]
    while True:
        further = reached & paper  # a copy
        further[:, 1:] |= reached[:, :-1]
        further[:, :-1] |= reached[:, 1:]
        further[:, :, 1:] |= reached[:, :, :-1]
        further[:, :, :-1] |= reached[:, :, 1:]
        further &= paper
        if (further == reached).all():
            return reached
        reached = further


def _sharpened(distance: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add to each pixel what it is above its surround's mean, where the picture is blurred. [N, 28, 28].

    Centre and surround, as a retina's ganglion cells see them: it makes up for optics. A sharp picture, as one has
    from a scanner, stays as it is: somewhere ink ends from one pixel to the next.
    """
    peak = distance.max(axis=(1, 2)).astype(np.int32)
    steps = [np.abs(np.diff(distance.astype(np.int16), axis=axis)).max(axis=(1, 2)) for axis in (1, 2)]
    blurred = np.flatnonzero(~at_least(np.maximum(*steps).astype(np.int32), STEEP_SHARE, peak))
    if not len(blurred):
        return distance
    some = distance[blurred].astype(np.int32)
    area = (2 * SURROUND + 1) ** 2
    sharp = np.maximum(2 * area * some - _window_sum(some, SURROUND), 0) // area
    result = distance.copy()
    result[blurred] = np.minimum(sharp, 255)
    return result


def _closed(values: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Dilate and erode by so many pixels: gaps that are narrower are closed. [N, 28, 28]."""
    return np.maximum(values, _shrunk(_grown(values, size - 1), size - 1))  # growth over the edges is lost


def _ink(distance: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Total contrast of each picture. [N, 28, 28] -> [N]."""
    return np.asarray(distance.sum(axis=(1, 2), dtype=np.int32))


def _shrunk(values: NDArray[np.uint8], times: int = 1) -> NDArray[np.uint8]:
    """Erode by 2 x 2 pixels, of which each is the first. Around the picture is no ink. [N, 28, 28]."""
    for _ in range(times):
        wide = np.pad(values, ((0, 0), (0, 1), (0, 1)))
        down = np.minimum(wide[:, :-1], wide[:, 1:])
        values = np.minimum(down[:, :, :-1], down[:, :, 1:])
    return values


def _grown(values: NDArray[np.uint8], times: int = 1) -> NDArray[np.uint8]:
    """Dilate by 2 x 2 pixels, of which each is the last: what is left of strokes gets their width back. [N, 28, 28]."""
    for _ in range(times):
        wide = np.pad(values, ((0, 0), (1, 0), (1, 0)))
        down = np.maximum(wide[:, :-1], wide[:, 1:])
        values = np.maximum(down[:, :, :-1], down[:, :, 1:])
    return values
