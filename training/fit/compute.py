"""Means of a training: device, precision, averaged weights, several processes.

Nothing here knows what is trained.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Precision = Literal["float32", "tf32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")


def choose_device(name: str) -> torch.device:
    """`auto` is a GPU where there is one, in a `torchrun` the one of this process."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> Precision:
    """`auto` is what the device is fast in: tf32 on a GPU, bfloat16 on a CPU that multiplies in it."""
    if name == "auto":
        if device.type == "cuda":
            return "tf32"
        return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
    for precision in PRECISIONS:
        if name == precision:
            return precision
    raise ValueError(f"expected a precision among auto, {', '.join(PRECISIONS)}, got {name!r}")


def allow_tf32(precision: Precision) -> None:
    """With "tf32", let a GPU round factors to 11 bits, in the whole process: products are several times as fast then.

    Integers up to 2**11 stay exact, and none of the integer network's factors is larger: 30,000 validations on an H200
    had the accuracy, after each of four steps, that the same spike trains have on a CPU.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def teacher_precision(precision: Precision) -> Precision:
    """Precision in which a teacher is asked: half of the work on a GPU is its, and what it says need not be exact."""
    return "bfloat16" if precision == "tf32" else precision


def mixed(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Products of matrices in bfloat16, sums and weights in float32; or nothing of the kind."""
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def averaged_copy(network: nn.Module, decay: float) -> AveragedModel:
    """A copy whose weights follow those of `network` as a moving average, batch statistics too.

    It errs less than the weights of any one step (Polyak and Juditsky, "Acceleration of Stochastic
    Approximation by Averaging", 1992). After n updates the last weighs 1 - min(decay, (1 + n) / (10 + n)):
    without the second term, the weights that training began with would linger.
    """

    def average(averages: list[Tensor], weights: list[Tensor], _: Tensor) -> None:
        n = int(averaged.n_averaged)  # which is on the CPU; the argument would have to come back from the GPU
        share = 1.0 - min(decay, (1 + n) / (10 + n))
        if averages[0].is_floating_point():  # they come by type
            torch._foreach_lerp_(averages, weights, share)
        else:
            torch._foreach_copy_(averages, weights)

    averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)  # type: ignore[arg-type]
    return averaged


class Refresh:
    """Says when figures are worth reading again: a GPU has to finish all that it was given before it tells them."""

    def __init__(self, seconds: float = 0.2) -> None:
        self.seconds = seconds
        self.last = -math.inf

    def due(self, device: torch.device) -> bool:
        """On a CPU always; on a GPU a few times a second."""
        now = time.monotonic()
        if device.type == "cuda" and now - self.last < self.seconds:
            return False
        self.last = now
        return True


def process_count() -> int:
    """How many processes `torchrun` started, this one among them; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Processes:
    """The processes that train one network together: one, or as many as `torchrun` started.

    Each takes its share of every batch; gradients are averaged, so that all keep the same weights.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.count = process_count()
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1 and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")

    @property
    def first(self) -> bool:
        """Only the first process writes files."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch [N, ...]. Parts differ by at most one."""
        return batch.tensor_split(self.count)[self.rank]

    def agreed(self, values: Tensor) -> Tensor:
        """Those of the first process: what is computed on a GPU may differ in a last bit, and so between processes."""
        if self.count > 1:
            torch.distributed.broadcast(values, 0)
        return values

    def whole(self, part: Tensor, size: int) -> Tensor:
        """Gather what all processes found of a batch of that size, [size], of which `part` is this one's share."""
        if self.count == 1:
            return part
        found = torch.zeros(size, dtype=part.dtype, device=part.device)
        found[self.share(torch.arange(size, device=part.device))] = part
        torch.distributed.all_reduce(found)
        return found

    def average_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.count > 1:
            self._average([p.grad for p in network.parameters() if p.grad is not None])

    def average_statistics(self, network: nn.Module) -> None:
        """Replace the statistics of batch normalisation by their means over the processes."""
        if self.count > 1:
            self._average([b for b in network.buffers() if b.is_floating_point()])

    def mean(self, value: float) -> float:
        """Mean of a figure over the processes."""
        if self.count == 1:
            return value
        holder = torch.tensor([value], dtype=torch.float64)
        if torch.distributed.get_backend() == "nccl":
            holder = holder.to(self.device)
        torch.distributed.all_reduce(holder)
        return float(holder) / self.count

    def _average(self, tensors: list[Tensor]) -> None:
        if not tensors:  # the GLM network has no batch normalisation
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        start = 0
        for t in tensors:
            t.copy_(flat[start : start + t.numel()].view_as(t))
            start += t.numel()
