"""The models that the service answers with, loaded and warmed up."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from spikehead.engine.loading import load_engine
from spikehead.errors import Problem
from spikehead.inference.options import quoted
from spikehead.inference.simulator import Simulator
from spikehead.model.card import CARD_FILE, ModelError, load_card
from spikehead.pictures.normalise import warm_up
from spikehead.settings import EngineName, Settings, Simd

log = logging.getLogger("spikehead")


class Models:
    """Simulators by the names of their models; one is the default. Raises ModelError if it is missing."""

    def __init__(
        self, simulators: dict[str, Simulator], default: str, folders: Mapping[Path, Simulator] | None = None
    ) -> None:
        if default not in simulators:
            found = ", ".join(sorted(simulators)) or "none"
            raise ModelError(f"expected a model named {default} (SPIKEHEAD_DEFAULT_MODEL), found {found}")
        self._simulators = dict(sorted(simulators.items()))
        self.default = default
        self.folders = dict(folders or {})  # where each was loaded from

    def __iter__(self) -> Iterator[Simulator]:
        return iter(self._simulators.values())

    def get(self, name: str) -> Simulator:
        """Return the simulator of a model. Raises Problem if there is no such model."""
        try:
            return self._simulators[name]
        except KeyError:
            raise Problem(
                "unknown-model", f"model: one of {', '.join(self._simulators)}", quoted(name)
            ) from None


def model_folders(models: Path) -> list[Path]:
    """List the folders that hold a model, by a card or a graph. Raises ModelError if `models` cannot be read."""
    return readable_folders(models)[0]


def readable_folders(models: Path) -> tuple[list[Path], dict[Path, OSError]]:
    """List the folders that hold a model, and those that cannot be read, such as lost+found, with the reason."""
    try:
        if not models.is_dir():
            raise ModelError(f"expected a folder of models at {models} (SPIKEHEAD_MODELS), found none")
        paths = sorted(path for path in models.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ModelError(
            f"expected a folder of models that can be read at {models} (SPIKEHEAD_MODELS), got: {error.strerror}"
        ) from error
    found, unreadable = [], {}
    for path in paths:
        try:
            if path.is_dir() and _holds_a_model(path):
                found.append(path)
        except OSError as error:
            unreadable[path] = error
    return found, unreadable


def _holds_a_model(folder: Path) -> bool:
    """Tell if a folder has a card or a graph. Raises OSError if it cannot be read."""
    names = [path.name for path in folder.iterdir()]
    return (folder / CARD_FILE).is_file() or any(name.endswith(".onnx") for name in names)


def find_model(models: Path, name: str) -> Path:
    """Find the folder of a model, even if others are broken. Raises ModelError."""
    found: dict[str, Path] = {}
    broken: dict[str, ModelError] = {}
    for folder in model_folders(models):
        try:
            card = load_card(folder)
        except ModelError as error:
            broken[folder.name] = error
            continue
        if card.name == name in found:
            raise _two_models(name, models, folder)
        found[card.name] = folder
    if name not in found:
        names = ", ".join(sorted(found)) or "none"
        raise broken.get(name) or ModelError(f"expected a model named {name} in {models}, found {names}")
    return found[name]


def _two_models(name: str, models: Path, folder: Path) -> ModelError:
    return ModelError(f"expected one model named {name} in {models}, found another in {folder}")


Print = tuple[tuple[str, int, int, int], ...]
"""A folder's fingerprint: name, size, time and inode of each file."""


def fingerprint(folder: Path) -> Print:
    """Return a value that changes with the files of a model. Files deleted meanwhile are left out."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            about = path.stat()
        except OSError:
            continue
        found.append((path.name, about.st_size, about.st_mtime_ns, about.st_ino))
    return tuple(found)


def fingerprints(models: Path) -> dict[Path, Print]:
    """Return each model folder's fingerprint; none if `models` cannot be read."""
    try:
        return {folder: fingerprint(folder) for folder in model_folders(models)}
    except (ModelError, OSError):
        return {}


def load_models(settings: Settings, kept: Mapping[Path, Simulator] | None = None) -> Models:
    """Load and warm up every model in `settings.models`. Raises ModelError if any of them cannot be used.

    `kept`: models that are loaded already, by their folder.
    """
    readable, unreadable = readable_folders(settings.models)
    for folder, error in unreadable.items():
        log.warning("%s is skipped: the folder cannot be read (%s)", folder, error.strerror)
    simulators: dict[str, Simulator] = {}
    folders: dict[Path, Simulator] = {}
    for folder in readable:
        simulator = folders[folder] = (kept or {}).get(folder) or usable(folder, *settings.simulation)
        name = simulator.card.name
        if name in simulators:
            raise _two_models(name, settings.models, folder)
        simulators[name] = simulator
    warm_up()
    return Models(simulators, settings.default_model, folders)


def usable(
    folder: Path, engine_name: EngineName = "auto", simd: Simd = "auto", threads: int = 1
) -> Simulator:
    """Load a model and classify a picture with it. Raises ModelError."""
    engine = load_engine(folder, engine_name, simd, threads)
    try:
        simulator = Simulator(engine)
        simulator.warm_up()
    # a card that does not match its graph fails in many ways
    except Exception as error:
        raise ModelError(f"expected a model in {folder} that can classify a picture, got: {error}") from error
    return simulator
