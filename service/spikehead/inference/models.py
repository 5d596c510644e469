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
    """Simulators by the name of their model; one of them is the default. Raises ModelError without it."""

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
        """Raises Problem if there is no such model."""
        try:
            return self._simulators[name]
        except KeyError:
            raise Problem(
                "unknown-model", f"model: one of {', '.join(self._simulators)}", quoted(name)
            ) from None


def model_folders(models: Path) -> list[Path]:
    """Folders that hold a model: those with a card or a graph. Raises ModelError if `models` cannot be read.

    Folders that cannot be read, such as a file system's lost+found, are passed over: see `unreadable_folders`.
    """
    return _sorted_out(models)[0]


def unreadable_folders(models: Path) -> dict[Path, OSError]:
    """Folders that may hold a model and cannot be read, and why. Raises ModelError if `models` cannot be read."""
    return _sorted_out(models)[1]


def _sorted_out(models: Path) -> tuple[list[Path], dict[Path, OSError]]:
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
    """Raises OSError if the folder cannot be read."""
    names = [path.name for path in folder.iterdir()]
    return (folder / CARD_FILE).is_file() or any(name.endswith(".onnx") for name in names)


def find_model(models: Path, name: str) -> Path:
    """The folder of a model; what is wrong with others does not matter. Raises ModelError."""
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
    """Changes with the files of a model. A file that goes away meanwhile is left out."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            about = path.stat()
        except OSError:
            continue
        found.append((path.name, about.st_size, about.st_mtime_ns, about.st_ino))
    return tuple(found)


def fingerprints(models: Path) -> dict[Path, Print]:
    """Fingerprint each model's folder. Empty if `models` cannot be read."""
    try:
        return {folder: fingerprint(folder) for folder in model_folders(models)}
    except (ModelError, OSError):
        return {}


def load_models(settings: Settings, kept: Mapping[Path, Simulator] | None = None) -> Models:
    """Every model in `settings.models`, warmed up. One that cannot be used is refused, with all others.

    `kept`: models that are loaded already, by their folder. Raises ModelError with what was expected and what was
    found.
    """
    for folder, error in unreadable_folders(settings.models).items():
        log.warning("%s among the models is passed over: it cannot be read (%s)", folder, error.strerror)
    simulators: dict[str, Simulator] = {}
    folders: dict[Path, Simulator] = {}
    for folder in model_folders(settings.models):
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
    """A model that has been loaded and has classified something. Raises ModelError."""
    engine = load_engine(folder, engine_name, simd, threads)
    try:
        simulator = Simulator(engine)
        simulator.warm_up()
    except Exception as error:  # a card that promises what the graph does not keep fails in many ways
        raise ModelError(f"expected a model in {folder} that can classify a picture, got: {error}") from error
    return simulator
