"""Device, precision, averages and shares by hand; and two real processes that train one network."""

import dataclasses
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from tests.training.conftest import GLM, Mnist
from training.data import mnist
from training.fit.compute import (
    PRECISIONS,
    Processes,
    Refresh,
    allow_tf32,
    averaged_copy,
    choose_device,
    choose_precision,
    mixed,
    teacher_precision,
)
from training.fit.train import Trainer, TrainingSettings
from training.network.spiking import NetworkConfig

CPU = torch.device("cpu")


# Device


def test_device_is_the_one_asked_for() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device("cuda") == torch.device("cuda", 3)
    assert choose_device("cpu") == CPU
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda", 3)
    monkeypatch.delenv("LOCAL_RANK")
    assert choose_device("auto") == torch.device("cuda")


# Precision


@pytest.mark.parametrize("name", ["float32", "tf32", "bfloat16"])
def test_precision_is_the_one_asked_for(name: str) -> None:
    assert choose_precision(name, CPU) == name


@pytest.mark.parametrize(("multiplies", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_what_the_device_is_fast_in(
    multiplies: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: multiplies)
    assert choose_precision("auto", CPU) == precision
    assert choose_precision("auto", torch.device("cuda")) == "tf32"


def test_factors_are_rounded_where_that_is_allowed_alone() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for precision in (*PRECISIONS, *PRECISIONS):
            allow_tf32(precision)
            allowed = precision == "tf32"
            found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
            assert found == (allowed, allowed), precision
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_unknown_precisions_are_refused() -> None:
    message = "expected a precision among auto, float32, tf32, bfloat16, got 'float16'"
    with pytest.raises(ValueError, match=message):
        choose_precision("float16", CPU)


def test_products_are_in_the_precision_and_sums_are_not() -> None:
    """1 + 2**-10 has more digits than bfloat16 holds: there its square is 1."""
    x = torch.tensor([[1 + 2.0**-10]])
    with mixed("bfloat16", CPU):
        product, total = x @ x, x + x
    assert product.dtype == torch.bfloat16 and product.item() == 1.0
    assert total.dtype == torch.float32 and total.item() == 2 + 2.0**-9
    with mixed("float32", CPU):
        product = x @ x
    assert product.dtype == torch.float32 and product.item() == 1 + 2.0**-9 + 2.0**-20


def test_a_teacher_is_asked_in_bfloat16_where_rounding_is_allowed() -> None:
    assert [teacher_precision(precision) for precision in PRECISIONS] == ["float32", "bfloat16", "bfloat16"]


def test_a_gpu_is_asked_for_figures_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have to finish all that it was given before it answers; a CPU has finished anyway."""
    now = 10.0
    monkeypatch.setattr("training.fit.compute.time.monotonic", lambda: now)
    refresh, gpu = Refresh(seconds=0.2), torch.device("cuda")
    assert refresh.due(gpu) and not refresh.due(gpu)
    assert refresh.due(CPU) and refresh.due(CPU)
    now = 10.15
    assert not refresh.due(gpu)
    now = 10.25
    assert refresh.due(gpu) and not refresh.due(gpu)


# Averages


class Weight(nn.Module):
    """One weight, one statistic, one counter."""

    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("count", torch.tensor(0))

    def set(self, weight: float, mean: float, count: int) -> None:
        with torch.no_grad():
            self.weight.fill_(weight)
            self.mean.fill_(mean)
            self.count.fill_(count)


def test_first_updates_by_hand() -> None:
    """1, then 0 with a share of 1 - 2/11, then 1 with 1 - 3/12: 1 | 2/11 | 2/11 + 9/11 * 3/4 = 35/44."""
    network = Weight()
    averaged = averaged_copy(network, 0.998)
    found = averaged.module
    assert isinstance(found, Weight)
    seen = []
    for weight, mean, count in ((1.0, 11.0, 5), (0.0, 0.0, 6), (1.0, 0.0, 7)):
        network.set(weight, mean, count)
        averaged.update_parameters(network)
        seen.append((found.weight.item(), found.mean.item(), found.count.item()))
    assert [weight for weight, *_ in seen] == pytest.approx([1, 2 / 11, 35 / 44])
    assert [mean for _, mean, _ in seen] == pytest.approx([11, 2, 0.5])
    assert [count for *_, count in seen] == [5, 6, 7]  # a counter is no average: it is that of the network
    assert network.weight.item() == 1.0  # which does not follow its average


def test_late_updates_weigh_as_much_as_the_decay_leaves() -> None:
    """With a decay of 0.5: from n = 8 on, where (1 + n) / (10 + n) reaches it, each update has half."""
    network = Weight()
    averaged = averaged_copy(network, 0.5)
    found = averaged.module
    assert isinstance(found, Weight)
    for _ in range(9):
        averaged.update_parameters(network)
    network.set(1.0, 1.0, 1)
    seen = []
    for _ in range(4):
        averaged.update_parameters(network)
        seen.append(found.weight.item())
    assert seen == [0.5, 0.75, 0.875, 0.9375]


# Processes


def test_one_process_does_everything_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    processes = Processes(CPU)
    assert (processes.count, processes.rank, processes.first) == (1, 0, True)
    assert not torch.distributed.is_initialized()
    assert processes.share(torch.arange(3)).tolist() == [0, 1, 2]
    assert processes.mean(0.1) == 0.1
    assert processes.whole(torch.tensor([1.0, 2.0]), 2).tolist() == [1.0, 2.0]
    network = Weight()
    network.set(1.0, 2.0, 3)
    network.weight.grad = torch.tensor([4.0])
    processes.average_gradients(network)
    processes.average_statistics(network)
    assert (network.weight.grad.item(), network.mean.item(), network.count.item()) == (4.0, 2.0, 3)


@pytest.mark.parametrize(
    ("images", "shares"), [(8, [3, 3, 2]), (9, [3, 3, 3]), (7, [3, 2, 2]), (2, [1, 1, 0])]
)
def test_shares_split_a_batch_in_order(images: int, shares: list[int]) -> None:
    processes, batch, found = Processes(CPU), torch.arange(images), []
    processes.count = 3
    for processes.rank in range(3):
        found.append(processes.share(batch))
    assert [len(share) for share in found] == shares
    assert torch.equal(torch.cat(found), batch)


TINY = NetworkConfig(stem=(2, 3), channels=4, blocks=1, heads=2)
RUNS = {
    name: TrainingSettings(
        epochs=2, integer_epochs=1, time_steps=1, final_time_steps=2, batch_size=8, limit=16, network=network
    )
    for name, network in (("tiny", TINY), ("glm", GLM))
}
RUNS["focused"] = dataclasses.replace(RUNS["tiny"], focus=1.0)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_process(rank: int, count: int, port: int, folder: Path, data_root: Path) -> None:
    """What each process of `torchrun` does: averages by hand, then all runs. Leaves what it found in `folder`."""
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    torch.set_num_threads(1)
    mnist.VALIDATION_IMAGES = 10
    processes = Processes(CPU)
    network = Weight()
    network.set(1.0, 10.0 * (rank + 1), 5 + rank)
    network.weight.grad = torch.tensor([float(rank)])
    processes.average_gradients(network)
    processes.average_statistics(network)
    found: dict[str, Any] = {
        "first": processes.first,
        "averages": [network.weight.grad.item(), network.mean.item(), network.count.item()],
        "mean": processes.mean(rank / 3),
        "agreed": processes.agreed(torch.tensor([7 + rank])).tolist(),
        "whole": processes.whole(processes.share(torch.tensor([2.0, 3.0, 5.0])), 3).tolist(),
    }
    for name, settings in RUNS.items():
        trainer = Trainer(settings, folder / f"{name}-{rank}", CPU, data_root)
        trainer.run(lambda done, total, figures: None, lambda epoch: None)
        found[name] = {"latest": trainer.network.state_dict(), "exported": trainer.exported.state_dict()}
        if settings.focus:
            found[name]["focus"] = {"hardness": trainer.focus.hardness}
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(
    tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn(run_process, (2, free_port(), tmp_path, tiny_mnist.folder), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert (one["first"], other["first"]) == (True, False)
    assert one["averages"] == [0.5, 15.0, 5] and other["averages"] == [0.5, 15.0, 6]
    assert one["mean"] == other["mean"] == pytest.approx(1 / 6)
    assert one["agreed"] == other["agreed"] == [7]
    assert one["whole"] == other["whole"] == [2.0, 3.0, 5.0]
    assert {path.name for path in tmp_path.iterdir()} == {"0.pt", "1.pt", "tiny-0", "glm-0", "focused-0"}
    for run in RUNS:
        for kind, weights in one[run].items():
            for name, values in weights.items():
                assert torch.equal(values, other[run][kind][name]), (run, kind, name)
    hardness = one["focused"]["focus"]["hardness"]
    assert (
        len(hardness.unique()) == len(hardness) == 16
    )  # none of them NaN, or they would not have been equal
    # Without batch normalisation a batch may be split: one process learns the same from the whole of it.
    monkeypatch.setattr("training.data.mnist.VALIDATION_IMAGES", 10)
    alone = Trainer(RUNS["glm"], tmp_path / "alone", CPU, tiny_mnist.folder)
    start = alone.network.readout.weight.detach().clone()
    alone.run(lambda done, total, figures: None, lambda epoch: None)
    for name, values in alone.network.state_dict().items():
        assert torch.allclose(values, one["glm"]["latest"][name], atol=1e-5), name
    assert not torch.allclose(start, one["glm"]["latest"]["readout.weight"], atol=1e-3)
