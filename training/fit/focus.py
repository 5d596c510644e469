"""Focus: images that the network finds hard are shown more often than easy ones.

After some epochs nearly all digits are answered well, however they vary, and teach little. Each image has a running
loss; a share of what an epoch shows is drawn in proportion to it.

Source: Loshchilov and Hutter, "Online Batch Selection for Faster Training of Neural Networks", 2016. The bound on how
often is ours: a few images carry a wrong label, and are hardest of all.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 20.0
"""Times as often as the mean image, or one more: more would learn wrong labels by heart."""


class Focus:
    """How hard each training image was found to be, and the order in which an epoch shows them."""

    def __init__(self, images: int, share: float, device: torch.device) -> None:
        """`share` of what is shown is drawn by hardness; 0 shows every image once an epoch."""
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"expected a share between 0 and 1 to focus on hard images, got {share}")
        self.share = share
        self.hardness = torch.full((images,), torch.nan, device=device)  # NaN: never noted

    def order(self, generator: torch.Generator) -> Tensor:
        """Indices of the images that an epoch shows, as many as there are images, [M].

        Each once until all of them are known. On a GPU hardness, and so the order, repeats only but for rounding.
        """
        count, device = len(self.hardness), self.hardness.device
        if self.share == 0.0 or bool(self.hardness.isnan().any()):
            return torch.randperm(count, generator=generator, device=device)
        relative = (self.hardness / self.hardness.mean()).nan_to_num(1.0).clamp(min=0.0, max=MOST)
        relative += 1.0 - relative.mean()  # what the bound cuts off goes to all alike
        weights = torch.lerp(torch.ones_like(relative), relative, self.share)
        return torch.multinomial(weights, count, replacement=True, generator=generator)

    def note(self, images: Tensor, losses: Tensor) -> None:
        """Losses [N] of the images of these indices [N]: each counts as much as all that was known before."""
        before = self.hardness[images]
        self.hardness[images] = torch.where(before.isnan(), losses, before)
        self.hardness.scatter_reduce_(0, images, losses, "mean")
