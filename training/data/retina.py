"""The retina on tensors, for devices whose memory numpy does not see: `spikehead.model.retina.contrast` to the bit.

Pictures that are varied, seen and drawn where the network learns from them need not be sent there. On a CPU the
service's own code is faster, and is what `training.data.mnist` takes there. Tests hold the two together.
"""

from __future__ import annotations

import torch
from spikehead.model.encoding import SIDE
from spikehead.model.retina import (
    CLOSED_SHARE,
    CLOSING,
    CORE_SHARE,
    EVEN,
    EVEN_SHARE,
    FLOOR_DIVISOR,
    GUESS_WEIGHTS,
    INK_SHARE,
    INSIDE_CLOSING,
    KEPT_SHARE,
    MARGIN,
    MARGIN_WINDOW,
    MIN_PEAK,
    PAPER_RADII,
    REACHES,
    SPECK,
    SPECKS,
    STEEP_SHARE,
    SURROUND,
    THICK,
    THICK_SHARE,
    THINNINGS,
    at_least,
    coons_patch,
    flooded,
)
from torch import Tensor
from torch.nn.functional import pad


def contrast(images: Tensor) -> Tensor:
    """Brightness to contrast. uint8 [N, 28, 28] -> uint8 [N, 28, 28], on the images' device."""
    clean, noisy = _despeckle(images.int())
    background, even = _background(clean)
    distance = (clean - background).abs()
    distance = _sharpened(_filled(_thinned(_without_lines(distance, even & ~noisy))))
    peak = distance.amax((1, 2), keepdim=True)
    kept = torch.where(distance * FLOOR_DIVISOR >= peak, distance, 0)
    return (kept * 255 // peak.clamp(min=MIN_PEAK)).to(torch.uint8)


def _padded(images: Tensor, rows: int, columns: int) -> Tensor:
    """Edges repeated so many times. [N, H, W] -> [N, H + 2 rows, W + 2 columns]."""
    height, width = images.shape[1:]
    row = torch.arange(-rows, height + rows, device=images.device).clamp(0, height - 1)
    column = torch.arange(-columns, width + columns, device=images.device).clamp(0, width - 1)
    return images[:, row[:, None], column]


def _where(these: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Whole pictures of `one` or of `other`. [N] bool, [N, 28, 28] twice -> [N, 28, 28]."""
    return torch.where(these[:, None, None], one, other)


def _despeckle(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel between its lowest and highest neighbours, or the second ones; noisy ones. [N, 28, 28], [N]."""
    padded = _padded(images, 1, 1)
    windows = [padded[:, dy : dy + SIDE, dx : dx + SIDE] for dy in range(3) for dx in range(3)]
    del windows[4]  # the pixel itself
    ordered = torch.stack(windows).sort(0).values  # [8, N, 28, 28]
    strict = images.clamp(ordered[1], ordered[6])
    noisy = ((strict - images).abs() >= SPECK).sum((1, 2)) >= SPECKS
    return _where(noisy, strict, images.clamp(ordered[0], ordered[7])), noisy


def _background(images: Tensor) -> tuple[Tensor, Tensor]:
    """What the picture would be without ink, and whether its margin is even. [N, 28, 28], [N]."""
    frame = torch.ones(SIDE, SIDE, dtype=torch.bool, device=images.device)
    frame[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    margin = images[:, frame].sort(1).values  # [N, 300]
    median = margin[:, margin.shape[1] // 2, None]
    near = ((margin - median).abs() <= EVEN).sum(1)
    even: Tensor = at_least(near, EVEN_SHARE, margin.shape[1])
    result = median[:, :, None].expand_as(images).clone()
    uneven = (~even).nonzero()[:, 0]
    some = images[uneven]
    guesses = [result[uneven], *_continued_margin(some)]
    ink = [
        weight * (some - guess).abs().sum((1, 2))
        for weight, guess in zip(GUESS_WEIGHTS, guesses, strict=True)
    ]
    # Of equals the first, which `argmin` does not promise.
    later = _where(ink[1] <= ink[2], guesses[1], guesses[2])
    best = _where(ink[0] <= torch.minimum(ink[1], ink[2]), guesses[0], later)
    result[uneven] = _between_strokes(some, best)
    return result, even


def _continued_margin(images: Tensor) -> list[Tensor]:
    """The margin continued inwards: two Coons patches of the four edges, of [N, 28, 28]."""
    top, bottom = _edge(images[:, :MARGIN]), _edge(images[:, -MARGIN:])  # [N, 28]
    left, right = _edge(images[:, :, :MARGIN].mT), _edge(images[:, :, -MARGIN:].mT)
    far = torch.arange(SIDE, dtype=torch.int32, device=images.device)
    patches = (coons_patch(top, bottom, left, right, far, corners) for corners in ("rows", "columns"))
    return [patch.clamp(0, 255) for patch in patches]


def _edge(strip: Tensor) -> Tensor:
    """Median over the strip's depth and 5 pixels along it. [N, 3, 28] -> [N, 28]."""
    padded = _padded(strip, 0, MARGIN_WINDOW // 2)
    windows = torch.cat([padded[:, :, i : i + SIDE] for i in range(MARGIN_WINDOW)], 1)  # [N, 15, 28]
    return windows.sort(1).values[:, windows.shape[1] // 2]


def _between_strokes(images: Tensor, guess: Tensor) -> Tensor:
    """The guess at the background, corrected by what the paper between the strokes is. [N, 28, 28]."""
    above = images - guess
    distance = above.abs()
    paper = ~at_least(distance, INK_SHARE, distance.amax((1, 2), keepdim=True))
    total = torch.where(paper, above + 255, 0)
    correction = torch.zeros_like(above)
    for radius in reversed(PAPER_RADII):
        count, amount = _window_sum(paper.int(), radius), _window_sum(total, radius)
        correction = torch.where(count > 0, amount // count.clamp(min=1) - 255, correction)
    return (guess + correction).clamp(0, 255)


def _window_sum(values: Tensor, radius: int) -> Tensor:
    """Sum over the window around each place, as far as it is in the picture. [N, 28, 28]."""
    padded, width = pad(values, (radius, radius, radius, radius)), 2 * radius + 1
    rows = padded.unfold(1, width, 1).sum(-1, dtype=torch.int32)
    return rows.unfold(2, width, 1).sum(-1, dtype=torch.int32)


def _without_lines(distance: Tensor, clear: Tensor) -> Tensor:
    """Open by 2 x 2 what has ink at two sides of the picture or more, where it is `clear`. [N, 28, 28], [N]."""
    ends = torch.stack(
        [distance[:, 0], distance[:, -1], distance[:, :, 0], distance[:, :, -1]], 1
    )  # [N, 4, 28]
    crossed = (ends >= REACHES).any(2).sum(1) >= 2
    opened = _grown(_shrunk(distance))
    enough = at_least(_ink(opened), KEPT_SHARE, _ink(distance))
    return _where(clear & crossed & enough, opened, distance)


def _thinned(distance: Tensor) -> Tensor:
    """Erode by 2 x 2, three times at most, while erosion by 4 x 4 leaves three tenths of the ink. [N, 28, 28]."""
    for time in range(THINNINGS):
        ink = _ink(distance)
        thick = at_least(_ink(_shrunk(distance, THICK - 1)), THICK_SHARE, ink)
        thinner = _shrunk(distance) if time % 2 == 0 else _shrunk(distance.flip(1, 2)).flip(1, 2)
        distance = _where(thick, thinner, distance)
    return distance


def _filled(distance: Tensor) -> Tensor:
    """Fill contours: lines thinner than 3 pixels with half as much between them as their ink. [N, 28, 28]."""
    ink = _ink(distance)
    hollow = (~at_least(_ink(_shrunk(distance, 2)), CORE_SHARE, ink)).nonzero()[:, 0]
    before, ink = distance[hollow], ink[hollow]
    inside = torch.where(_outside(before), before, _closed(before, INSIDE_CLOSING))
    chosen = before
    for filled in (_closed(before, CLOSING), inside):
        chosen = _where(at_least(_ink(filled), CLOSED_SHARE, ink), filled, chosen)
    return distance.index_copy(0, hollow, chosen)


def _outside(distance: Tensor) -> Tensor:
    """Paper that one gets to from outside the picture, from pixel to pixel by their sides. [N, 28, 28]."""
    ink = at_least(distance, (1, FLOOR_DIVISOR), distance.amax((1, 2), keepdim=True))
    found: Tensor = flooded(pad(~ink, (1, 1, 1, 1), value=True))[:, 1:-1, 1:-1]
    return found


def _sharpened(distance: Tensor) -> Tensor:
    """Add to each pixel what it is above its surround's mean, where the picture is blurred. [N, 28, 28]."""
    steps = [distance.diff(dim=dim).abs().amax((1, 2)) for dim in (1, 2)]
    blurred = ~at_least(torch.maximum(*steps), STEEP_SHARE, distance.amax((1, 2)))
    area = (2 * SURROUND + 1) ** 2
    sharp = (2 * area * distance - _window_sum(distance, SURROUND)).clamp(min=0) // area
    return _where(blurred, sharp.clamp(max=255), distance)


def _closed(values: Tensor, size: int) -> Tensor:
    """Dilate and erode by so many pixels: gaps that are narrower are closed. [N, 28, 28]."""
    return torch.maximum(values, _shrunk(_grown(values, size - 1), size - 1))


def _ink(distance: Tensor) -> Tensor:
    """Total contrast of each picture. [N, 28, 28] -> [N]."""
    return distance.sum((1, 2))


def _shrunk(values: Tensor, times: int = 1) -> Tensor:
    """Erode by 2 x 2 pixels, of which each is the first. Around the picture is no ink. [N, 28, 28]."""
    for _ in range(times):
        wide = pad(values, (0, 1, 0, 1))
        down = torch.minimum(wide[:, :-1], wide[:, 1:])
        values = torch.minimum(down[:, :, :-1], down[:, :, 1:])
    return values


def _grown(values: Tensor, times: int = 1) -> Tensor:
    """Dilate by 2 x 2 pixels, of which each is the last. [N, 28, 28]."""
    for _ in range(times):
        wide = pad(values, (1, 0, 1, 0))
        down = torch.maximum(wide[:, :-1], wide[:, 1:])
        values = torch.maximum(down[:, :, :-1], down[:, :, 1:])
    return values
