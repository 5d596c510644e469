"""Training and export of one contender, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from spikehead.model.card import CARD_FILE, Card, ModelError, load_card

from training.comparison.contenders import Budget, Contender
from training.data import mnist
from training.export.ann_graph import AnyAnn
from training.export.artifact import MAX_STEPS, calibration_seeds, export, export_ann, reset_interval_of
from training.fit.compute import choose_precision
from training.fit.loop import fit, load_fitted
from training.fit.teacher import load_teacher
from training.fit.train import BEST, CHECKPOINT, Trainer, TrainingSettings

Report = Callable[[str], None]


def model_folder(run: Path) -> Path:
    """Return the folder for a run's model; a model has the name of its folder."""
    return run / run.name


def finished(contender: Contender, run: Path, budget: Budget) -> bool:
    """Tell if a contender's run has all of its epochs, or, if its checkpoints are gone, if its model is there.

    Raises ModelError if the run had another budget: it can neither be resumed nor be compared.
    """
    last = run / (CHECKPOINT if contender.network else BEST)
    if not last.is_file():
        return (model_folder(run) / CARD_FILE).is_file()
    contents = torch.load(last, map_location="cpu", weights_only=True)
    found = Budget.of(contents["settings"])
    if found != budget:
        raise ModelError(f"expected a run of {budget} in {run}, found one of {found}")
    return bool(contents["epoch"] >= budget.epochs)


def train(
    contender: Contender,
    run: Path,
    budget: Budget,
    device: torch.device,
    data_root: Path | None,
    report: Report,
) -> None:
    """Train one contender in the folder `run`; a spiking one is resumed if it was stopped there.

    Raises DataError for a teacher that learned from more than MNIST.
    """
    precision = choose_precision("auto", device)
    teacher, taught_by = load_teacher(budget.teacher, device) if budget.teacher else (None, {})
    if taught_by.get("settings", {}).get("unipen"):
        raise mnist.DataError(
            f"expected a teacher that learned from MNIST alone, as all contenders do, got {budget.teacher}, "
            "which learned from UNIPEN's writers too"
        )
    if contender.network is not None:
        compiled = contender.network.kind != "glm" and budget.limit is None
        trainer = Trainer(budget.spiking(contender.network, precision), run, device, data_root, compiled)
        if (run / CHECKPOINT).is_file():
            trainer.resume()
        trainer.run(
            lambda done, total, figures: None,
            lambda epoch: report(
                f"{contender.name}: epoch {epoch.epoch}, {epoch.validation_accuracy}, {epoch.seconds:.1f} s"
            ),
        )
        return
    assert contender.ann is not None
    torch.manual_seed(budget.seed)
    fit(
        contender.ann(),
        budget.conventional(precision),
        run / BEST,
        device,
        data_root,
        lambda done, total, figures: None,
        lambda epoch, loss, accuracy: report(f"{contender.name}: epoch {epoch}, {accuracy}"),
        teacher,
    )


def write_model(contender: Contender, run: Path, data_root: Path | None, version: str | None) -> None:
    """Export a trained contender into its run's folder.

    Without a `version` it is that of the model before it, or 1.0.0. A model that is there already stays as it is.
    """
    best = run / BEST
    if not best.is_file():
        return  # its checkpoints are gone
    contents = torch.load(best, map_location="cpu", weights_only=True)
    folder, budget = model_folder(run), Budget.of(contents["settings"])
    held_out = mnist.load("validation", data_root, budget.held_out)
    if budget.limit:
        held_out = held_out[0][: budget.limit], held_out[1][: budget.limit]
    if (folder / CARD_FILE).is_file():
        card = load_card(folder)
        version = version or card.version
        same = card.version == version and card.training["epochs_done"] == contents["epoch"]
        if same and (
            contender.ann is not None
            or _stopping(card) == _exported_stopping(contents["settings"], len(held_out[0]))
        ):
            return
        if same:  # its records would replay otherwise than they were answered
            raise ModelError(
                f"expected another --version than {version}: {contender.name} would stop by another rule"
            )
    version = version or "1.0.0"
    if contender.network is not None:
        export(best, folder, held_out, held_out[0][:100], command=budget.command, version=version)
        return
    assert contender.ann is not None
    network = contender.ann()
    load_fitted(network, best)
    trained = {
        "command": budget.command,
        "settings": contents["settings"],
        "epochs_done": contents["epoch"],
        "data_sha256": contents["data_sha256"],
    }
    export_ann(
        network, folder, held_out, trained, version=version, description=f"{contender.title}; reads a digit."
    )


def _stopping(card: Card) -> tuple[int, int | None, int | None]:
    """Return the most steps of a model's runs, its reset interval, and how many seeds it was calibrated with."""
    return card.max_steps, card.reset_interval, card.accuracy.get("validation", {}).get("seeds")


def _exported_stopping(settings: dict[str, Any], images: int) -> tuple[int, int | None, int | None]:
    """Return the same, as `export` would write it for these settings and this number of validation images."""
    interval = reset_interval_of(TrainingSettings.from_dict(settings))
    return MAX_STEPS, interval, calibration_seeds(images)


def load_ann(contender: Contender, checkpoint: Path) -> AnyAnn:
    """Load a trained conventional contender."""
    assert contender.ann is not None
    network = contender.ann()
    load_fitted(network, checkpoint)
    return network
