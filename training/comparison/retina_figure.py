"""A picture of what the retina does: a digit under every distortion, and below each what the network gets to see."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from spikehead.model.encoding import SIDE
from spikehead.model.retina import contrast

from training.data.distortions import DISTORTIONS, distorted

IN_A_ROW = 12


def views(image: NDArray[np.uint8], seed: int) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """The picture as it is and under each distortion, and the retina's contrast of it. uint8 [28, 28] each."""
    pictures = {
        "as it is": image,
        **{name: distorted(image[None], name, seed)[0] for name in DISTORTIONS},
    }
    return {name: (picture, contrast(picture)) for name, picture in pictures.items()}


def draw(image: NDArray[np.uint8], seed: int) -> Figure:
    """All `views` of a digit, twelve in a row. image uint8 [28, 28]."""
    pairs = views(image, seed)
    bands = -(-len(pairs) // IN_A_ROW)
    figure = Figure(figsize=(IN_A_ROW, 2.3 * bands), layout="constrained")
    axes = figure.subplots(2 * bands, IN_A_ROW, squeeze=False)
    for one in axes.flat:
        one.set_axis_off()
    for i, (name, pair) in enumerate(pairs.items()):
        band, column = divmod(i, IN_A_ROW)
        axes[2 * band, column].set_title(name.replace("_", " "), fontsize=7)
        for below, picture in enumerate(pair):
            axes[2 * band + below, column].imshow(
                picture, cmap="gray", vmin=0, vmax=255, extent=(0, SIDE, SIDE, 0), interpolation="nearest"
            )
    return figure
