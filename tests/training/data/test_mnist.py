"""MNIST's splits, what is said where it is absent, and the variation that training adds."""

import dataclasses
import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from spikehead.model.encoding import firing_rates
from spikehead.model.retina import contrast

from tests.training.conftest import Mnist, Unipen, write_mnist
from training.data import mnist, unipen
from training.data.mnist import DataError, Split, Variation, vary

STILL = Variation(rotation_degrees=0.0, scale=0.0, shear=0.0, max_shift=0.0, elastic_pixels=0.0)


def bar() -> torch.Tensor:
    """A vertical bar, 4 pixels wide and 20 high, in the middle. uint8 [1, 28, 28]."""
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[0, 4:24, 12:16] = 255
    return image


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("split", "part"), [("train", slice(0, 300)), ("validation", slice(300, 10_300))], ids=str
)
def test_training_images_are_split_before_the_last_10_000(
    split: Split, part: slice, tiny_mnist: Mnist
) -> None:
    images, labels = mnist.load(split, tiny_mnist.folder)
    assert images.dtype == np.uint8 and labels.dtype == np.int64
    assert np.array_equal(images, tiny_mnist.images[part])
    assert np.array_equal(labels, tiny_mnist.labels[part])


def test_fewer_may_be_held_out(tiny_mnist: Mnist) -> None:
    images, labels = mnist.load("train", tiny_mnist.folder, 40)
    held_out = mnist.load("validation", tiny_mnist.folder, 40)
    assert np.array_equal(np.concatenate([images, held_out[0]]), tiny_mnist.images) and len(held_out[0]) == 40
    assert np.array_equal(np.concatenate([labels, held_out[1]]), tiny_mnist.labels)
    assert np.array_equal(mnist.load("test", tiny_mnist.folder, 40)[0], tiny_mnist.test_images)


@pytest.mark.parametrize("held_out", [0, 10_300, -1])
def test_a_split_without_images_is_refused(held_out: int, tiny_mnist: Mnist) -> None:
    with pytest.raises(ValueError, match=f"expected between 1 and 10,299 images held out, got {held_out:,}"):
        mnist.load("train", tiny_mnist.folder, held_out)


def test_test_images_are_a_set_of_their_own(tiny_mnist: Mnist) -> None:
    images, labels = mnist.load("test", tiny_mnist.folder)
    assert np.array_equal(images, tiny_mnist.test_images)
    assert np.array_equal(labels, tiny_mnist.test_labels)


def test_folder_is_the_argument_else_the_variable_else_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEHEAD_DATA", "/somewhere")
    assert mnist.data_folder(Path("here")) == Path("here")
    assert mnist.data_folder() == Path("/somewhere")
    monkeypatch.delenv("SPIKEHEAD_DATA")
    assert mnist.data_folder() == Path("data")


