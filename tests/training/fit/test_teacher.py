"""The teacher: a convolutional network and its checkpoint. How it is fitted: `test_fit`."""

import dataclasses
from pathlib import Path

import pytest
import torch
from spikehead.model.card import load_card
from torch import Tensor

from tests.training.conftest import Mnist
from training.data import mnist
from training.data.mnist import VALIDATION_IMAGES, held_out_by, held_out_images
from training.data.unipen import CREDIT
from training.fit.loop import FitSettings, accuracy
from training.fit.teacher import Member, Teacher, load_teacher, train_teacher

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]
QUICK = FitSettings(epochs=2, batch_size=16, limit=48)


def run(
    settings: FitSettings, folder: Path, mnist: Mnist, width: int = 1, members: int = 1
) -> list[tuple[int, float, float]]:
    """Train a teacher; what each epoch reported."""
    reports: list[tuple[int, float, float]] = []
    train_teacher(
        settings,
        folder,
        CPU,
        mnist.folder,
        lambda *figures: None,
        lambda *r: reports.append(r),
        width,
        members,
    )
    return reports


def pictures() -> Tensor:
    return torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("width", [1, 2])
def test_ten_logits_an_image_from_feature_maps_that_halve_twice(width: int) -> None:
    member = Member(width).eval()
    assert member.features(pictures()).shape == (3, 128 * width, 7, 7)
    assert member(pictures()).shape == (3, 10)
    assert torch.allclose(member(pictures())[1:2], member(pictures()[1:2]), atol=1e-5)  # images do not meet


def test_a_member_explains_its_answers() -> None:
    """The middle of its maps is as fine as the spiking network's stem, the last as its tokens."""
    member = Member().eval()
    found = member.explain(pictures())
    assert torch.equal(found.logits, member(pictures()))
    assert found.middle.shape == (3, 64, 14, 14)
    assert torch.equal(found.last, member.features(pictures()))
    assert min(found.middle.min(), found.last.min()) == 0.0  # both after a ReLU


def test_members_answer_together_and_learn_each_for_itself() -> None:
    teacher = Teacher(members=3).eval()
    each = [member(pictures()) for member in teacher.members]
    assert not torch.allclose(each[0], each[1])
    assert torch.allclose(teacher(pictures()), (each[0] + each[1] + each[2]) / 3, atol=1e-5)
    found, first = teacher.explain(pictures()), teacher.members[0]
    assert isinstance(first, Member)
    assert torch.equal(found.logits, teacher(pictures()))
    assert torch.equal(found.middle, first.explain(pictures()).middle)  # what the first of them sees
    assert torch.equal(found.last, first.explain(pictures()).last)
    for one in teacher.modules():
        if isinstance(one, torch.nn.Dropout):
            one.p = 0.0
    taught = teacher.train()(pictures())
    assert torch.allclose(taught, torch.cat([member(pictures()) for member in teacher.members]))


def test_a_run_leaves_a_teacher_that_can_be_loaded(
    tiny_mnist: Mnist, tmp_path: Path, few_held_out: int
) -> None:
    reports = run(QUICK, tmp_path / "teacher", tiny_mnist)
    assert [report[0] for report in reports] == [1, 2]
    assert {path.name for path in (tmp_path / "teacher").iterdir()} == {"teacher.pt"}
    teacher, contents = load_teacher(tmp_path / "teacher" / "teacher.pt", CPU)
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert contents == {
        "settings": dataclasses.asdict(QUICK),
        "epoch": 2,
        "validation_accuracy": reports[-1][2],
        "unipen_accuracy": None,
        "data_sha256": mnist.sha256(tiny_mnist.images[:48], tiny_mnist.labels[:48]),
    }
    held_out = tiny_mnist.images[-few_held_out:][:48], tiny_mnist.labels[-few_held_out:][:48]
    assert accuracy(teacher, *held_out) == reports[-1][2]


