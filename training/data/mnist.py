"""MNIST, split into training, validation and test, UNIPEN beside it, and the geometric variation that training adds.

training    the first 50,000 training images, or all but those held out
validation  the last 10,000 training images, or as many as are held out: every choice is made on them
test        the 10,000 test images: read by `evaluate` alone

UNIPEN's writers (`training.data.unipen`) are split too: most are trained on if that is asked for, the others are for
validation.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from spikehead.engine import native
from spikehead.model.encoding import RATE_LEVELS, firing_rates
from spikehead.model.retina import contrast
from torch import Tensor
from torch.nn import functional as F

from training.data import unipen

Split = Literal["train", "validation", "test"]
VALIDATION_IMAGES = 10_000
DATA_VARIABLE = "SPIKEHEAD_DATA"


class DataError(RuntimeError):
    """Data are not there, nor can they be downloaded."""


def data_folder(explicit: Path | None = None) -> Path:
    """Return MNIST's folder: the argument, else $SPIKEHEAD_DATA, else ./data."""
    return explicit or Path(os.environ.get(DATA_VARIABLE, "data"))


def load(
    split: Split, folder: Path | None = None, held_out: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 [N, 28, 28] and labels int64 [N] of a split. Downloads MNIST where it is absent.

    held_out: so many of the last training images are for validation; None: 10,000.
    Raises DataError if it is absent and cannot be downloaded, ValueError where nothing would be left of a split.
    """
    mnist = _torchvision_mnist()
    root = data_folder(folder)
    try:
        dataset = mnist(str(root), train=split != "test", download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"expected MNIST under {root / 'MNIST' / 'raw'} (set {DATA_VARIABLE}) or a network to download it: {error}"
        ) from error
    images, labels = dataset.data.numpy(), dataset.targets.numpy()
    if split == "test":
        return images, labels
    held_out = held_out_images(held_out)
    if not 0 < held_out < len(images):
        raise ValueError(f"expected between 1 and {len(images) - 1:,} images held out, got {held_out:,}")
    part = slice(-held_out, None) if split == "validation" else slice(-held_out)
    return images[part], labels[part]


def with_unipen(
    images: NDArray[np.uint8], labels: NDArray[np.int64], share: float, folder: Path | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """MNIST's images [N, 28, 28] and labels [N], and after them so many of UNIPEN's training writers' that they are
    `share` of all.

    Each digit is drawn as often as the others, or once more, with another pen each time. Raises DataError if the
    data are absent, ValueError unless 0 <= share < 1.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"expected a share of UNIPEN's digits from 0 to below 1, got {share}")
    left = round(len(images) * share / (1.0 - share))
    parts = [(images, labels)]
    drawing = 0
    while left > 0:
        pictures, digits = unipen_pictures("train", folder, drawing=drawing)
        if len(pictures) > left:
            some = np.sort(np.random.default_rng(drawing).permutation(len(pictures))[:left])
            pictures, digits = pictures[some], digits[some]
        parts.append((pictures, digits))
        left -= len(pictures)
        drawing += 1
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def unipen_pictures(
    split: unipen.Split, folder: Path | None = None, labels: str = unipen.DIGITS, drawing: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Characters of UNIPEN's writers, see `unipen.pictures`. Raises DataError if there are none."""
    root = data_folder(folder)
    try:
        found = unipen.pictures(root / unipen.FOLDER, split, labels, drawing)
    except unipen.UnipenError as error:
        raise DataError(str(error)) from error
    if not len(found[0]):
        raise DataError(
            f"expected UNIPEN's characters under {root / unipen.FOLDER / 'data'} (set {DATA_VARIABLE}), found none"
        )
    return found


def has_unipen(folder: Path | None = None) -> bool:
    """Tell if UNIPEN lies in the data folder."""
    return (data_folder(folder) / unipen.FOLDER / "data").is_dir()


def held_out_images(asked: int | None) -> int:
    """How many of the last training images are for validation, where so many are asked for."""
    return VALIDATION_IMAGES if asked is None else asked


def held_out_by(trained: Mapping[str, Any]) -> int | None:
    """How many images a model's training held out, by what its card says of it."""
    found: int | None = trained.get("settings", {}).get("held_out")
    return found


def _torchvision_mnist() -> type:
    """torchvision's MNIST, also where torch is a CPU build and torchvision's compiled part is not.

    Then torchvision registers fake kernels for two operators that are missing. Declaring their schemas
    is enough for datasets, which need no operator.
    """
    try:
        from torchvision.datasets import MNIST
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _torchvision_libraries.append(library)
        import sys

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        from torchvision.datasets import MNIST
    return MNIST  # type: ignore[no-any-return]


_torchvision_libraries: list[torch.library.Library] = []


def sha256(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """Hash of the data that a card quotes."""
    return hashlib.sha256(images.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()


@dataclass(frozen=True)
class Variation:
    """How far handwriting may vary: standard deviations, or half-widths where it says `max`."""

    rotation_degrees: float = 8.0
    scale: float = 0.08
    shear: float = 0.10
    max_shift: float = 1.5
    elastic_pixels: float = 0.5
    wide_share: float = 0.2  # so many images vary `wide` times as much
    wide: float = 2.0

    def times(self, factor: float) -> Variation:
        """Return the variation with every amount multiplied by `factor`."""
        return replace(
            self,
            rotation_degrees=self.rotation_degrees * factor,
            scale=self.scale * factor,
            shear=self.shear * factor,
            max_shift=self.max_shift * factor,
            elastic_pixels=self.elastic_pixels * factor,
        )


def vary(images: Tensor, variation: Variation, generator: torch.Generator) -> Tensor:
    """Shift, rotate, scale, shear and bend digits. uint8 [N, 28, 28] -> uint8 [N, 28, 28]. Geometry only.

    Images and generator are on the same device.
    """
    count, side = images.shape[0], images.shape[-1]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    reach = torch.where(uniform(count) < variation.wide_share, variation.wide, 1.0)
    angle = normal(count) * reach * math.radians(variation.rotation_degrees)
    shear = normal(count) * reach * variation.shear
    scale_x = torch.exp(normal(count) * reach * variation.scale)
    scale_y = torch.exp(normal(count) * reach * variation.scale)
    shift = (uniform(count, 2) * 2 - 1) * reach[:, None] * variation.max_shift * 2 / side
    cos, sin = torch.cos(angle), torch.sin(angle)
    rotate = torch.stack([cos, -sin, sin, cos], -1).view(-1, 2, 2)
    zero = torch.zeros_like(shear)
    stretch = torch.stack([scale_x, shear, zero, scale_y], -1).view(-1, 2, 2)
    # [N, 2, 3]: from a position in the output to one in the input
    affine = torch.cat([rotate @ stretch, shift[:, :, None]], -1)
    grid = F.affine_grid(affine, [count, 1, side, side], align_corners=False)  # [N, 28, 28, 2]
    bend = F.interpolate(normal(count, 2, 5, 5), size=(side, side), mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1) * (
        reach.sqrt()[:, None, None, None] * variation.elastic_pixels * 2 / side
    )
    warped = F.grid_sample(images[:, None].float(), grid, mode="bilinear", align_corners=False)[:, 0]
    return warped.round().clamp(0, 255).to(torch.uint8)


def tuned(intensities: Tensor, slope: int) -> Tensor:
    """Steepen firing probabilities as `spikehead.model.encoding.firing_rates` does along a tuning curve of that slope.

    Any shape; exact.
    """
    return (0.5 + slope * (intensities - 0.5)).clamp(0.0, 1.0)


def firing_probabilities(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """Compute the service's encoding of images: probability of a spike for each pixel and step. [N, 1, 28, 28].

    At slope 1, at which they are what conventional networks read as intensities; see `tuned`.
    On the device of the images, uint8 [N, 28, 28]; numpy's are on the CPU.
    """
    if isinstance(images, Tensor) and images.device.type != "cpu":
        seen = contrast(images)
        return (seen.float() + (seen >> 7))[:, None] / RATE_LEVELS
    pixels = np.asarray(images)
    contrasts = native.contrast(pixels).reshape(pixels.shape) if native.available() else contrast(pixels)
    return torch.from_numpy(firing_rates(contrasts).astype(np.float32))[:, None] / RATE_LEVELS
