"""From ink to the digit's pixels: without specks, frames, and the lines of ruled paper."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikehead.pictures.ink import threshold
from spikehead.pictures.pixels import Grey, Mask

_LINE = 0.1  # of the longer side: what is wider where it leaves the picture is no line
_DIGIT = 0.2  # of the longer side: what is shorter, where lines cross the picture, is no digit


def digit_mask(ink: Grey) -> Mask:
    """Mark the digit's pixels: no specks, no lines across, no frame or line along the picture's edge. [H, W]."""
    mask = _without_lines(ink > threshold(ink))
    labels, boxes, areas = _components(mask)
    height, width = mask.shape
    main = int(areas.argmax())
    size = boxes[:, 2:] - boxes[:, :2]  # [n, 2]
    touching = (boxes == np.array([0, 0, height, width])).sum(axis=1)
    frame = (touching >= 2) & (size >= 0.8 * np.array([height, width])).any(axis=1)
    frame |= _enclosing(labels, boxes, areas)
    keep = areas >= 0.03 * areas.max()
    if (keep & ~frame).any():
        main = int(np.where(frame, 0, areas).argmax())
        keep = ~frame & (areas >= 0.03 * areas[main])
    apart = np.maximum(np.maximum(boxes[:, :2] - boxes[main, 2:], boxes[main, :2] - boxes[:, 2:]), 0).max(
        axis=1
    )
    keep &= (areas >= 0.15 * areas[main]) | (apart <= 0.35 * size[main].max())
    return np.asarray(keep[labels] & mask)


def _without_lines(mask: Mask) -> Mask:
    """Open a mask that reaches two sides of the picture or more by an octagon wider than its lines there. [H, W].

    A digit ends before the picture does: what reaches its sides is ruled or squared paper, or a line through the digit.
    If no part that is left is a fifth as long as the picture, the digit is as thin as the lines: then all stays.
    """
    crossings = [_longest_run(side) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])]
    widest, side = max(crossings), max(mask.shape)
    if sum(crossing > 0 for crossing in crossings) < 2 or widest > _LINE * side:
        return mask
    radius = (widest + 1) // 2
    opened = _spread(~_spread(~mask, radius), radius)
    if not opened.any():
        return mask
    boxes = _components(opened)[1]
    return opened if (boxes[:, 2:] - boxes[:, :2]).max() >= _DIGIT * side else mask


def _spread(mask: Mask, radius: int) -> Mask:
    """Dilate by an octagon of that radius. Nothing is set beyond the picture. [H, W]."""
    for step in range(radius):
        rows = mask.copy()
        rows[1:] |= mask[:-1]
        rows[:-1] |= mask[1:]
        across = mask if step % 2 else rows  # a square, and a cross every other time
        mask = rows.copy()
        mask[:, 1:] |= across[:, :-1]
        mask[:, :-1] |= across[:, 1:]
    return mask


def _longest_run(values: NDArray[np.bool_]) -> int:
    """Count the most neighbours that are set."""
    change = np.diff(np.pad(values, 1).astype(np.int8))
    return int(max(np.flatnonzero(change < 0) - np.flatnonzero(change > 0), default=0))


def _enclosing(labels: NDArray[np.int64], boxes: NDArray[np.int64], areas: NDArray[np.float64]) -> Mask:
    """Mark components that are rectangles around others: most of their pixels lie along their own box. [n]."""
    result = np.zeros(len(areas), bool)
    large = ((boxes[:, 2:] - boxes[:, :2]) * 4 >= labels.shape).all(axis=1)
    for index in np.flatnonzero(large & (areas >= 0.1 * areas.max())):
        top, left, bottom, right = boxes[index]
        inside = (boxes[:, :2] > boxes[index, :2]).all(axis=1) & (boxes[:, 2:] < boxes[index, 2:]).all(axis=1)
        if not (inside & (areas >= 0.05 * areas[index])).any():
            continue
        own = labels[top:bottom, left:right] == index
        band = max(2, max(own.shape) // 20)
        if own[band:-band, band:-band].sum() < 0.1 * own.sum():
            result[index] = True
    return result


def _components(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Label connected parts of a mask (8 neighbours), by runs of rows and union-find.

    Returns labels [H, W] (-1 outside the mask), boxes [n, 4] as top, left, bottom, right, areas [n].
    """
    padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    row, start = np.nonzero(change == 1)
    end = np.nonzero(change == -1)[1]
    parent = list(range(len(row)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_of_row = np.searchsorted(row, np.arange(mask.shape[0] + 1)).tolist()
    starts, ends = start.tolist(), end.tolist()
    for y in range(1, mask.shape[0]):
        above, here = first_of_row[y - 1], first_of_row[y]
        stop_above, stop_here = first_of_row[y], first_of_row[y + 1]
        while above < stop_above and here < stop_here:
            if starts[above] <= ends[here] and starts[here] <= ends[above]:  # runs touch, diagonally too
                parent[root(above)] = root(here)
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    roots = np.array([root(i) for i in range(len(parent))])
    _, index = np.unique(roots, return_inverse=True)
    count = int(index.max()) + 1
    areas = np.bincount(index, weights=end - start, minlength=count).astype(np.float64)
    boxes = np.zeros((count, 4), np.int64)
    boxes[:, :2] = max(mask.shape)
    np.minimum.at(boxes[:, 0], index, row)
    np.minimum.at(boxes[:, 1], index, start)
    np.maximum.at(boxes[:, 2], index, row + 1)
    np.maximum.at(boxes[:, 3], index, end)
    labels: NDArray[np.int64] = np.full(mask.shape, -1, np.int64)
    labels[mask] = np.repeat(index, end - start)
    return labels, boxes, areas


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the pixels that are set."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
