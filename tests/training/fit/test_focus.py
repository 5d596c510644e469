"""What is hard is shown more often, and how hard it is is learned from losses alone."""

import pytest
import torch

from training.data.batches import generator_of
from training.fit.focus import MOST, Focus

CPU = torch.device("cpu")


def shares(focus: Focus, epochs: int = 200) -> list[float]:
    """How often each image is shown an epoch, on average."""
    generator = generator_of(CPU, 1, 0)
    counts = sum(torch.bincount(focus.order(generator), minlength=len(focus.hardness)) for _ in range(epochs))
    assert isinstance(counts, torch.Tensor)
    return [float(count) / epochs for count in counts]


def test_an_image_is_as_hard_as_its_running_loss() -> None:
    focus = Focus(4, 0.5, CPU)
    focus.note(torch.tensor([2, 0]), torch.tensor([8.0, 1.0]))
    assert focus.hardness[[0, 2]].tolist() == [1.0, 8.0]
    assert focus.hardness[[1, 3]].isnan().all()
    focus.note(torch.tensor([2]), torch.tensor([2.0]))
    assert focus.hardness[2] == 5.0


def test_an_image_that_a_batch_shows_twice_counts_twice() -> None:
    focus = Focus(2, 0.5, CPU)
    focus.note(torch.tensor([0, 1]), torch.tensor([3.0, 1.0]))
    focus.note(torch.tensor([0, 0]), torch.tensor([6.0, 9.0]))
    assert focus.hardness.tolist() == [6.0, 1.0]


@pytest.mark.parametrize("known", [0, 99])
def test_every_image_is_shown_once_until_all_are_known(known: int) -> None:
    focus = Focus(100, 1.0, CPU)
    focus.note(torch.arange(known), torch.arange(known) + 1.0)
    order = focus.order(generator_of(CPU, 1, 0)).tolist()
    assert sorted(order) == list(range(100)) != order
    focus.note(torch.arange(known, 100), torch.arange(known, 100) + 1.0)
    assert len(set(focus.order(generator_of(CPU, 1, 0)).tolist())) < 100


def test_without_focus_every_image_is_shown_once_whatever_it_costs() -> None:
    focus = Focus(100, 0.0, CPU)
    focus.note(torch.arange(100), torch.arange(100.0))
    assert (
        focus.order(generator_of(CPU, 1, 0)).tolist()
        == torch.randperm(100, generator=generator_of(CPU, 1, 0)).tolist()
    )


@pytest.mark.parametrize(("share", "expected"), [(1.0, [0.0, 1.0, 3.0, 0.0]), (0.5, [0.5, 1.0, 2.0, 0.5])])
def test_the_share_is_drawn_in_proportion_to_hardness(share: float, expected: list[float]) -> None:
    focus = Focus(4, share, CPU)
    focus.note(torch.arange(4), torch.tensor([0.0, 0.1, 0.3, 0.0]))
    assert shares(focus) == pytest.approx(expected, abs=0.15)


def test_images_that_all_cost_nothing_are_alike() -> None:
    focus = Focus(4, 1.0, CPU)
    focus.note(torch.arange(4), torch.zeros(4))
    assert shares(focus) == pytest.approx([1.0] * 4, abs=0.15)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_hardest_are_not_shown_without_end(share: float) -> None:
    """One image of 1,000 has all of the loss: alone it would be that share of the epoch."""
    focus = Focus(1000, share, CPU)
    focus.note(torch.arange(1000), torch.eye(1000)[7])
    found = shares(focus)
    cut_off = 1 - MOST / 1000  # goes to all alike
    assert found[7] == pytest.approx(1 - share + share * (MOST + cut_off), rel=0.05)
    assert sum(found[:7] + found[8:]) / 999 == pytest.approx(1 - share + share * cut_off, rel=0.05)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 1 .* got {share}"):
        Focus(4, share, CPU)