def test_variable_names_the_folder_to_load_from(tiny_mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEHEAD_DATA", str(tiny_mnist.folder))
    assert len(mnist.load("test")[0]) == 200


def use_mirror(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let torchvision download from this machine, whatever the files' hashes are: no network is needed."""
    dataset = mnist._torchvision_mnist()
    monkeypatch.setattr(dataset, "mirrors", [url])
    monkeypatch.setattr(dataset, "resources", [(name, None) for name, _ in dataset.resources])  # type: ignore[attr-defined]
    monkeypatch.setenv("no_proxy", "*")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def mirror(tiny_mnist: Mnist, tmp_path: Path) -> Iterator[str]:
    """A server of the made-up MNIST, with 30 training images."""
    few = dataclasses.replace(tiny_mnist, images=tiny_mnist.images[:30], labels=tiny_mnist.labels[:30])
    write_mnist(tmp_path / "mirror", few, packed=True)
    handler = functools.partial(Quiet, directory=str(tmp_path / "mirror"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_absent_data_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_mirror(monkeypatch, (tmp_path / "no mirror").as_uri() + "/")
    raw = tmp_path / "here" / "MNIST" / "raw"
    with pytest.raises(DataError) as caught:
        mnist.load("train", tmp_path / "here")
    assert str(caught.value).startswith(
        f"expected MNIST under {raw} (set SPIKEHEAD_DATA) or a network to download it: "
    )


def test_absent_data_is_downloaded_once(
    mirror: str, tiny_mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_mirror(monkeypatch, mirror)
    images, labels = mnist.load("test", tmp_path / "here")
    assert np.array_equal(images, tiny_mnist.test_images) and np.array_equal(labels, tiny_mnist.test_labels)
    use_mirror(monkeypatch, (tmp_path / "no mirror").as_uri() + "/")
    assert np.array_equal(mnist.load("test", tmp_path / "here")[0], images)


def test_a_download_that_failed_is_tried_again(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_mirror(monkeypatch, (tmp_path / "no mirror").as_uri() + "/")
    with pytest.raises(DataError):
        mnist.load("test", tmp_path / "here")
    use_mirror(monkeypatch, mirror)
    assert len(mnist.load("test", tmp_path / "here")[0]) == 200


def test_hash_covers_images_then_labels_of_one_byte() -> None:
    images = np.arange(2 * 784, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    labels = np.array([3, 7])
    expected = hashlib.sha256(images.tobytes() + bytes([3, 7])).hexdigest()
    assert mnist.sha256(images, labels) == expected
    assert mnist.sha256(images, np.array([3, 8])) != expected
    assert mnist.sha256(images[::-1].copy(), labels) != expected


@pytest.mark.parametrize(("share", "drawn"), [(0.0, 0), (0.25, 2), (0.5, 6), (0.75, 18)])
def test_unipens_digits_are_the_share_asked_for(share: float, drawn: int, made_up_unipen: Unipen) -> None:
    """Behind six of MNIST's, which stay as they are. Of its eight each comes as often as the others, or once more."""
    images = np.arange(6 * 784, dtype=np.uint32).astype(np.uint8).reshape(6, 28, 28)
    labels = np.array([9, 9, 9, 9, 9, 9])
    mixed, answers = mnist.with_unipen(images, labels, share, made_up_unipen.folder)
    assert len(mixed) == len(answers) == 6 + drawn
    assert np.array_equal(mixed[:6], images) and np.array_equal(answers[:6], labels)
    counts = np.bincount(answers[6:], minlength=8)
    assert len(counts) == 8 and counts.max() - counts.min() <= 1
    assert len({picture.tobytes() for picture in mixed[6:]}) == drawn  # another pen each time
    again = mnist.with_unipen(images, labels, share, made_up_unipen.folder)
    assert np.array_equal(mixed, again[0]) and np.array_equal(answers, again[1])


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(share: float, made_up_unipen: Unipen) -> None:
    images, labels = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int64)
    with pytest.raises(
        ValueError, match=f"expected a share of UNIPEN's digits from 0 to below 1, got {share}"
    ):
        mnist.with_unipen(images, labels, share, made_up_unipen.folder)


def test_absent_unipen_is_told_if_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unipen, "CACHE", tmp_path / "drawn")
    images, labels = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int64)
    assert not mnist.has_unipen(tmp_path)
    assert mnist.with_unipen(images, labels, 0.0, tmp_path)[0].shape == (2, 28, 28)
    where = tmp_path / "unipen" / "data"
    with pytest.raises(
        DataError, match=f"expected UNIPEN's characters under {where} .set SPIKEHEAD_DATA., found"
    ):
        mnist.with_unipen(images, labels, 0.5, tmp_path)


def test_a_recording_that_is_missing_is_an_error_of_the_data(made_up_unipen: Unipen) -> None:
    assert mnist.has_unipen(made_up_unipen.folder)
    (made_up_unipen.folder / "unipen" / "include" / "abc" / "data" / "1a-abc-w1.dat").unlink()
    with pytest.raises(DataError, match="to include a recording in"):
        mnist.unipen_pictures("train", made_up_unipen.folder)


def test_varied_images_keep_shape_and_type_and_differ_from_each_other() -> None:
    images = bar().expand(6, 28, 28)
    varied = vary(images, Variation(), generator())
    assert varied.shape == (6, 28, 28) and varied.dtype == torch.uint8
    assert len({bytes(image.numpy().tobytes()) for image in varied}) == 6
    assert torch.equal(images, bar().expand(6, 28, 28))  # what went in stays as it is


def test_variation_follows_from_the_generator() -> None:
    images = bar().expand(4, 28, 28)
    once = vary(images, Variation(), generator(3))
    assert torch.equal(once, vary(images, Variation(), generator(3)))
    assert not torch.equal(once, vary(images, Variation(), generator(4)))


def test_no_variation_changes_nothing() -> None:
    noise = torch.randint(0, 256, (5, 28, 28), generator=generator(), dtype=torch.uint8)
    assert torch.equal(vary(noise, STILL, generator()), noise)
    assert Variation().times(0.0) == STILL
    assert Variation().times(1.0) == Variation()
    assert Variation(max_shift=3.0).times(0.5).max_shift == 1.5


def test_blank_stays_blank() -> None:
    assert not vary(torch.zeros(8, 28, 28, dtype=torch.uint8), Variation(), generator()).any()


def columns(image: torch.Tensor) -> float:
    """Horizontal centre of mass."""
    mass = image.float().sum(0)
    return float((mass * torch.arange(28)).sum() / mass.sum())


def test_shift_moves_up_to_so_many_pixels_and_keeps_the_ink() -> None:
    varied = vary(
        bar().expand(200, 28, 28), dataclasses.replace(STILL, max_shift=2.0, wide_share=0.0), generator()
    )
    moved = np.array([columns(image) - 13.5 for image in varied])
    assert 1.8 < moved.max() <= 2.01 and -2.01 <= moved.min() < -1.8
    ink = varied.float().sum((1, 2)) / bar().float().sum()
    assert torch.allclose(ink, torch.ones(200), atol=0.01)


def test_wide_images_vary_as_many_times_as_much() -> None:
    """The same draws, all of them wide: twice the shift."""
    shifts = dataclasses.replace(STILL, max_shift=2.0, wide=2.0)
    narrow, wide = (
        vary(bar().expand(50, 28, 28), dataclasses.replace(shifts, wide_share=share), generator())
        for share in (0.0, 1.0)
    )
    for one, other in zip(narrow, wide, strict=True):
        assert columns(other) - 13.5 == pytest.approx(2 * (columns(one) - 13.5), abs=0.05)


def test_wide_images_bend_by_the_root_of_as_many_times() -> None:
    """The same draws, all of them four times as wide: each pixel comes from twice as far.

    A ramp of nine grey levels a pixel says from where; away from the sides, beyond which there is nothing.
    """
    ramp = (torch.arange(28) * 9).expand(20, 28, 28).to(torch.uint8)
    bends = dataclasses.replace(STILL, elastic_pixels=1.0, wide=4.0)
    narrow, wide = (
        (vary(ramp, dataclasses.replace(bends, wide_share=share), generator()) - ramp.float()) / 9
        for share in (0.0, 1.0)
    )
    narrow, wide = (moved[:, 10:18, 10:18] for moved in (narrow, wide))
    assert narrow.abs().max() > 1.5  # pixels: enough to tell twice from four times
    assert float((wide - 2 * narrow).abs().max()) <= 1.5 / 9  # rounded to grey levels, both


def test_rotation_turns_by_the_angle_asked_for() -> None:
    """A turned bar's slope, from its second moments, is the tangent of the angle. Spread: 10 degrees."""
    varied = vary(
        bar().expand(400, 28, 28),
        dataclasses.replace(STILL, rotation_degrees=10.0, wide_share=0.0),
        generator(),
    ).double()
    y, x = torch.meshgrid(torch.arange(28) - 13.5, torch.arange(28) - 13.5, indexing="ij")
    xy, xx, yy = ((varied * moment).sum((1, 2)) for moment in (x * y, x * x, y * y))
    angles = torch.rad2deg(0.5 * torch.atan2(2 * xy, yy - xx))
    assert float(angles.std()) == pytest.approx(10.0, rel=0.1)
    assert abs(float(angles.mean())) < 1.5
    ink = varied.sum((1, 2)) / bar().double().sum()
    assert float((ink - 1).abs().max()) < 0.015  # turned, not squeezed


@pytest.mark.parametrize("slope", [1, 3, 16])
def test_rates_are_tuned_as_the_encoder_tunes_them(slope: int) -> None:
    levels = np.arange(256, dtype=np.uint8)
    intensities = torch.from_numpy(firing_rates(levels).astype(np.float32)) / 256
    assert np.array_equal(mnist.tuned(intensities, slope).numpy() * 256, firing_rates(levels, slope))


def test_firing_probabilities_are_those_of_the_encoder() -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    images[1] = bar()[0].numpy()
    images[1, 4:24, 13] = 128  # a step of 1/256 more from 128 on, so that 255 always fires
    probability = mnist.firing_probabilities(images)
    assert probability.shape == (2, 1, 28, 28) and probability.dtype == torch.float32
    assert not probability[0].any()
    seen = torch.from_numpy(contrast(images)[1])
    assert set(seen.unique().tolist()) == {0, 128, 255}
    expected = {0: 0.0, 128: 129 / 256, 255: 1.0}
    for level, rate in expected.items():
        assert probability[1, 0][seen == level].unique().tolist() == [rate]