def test_a_teacher_follows_from_its_seed(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    def trained(seed: int, folder: str) -> Tensor:
        settings = dataclasses.replace(QUICK, epochs=1, limit=16, seed=seed)
        run(settings, tmp_path / folder, tiny_mnist)
        member = load_teacher(tmp_path / folder / "teacher.pt", CPU)[0].members[0]
        assert isinstance(member, Member)
        return member.classes.weight

    once = trained(1, "once")
    assert torch.equal(once, trained(1, "again"))
    assert not torch.equal(once, trained(2, "other"))


def test_a_teacher_begins_with_an_older_one(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    """At a learning rate of 0 it stays what it was, but for the statistics of normalisation."""
    run(dataclasses.replace(QUICK, limit=16), tmp_path / "old", tiny_mnist)
    old = tmp_path / "old" / "teacher.pt"
    settings = dataclasses.replace(QUICK, epochs=1, limit=16, seed=9, learning_rate=0.0, start=str(old))
    run(settings, tmp_path / "new", tiny_mnist)
    before, after = (load_teacher(path, CPU)[0] for path in (old, tmp_path / "new" / "teacher.pt"))
    for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.allclose(one, other), name


def test_a_checkpoint_tells_width_and_members(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    def shape(folder: str) -> tuple[int, int]:
        teacher = load_teacher(tmp_path / folder / "teacher.pt", CPU)[0]
        return teacher.width, len(teacher.members)

    settings = dataclasses.replace(QUICK, epochs=1, limit=16)
    run(settings, tmp_path / "old", tiny_mnist, width=2, members=3)
    assert shape("old") == (2, 3)
    run(
        dataclasses.replace(settings, start=str(tmp_path / "old" / "teacher.pt")),
        tmp_path / "new",
        tiny_mnist,
    )
    assert shape("new") == (2, 3)


def test_checkpoints_from_when_there_was_one_member_are_read(tmp_path: Path) -> None:
    member = Member().eval()
    torch.save({"network": member.state_dict(), "epoch": 7}, tmp_path / "teacher.pt")
    teacher, contents = load_teacher(tmp_path / "teacher.pt", CPU)
    assert torch.allclose(teacher(pictures()), member(pictures()), atol=1e-5)
    assert contents == {"epoch": 7} and len(teacher.members) == 1


def test_a_teacher_learns(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    """Forty drawings, seen some twelve times: the loss falls far below log 10, and the average reads most of them."""
    settings = dataclasses.replace(QUICK, epochs=5, limit=96, averaging=0.9)
    reports = run(settings, tmp_path, tiny_mnist)
    assert reports[-1][1] < 1.5 < reports[0][1]
    assert reports[-1][2] > 0.5


def test_a_run_of_ten_batches(tiny_mnist: Mnist, tmp_path: Path, few_held_out: int) -> None:
    reports = run(dataclasses.replace(QUICK, epochs=10, batch_size=4, limit=4), tmp_path, tiny_mnist)
    assert len(reports) == 10


def test_loading_a_teacher_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        load_teacher(tmp_path / "absent.pt", CPU)


def test_what_learned_from_unipen_is_kept_to_go_on_with() -> None:
    """A teacher and a network; the network's card credits the data, and none has seen what is held out."""
    kept = ROOT / "training" / "checkpoints"
    settings = load_teacher(kept / "teacher-unipen.pt", CPU)[1]["settings"]
    trained = load_card(kept / "spiking-mha-unipen").training
    assert settings["unipen"] == trained["settings"]["unipen"] == 0.3
    assert held_out_images(held_out_by(trained)) == 3000 <= VALIDATION_IMAGES
    assert trained["data"] == f"MNIST; {CREDIT}" and trained["started_from"]["version"] == "1.6.0"


@pytest.mark.parametrize("kept", ["teacher.pt", "teacher2.pt"])
def test_kept_teachers_learned_from_nothing_that_the_shipped_network_held_out(kept: str) -> None:
    """What the network was told about its validation images and test images was not copied: nobody had seen them."""
    teacher, contents = load_teacher(ROOT / "training" / "checkpoints" / kept, CPU)
    assert not teacher.training
    trained = load_card(ROOT / "models" / "spiking-mha").training
    assert held_out_images(held_out_by(trained)) <= VALIDATION_IMAGES
    while "started_from" in trained:  # to the one that held out as many as teachers do
        trained = trained["started_from"]["training"]
    assert contents["data_sha256"] == trained["data_sha256"]
    assert contents["validation_accuracy"] > 0.99
