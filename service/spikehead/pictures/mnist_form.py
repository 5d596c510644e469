"""A test for pictures of 28 x 28 pixels that are in MNIST's form already: those are taken as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikehead.engine import native
from spikehead.model.encoding import SIDE
from spikehead.model.retina import contrast

CENTRED = 3.5  # pixels that the form allows between the centre of mass and the middle
SMALLEST, LARGEST = 13, 25  # the longer side of a digit that it allows

_PLACES = np.arange(SIDE)


def is_mnist_form(small: NDArray[np.uint8]) -> bool:
    """Tell if a 28 x 28 picture has MNIST's place and size. uint8 [28, 28].

    Brightness does not matter, because the retina (`spikehead.model.retina.contrast`) corrects it. Size is tested
    only if the margin is clean: noise and stripes have no size. The native engine, if it was built, gives the same
    answer sooner.
    """
    if native.available():
        return native.in_form(small, CENTRED, SMALLEST, LARGEST)
    return looks_like_mnist(small)


def looks_like_mnist(small: NDArray[np.uint8]) -> bool:
    """`is_mnist_form`, in numpy."""
    seen = small if not _has_frame(small) else contrast(small)
    rows, columns = seen.sum(axis=1, dtype=np.int64), seen.sum(axis=0, dtype=np.int64)
    total = int(rows.sum())
    if not total:
        return False
    for sums in (rows, columns):
        if abs(int(sums @ _PLACES) / total - (SIDE - 1) / 2) > CENTRED:
            return False
    if _has_frame(seen):
        return True
    ink = seen > int(seen.max()) // 4
    sides = [np.flatnonzero(ink.any(axis)) for axis in (0, 1)]
    return SMALLEST <= max(int(side[-1] - side[0]) + 1 for side in sides) <= LARGEST


def _has_frame(values: NDArray[np.uint8]) -> bool:
    """Tell if any of the outermost pixels is set."""
    return bool(values[0].any() or values[-1].any() or values[:, 0].any() or values[:, -1].any())
