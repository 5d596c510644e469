"""Small networks, and a made-up MNIST: what the tests of `training` need instead of an hour and the real data."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import Card
from spikehead.pictures.normalise import prepare

from tests.service.drawings import drawing
from training.data import unipen
from training.export.artifact import export
from training.fit.train import TrainingSettings
from training.network.spiking import GLMNetwork, NetworkConfig, SpikingNetwork, SpikingTransformer

SMALL = NetworkConfig(stem=(4, 4), channels=8, blocks=1, heads=2)
GLM = NetworkConfig(kind="glm")

TRAINING_IMAGES = 300  # beside the 10,000 that are held out
TEST_IMAGES = 200
EXPORT_STEPS = 4


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose time to threads: seconds for each batch where other work keeps the cores busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_network(config: NetworkConfig = SMALL, seed: int = 0) -> SpikingTransformer:
    """Random weights, and normalisation that has seen random spikes, so that every layer is alive."""
    torch.manual_seed(seed)
    network = SpikingTransformer(config)
    with torch.no_grad():
        for _ in range(20):
            network((torch.rand(2, 16, 1, 28, 28) < 0.3).float(), torch.rand(2, 16, 10))
        if config.position:
            network.stem.position.copy_(torch.randn_like(network.stem.position) * 0.5)
    network.integer = True
    return network.eval()


def make_glm(config: NetworkConfig = GLM, seed: int = 0) -> GLMNetwork:
    """Random weights, at which output spikes are neither rare nor the rule."""
    torch.manual_seed(seed)
    network = GLMNetwork(config)
    with torch.no_grad():
        network.readout.gamma.copy_(torch.randn(10))
    network.integer = True
    return network.eval()


@pytest.fixture
def small_network() -> SpikingTransformer:
    return make_network()


def write_checkpoint(path: Path, network: SpikingNetwork, **settings: Any) -> Path:
    """A checkpoint as `Trainer.save` writes it, of a network that was not trained."""
    contents = {
        "settings": TrainingSettings(
            epochs=3, integer_epochs=1, network=network.config, **settings
        ).as_dict(),
        "network": network.state_dict(),
        "epoch": 3,
        "data_sha256": "0" * 64,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(contents, path)
    return path


@dataclass(frozen=True)
class Mnist:
    """The made-up MNIST: its folder, as `--data` takes it, and what was written there."""

    folder: Path
    images: NDArray[np.uint8]  # [10,300, 28, 28]
    labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]  # [200, 28, 28]
    test_labels: NDArray[np.int64]


def write_idx(path: Path, values: NDArray[np.uint8], packed: bool = False) -> None:
    """A file of MNIST's format: 0, 0, 8 (unsigned bytes), number of axes, sizes, values."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    data = header + values.tobytes()
    path.write_bytes(gzip.compress(data, 1) if packed else data)


def write_mnist(folder: Path, mnist: Mnist, packed: bool = False) -> None:
    """The four files of MNIST, `packed` as its servers have them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, images, labels in (
        ("train", mnist.images, mnist.labels),
        ("t10k", mnist.test_images, mnist.test_labels),
    ):
        end = ".gz" if packed else ""
        write_idx(folder / f"{name}-images-idx3-ubyte{end}", images, packed)
        write_idx(folder / f"{name}-labels-idx1-ubyte{end}", labels.astype(np.uint8), packed)


@pytest.fixture(scope="session")
def drawn() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Forty drawn digits, prepared as the service does: uint8 [40, 28, 28], and what they are."""
    drawings = [drawing(seed) for seed in range(40)]
    images = np.stack([prepare(one.data, max_pixels=16_000_000) for one in drawings])
    return images, np.array([one.digit for one in drawings], np.int64)


@pytest.fixture(scope="session")
def tiny_mnist(
    drawn: tuple[NDArray[np.uint8], NDArray[np.int64]], tmp_path_factory: pytest.TempPathFactory
) -> Mnist:
    """Drawn digits in no order that repeats, as many as the split into training and validation needs."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(11)
    chosen = random.integers(len(drawn[0]), size=TRAINING_IMAGES + 10_000)
    test = random.integers(len(drawn[0]), size=TEST_IMAGES)
    mnist = Mnist(folder, drawn[0][chosen], drawn[1][chosen], drawn[0][test], drawn[1][test])
    write_mnist(folder / "MNIST" / "raw", mnist)
    return mnist


@pytest.fixture
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> int:
    """Hold out 50 images, not 10,000: what is measured on the validation set then takes no time."""
    monkeypatch.setattr("training.data.mnist.VALIDATION_IMAGES", 50)
    return 50


@dataclass(frozen=True)
class Exported:
    """A small network, and what `export` made of it."""

    network: SpikingTransformer
    folder: Path
    engine: OnnxruntimeEngine

    @property
    def card(self) -> Card:
        return self.engine.card


@pytest.fixture(scope="session")
def exported(
    drawn: tuple[NDArray[np.uint8], NDArray[np.int64]], tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """The small network, exported for 4 steps; calibrated on the drawn digits."""
    folder, network = tmp_path_factory.mktemp("exported"), make_network(seed=4)
    checkpoint = write_checkpoint(folder / "best.pt", network)
    export(checkpoint, folder / "small", drawn, drawn[0][:10], max_steps=EXPORT_STEPS, seeds=1)
    return Exported(network, folder / "small", OnnxruntimeEngine(folder / "small"))


def known(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """What a spiking network has, and a conventional one has not."""
    assert values is not None
    return values


@dataclass(frozen=True)
class Unipen:
    """The made-up UNIPEN: its data folder, as `--data` takes it, and the digits of each split in their order."""

    folder: Path
    train: list[int]
    validation: list[int]

    def both(self, mnist: Mnist) -> Path:
        """Put MNIST beside it: a data folder that has the two."""
        (self.folder / "MNIST").symlink_to(mnist.folder / "MNIST")
        return self.folder


def write_unipen(folder: Path, name: str, labels: str) -> None:
    """An index file such as `1a/abc/w1.dat` below `folder`, and its recording: a Z of 12 x 20 for each label."""
    recording = Path("abc/data") / name.replace("/", "-")
    index, include = folder / "unipen" / "data" / name, folder / "unipen" / "include" / recording
    for path in (index, include):
        path.parent.mkdir(parents=True, exist_ok=True)
    segments = [f'.SEGMENT CHARACTER {2 * number} OK "{label}"' for number, label in enumerate(labels)]
    index.write_text("\n".join([".VERSION 1.0", f".INCLUDE {recording.as_posix()}", *segments]) + "\n")
    stroke = ".PEN_DOWN\n0 20\n12 20\n0 0\n12 0\n.PEN_UP\n12 0\n"
    include.write_text(stroke * len(labels))


@pytest.fixture
def made_up_unipen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unipen:
    """Digits of two writers to train on and of one for validation, who wrote letters too; a cache of their own."""
    monkeypatch.setattr(unipen, "CACHE", tmp_path / "drawn")
    folder = tmp_path / "data"
    write_unipen(folder, "1a/abc/w0.dat", "01234")
    write_unipen(folder, "1a/abc/w1.dat", "567")
    write_unipen(folder, "1a/abc/w4.dat", "89")
    write_unipen(folder, "1b/abc/w4.dat", "BX")
    return Unipen(folder, [0, 1, 2, 3, 4, 5, 6, 7], [8, 9])
