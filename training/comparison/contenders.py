"""Contenders of the comparison, and the budget that each of them gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data import mnist
from training.export.ann_graph import AnyAnn
from training.fit.compute import Precision
from training.fit.loop import FitSettings
from training.fit.train import TrainingSettings
from training.network.ann import AnnTwin, LeNet5, MnistCnn
from training.network.spiking import NetworkConfig


@dataclass(frozen=True)
class Contender:
    """A network in the comparison. Spiking ones have a configuration, conventional ones a class."""

    name: str
    title: str
    network: NetworkConfig | None = None
    ann: type[AnyAnn] | None = None


CONTENDERS = (
    Contender("spiking-mha", "spiking, with attention", NetworkConfig()),
    Contender("no-attention", "the same without attention", NetworkConfig(attention=False)),
    Contender("glm", "GLM output neurons alone", NetworkConfig(kind="glm")),
    Contender("ann-twin", "ANN twin (ReLU, softmax attention)", ann=AnnTwin),
    Contender("lenet5", "LeNet-5", ann=LeNet5),
    Contender("mnist-cnn", "PyTorch's MNIST example CNN", ann=MnistCnn),
)


def contender_of(name: str) -> Contender:
    """Find a contender by its name. Raises ValueError for any other."""
    for contender in CONTENDERS:
        if contender.name == name:
            return contender
    names = ", ".join(contender.name for contender in CONTENDERS)
    raise ValueError(f"expected a contender among {names}, got {name!r}")


@dataclass(frozen=True)
class Budget:
    """Epochs, teacher and data, the same for all contenders."""

    epochs: int = 8
    teacher: Path | None = None
    limit: int | None = None
    batch_size: int = 128
    elastic: float = mnist.Variation.elastic_pixels
    seed: int = 1
    held_out: int | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Budget:
        """Read the budget from a run's stored settings."""
        teacher = settings.get("teacher")
        return cls(
            epochs=settings["epochs"],
            teacher=Path(teacher) if teacher else None,
            limit=settings["limit"],
            batch_size=settings["batch_size"],
            elastic=settings["variation"]["elastic_pixels"],
            seed=settings["seed"],
            held_out=settings.get("held_out"),
        )

    @property
    def final_epochs(self) -> int:
        """The last epochs: in integers for spiking networks, with less variation for all."""
        return max(1, min(self.epochs // 4, 20))

    @property
    def command(self) -> str:
        """The command that trains all contenders with this budget."""
        command = f"python -m training compare --retrain --epochs {self.epochs}"
        if self.batch_size != Budget.batch_size:
            command += f" --batch-size {self.batch_size}"
        if self.elastic != Budget.elastic:
            command += f" --elastic {self.elastic}"
        return command + (f" --teacher {self.teacher}" if self.teacher else "")

    def spiking(self, network: NetworkConfig, precision: Precision) -> TrainingSettings:
        """The budget as settings of a spiking network's training."""
        return TrainingSettings(
            epochs=self.epochs,
            integer_epochs=self.final_epochs,
            batch_size=self.batch_size,
            teacher=str(self.teacher) if self.teacher else None,
            precision=precision,
            limit=self.limit,
            seed=self.seed,
            network=network,
            variation=mnist.Variation(elastic_pixels=self.elastic),
        )

    def conventional(self, precision: Precision) -> FitSettings:
        """The budget as settings of a conventional network's training."""
        return FitSettings(
            epochs=self.epochs,
            final_epochs=self.final_epochs,
            batch_size=self.batch_size,
            teacher=str(self.teacher) if self.teacher else None,
            precision=precision,
            limit=self.limit,
            seed=self.seed,
            variation=mnist.Variation(elastic_pixels=self.elastic),
        )
