"""The retina on tensors, for devices whose memory numpy does not see: `service.encoding.contrast` to the bit.

Pictures that are varied, seen and drawn where the network learns from them need not be sent there. On a CPU the
service's own code is faster, and is what `training.data` takes there. Tests hold the two together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from service.encoding import (
    EVEN,
    FLOOR_DIVISOR,
    MARGIN,
    MARGIN_WINDOW,
    MEDIAN_RADIUS,
    MEDIAN_STEP,
    MIN_PEAK,
    SIDE,
    SPECK,
    SPECKS,
    coons_patch,
)


def contrast(images: Tensor) -> Tensor:
    """Brightness to contrast. uint8 [N, 28, 28] -> uint8 [N, 28, 28], on the images' device."""
    clean = _despeckle(images.int())
    distance = (clean - _background(clean)).abs()
    peak = distance.amax((1, 2), keepdim=True)
    kept = torch.where(distance * FLOOR_DIVISOR >= peak, distance, 0)
    return (kept * 255 // peak.clamp(min=MIN_PEAK)).to(torch.uint8)


def _padded(images: Tensor, rows: int, columns: int) -> Tensor:
    """Edges repeated so many times. [N, H, W] -> [N, H + 2 rows, W + 2 columns]."""
    height, width = images.shape[1:]
    row = torch.arange(-rows, height + rows, device=images.device).clamp(0, height - 1)
    column = torch.arange(-columns, width + columns, device=images.device).clamp(0, width - 1)
    return images[:, row[:, None], column]


def _despeckle(images: Tensor) -> Tensor:
    """Clamp each pixel between its lowest and highest neighbours, or between the second ones. [N, 28, 28]."""
    padded = _padded(images, 1, 1)
    windows = [padded[:, dy : dy + SIDE, dx : dx + SIDE] for dy in range(3) for dx in range(3)]
    del windows[4]  # the pixel itself
    ordered = torch.stack(windows).sort(0).values  # [8, N, 28, 28]
    strict = images.clamp(ordered[1], ordered[6])
    noisy = ((strict - images).abs() >= SPECK).sum((1, 2), keepdim=True) >= SPECKS
    return torch.where(noisy, strict, images.clamp(ordered[0], ordered[7]))


def _background(images: Tensor) -> Tensor:
    """What the picture would be without ink: of three guesses, the one that leaves the least. [N, 28, 28]."""
    frame = torch.ones(SIDE, SIDE, dtype=torch.bool, device=images.device)
    frame[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    margin = images[:, frame].sort(1).values  # [N, 300]
    result = margin[:, margin.shape[1] // 2, None, None].expand_as(images).clone()
    uneven = (margin[:, -1] - margin[:, 0] > EVEN).nonzero()[:, 0]
    some = images[uneven]
    guesses = [result[uneven], _continued_margin(some), _local_median(some)]
    ink = [
        weight * (some - guess).abs().sum((1, 2), keepdim=True)
        for weight, guess in zip((4, 5, 6), guesses, strict=True)
    ]
    # Of equals the first, which `argmin` does not promise.
    later = torch.where(ink[1] <= ink[2], guesses[1], guesses[2])
    result[uneven] = torch.where(ink[0] <= torch.minimum(ink[1], ink[2]), guesses[0], later)
    return result


def _continued_margin(images: Tensor) -> Tensor:
    """The margin continued inwards: the Coons patch of the four edges. [N, 28, 28]."""
    top, bottom = _edge(images[:, :MARGIN]), _edge(images[:, -MARGIN:])  # [N, 28]
    left, right = _edge(images[:, :, :MARGIN].mT), _edge(images[:, :, -MARGIN:].mT)
    far = torch.arange(SIDE, dtype=torch.int32, device=images.device)
    patch: Tensor = coons_patch(top, bottom, left, right, far)
    return patch.clamp(0, 255)


def _edge(strip: Tensor) -> Tensor:
    """Median over the strip's depth and 5 pixels along it. [N, 3, 28] -> [N, 28]."""
    padded = _padded(strip, 0, MARGIN_WINDOW // 2)
    windows = torch.cat([padded[:, :, i : i + SIDE] for i in range(MARGIN_WINDOW)], 1)  # [N, 15, 28]
    return windows.sort(1).values[:, windows.shape[1] // 2]


def _local_median(images: Tensor) -> Tensor:
    """Median over 17 x 17 pixels (edges repeated), in steps of 16 grey levels. [N, 28, 28]."""
    width = 2 * MEDIAN_RADIUS + 1
    padded = _padded(images, MEDIAN_RADIUS, MEDIAN_RADIUS)
    result = torch.zeros_like(images)
    for level in range(MEDIAN_STEP // 2, 256, MEDIAN_STEP):
        count = _sliding_sum(_sliding_sum((padded >= level).int(), width, 1), width, 2)
        result += MEDIAN_STEP * (count * 2 > width * width)
    return result.clamp(max=255)


def _sliding_sum(values: Tensor, width: int, axis: int) -> Tensor:
    """Sums over windows of `width` along `axis`; the axis gets shorter by width - 1."""
    return values.unfold(axis, width, 1).sum(-1, dtype=torch.int32)
