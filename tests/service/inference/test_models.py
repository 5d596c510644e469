"""Which models are loaded, and what keeps the service from starting."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from spikehead.errors import Problem
from spikehead.inference.models import (
    fingerprint,
    fingerprints,
    load_models,
    model_folders,
    readable_folders,
)
from spikehead.inference.simulator import Simulator
from spikehead.model.card import ModelError
from spikehead.settings import Settings

from tests.service.conftest import write_model

NOBODY = 65534


def test_all_models_are_loaded(settings: Settings) -> None:
    models = load_models(settings)
    assert [simulator.card.name for simulator in models] == ["other", "tiny"]
    assert models.default == "tiny"
    assert models.get("other").card.name == "other"


def test_folders_without_a_model_are_passed_over(models_folder: Path) -> None:
    assert [folder.name for folder in model_folders(models_folder)] == ["other", "tiny"]


def test_unknown_model(settings: Settings) -> None:
    with pytest.raises(Problem) as caught:
        load_models(settings).get("resnet")
    assert caught.value.document("x")["detail"] == "expected model: one of other, tiny, got 'resnet'"


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"expected a folder of models at .*absent \(SPIKEHEAD_MODELS\), found none"
    ):
        load_models(Settings(models=tmp_path / "absent"))


def test_no_default_model(models_folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"expected a model named absent \(SPIKEHEAD_DEFAULT_MODEL\), found other, tiny"
    ):
        load_models(Settings(models=models_folder, default_model="absent"))


def test_two_models_of_one_name(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "a")
    copy = tmp_path / "b"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match=r"expected one model named a in .*, found another in .*b"):
        load_models(Settings(models=tmp_path, default_model="a"))


def test_a_graph_without_card_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path)
    (write_model(tmp_path, "second") / "card.json").unlink()
    with pytest.raises(ModelError, match=r"expected a model card at .*second/card\.json, got: No such file"):
        load_models(Settings(models=tmp_path, default_model="tiny"))


def test_one_bad_model_keeps_the_service_from_starting(tmp_path: Path) -> None:
    write_model(tmp_path)
    card = write_model(tmp_path, "second") / "card.json"
    card.write_text(
        json.dumps({**json.loads(card.read_text()), "graph": {"file": "model.onnx", "sha256": "0" * 64}})
    )
    with pytest.raises(ModelError, match=rf"with sha256 {'0' * 64} \(from its card\), found"):
        load_models(Settings(models=tmp_path, default_model="tiny"))


def edited(card: dict[str, Any], *path: str | int, value: Any) -> dict[str, Any]:
    """The card with one value replaced."""
    copy: dict[str, Any] = json.loads(json.dumps(card))
    place: Any = copy
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return copy


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("states", 0, "shape"), [1, 28, 27], r"inputs.*state\.input"),
        (("layers", 1, "shape"), [11], r"outputs.*spikes\.hidden"),
        (("layers", 1, "shape"), [-1], "greater than or equal to 1"),
        (("layers", 1, "name"), "other", r"outputs.*spikes\.hidden.*spikes\.other"),
        (("layers", 1, "name"), "input", "a name for each layer"),
        (("layers", 0, "fan_out", "rows"), [1] * 27, "fan_out.rows"),
        (("calibration", "scale"), [float("nan")] * 4, "finite number"),
        (("calibration", "scale"), [0.0] * 4, "greater than 0"),
        (("potential_scale",), 1e308, "less than or equal to 1000"),
    ],
)
def test_a_card_that_does_not_fit_its_graph_is_refused(
    tmp_path: Path, path: tuple[str | int, ...], value: Any, message: str
) -> None:
    card = write_model(tmp_path) / "card.json"
    card.write_text(json.dumps(edited(json.loads(card.read_text()), *path, value=value)))
    with pytest.raises(ModelError, match=message):
        load_models(Settings(models=tmp_path, default_model="tiny"))


def test_a_model_that_cannot_classify_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)

    def broken(self: Simulator) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(Simulator, "warm_up", broken)
    with pytest.raises(ModelError, match=r"expected a model in .*tiny that can classify .*, got: by nothing"):
        load_models(Settings(models=tmp_path, default_model="tiny"))


@contextmanager
def models_of_another() -> Iterator[Path]:
    """A folder with a model and one that this process cannot read, as lost+found on a disk of its own."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        models = Path(folder) / "models"
        write_model(models)
        lost = models / "lost+found"
        lost.mkdir(mode=0o700)
        (models / "dangling").symlink_to(models / "nowhere")
        (models / "notes").touch(mode=0o000)
        root = os.geteuid() == 0
        if root:  # who reads everything
            os.seteuid(NOBODY)
        else:
            lost.chmod(0o000)
        try:
            yield models
        finally:
            if root:
                os.seteuid(0)
            lost.chmod(0o700)


def test_what_cannot_be_read_among_the_models_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    with models_of_another() as models:
        settings = Settings(models=models, default_model="tiny")
        assert [simulator.card.name for simulator in load_models(settings)] == ["tiny"]
        assert list(fingerprints(models)) == [models / "tiny"]
    words = f"{models}/lost+found is skipped: the folder cannot be read (Permission denied)"
    assert [text for record in caplog.records if "is skipped" in (text := record.getMessage())] == [words]


@pytest.mark.parametrize("call", ["iterdir", "is_file", "is_dir"])
@pytest.mark.parametrize("fault", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_whatever_a_disk_says_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, fault: int
) -> None:
    write_model(tmp_path)
    lost = tmp_path / "lost+found"
    lost.mkdir()
    plain = getattr(Path, call)

    def failing(path: Path) -> Any:
        if lost in (path, path.parent):
            raise OSError(fault, os.strerror(fault), str(path))
        return plain(path)

    monkeypatch.setattr(Path, call, failing)
    assert model_folders(tmp_path) == [tmp_path / "tiny"]
    assert list(readable_folders(tmp_path)[1]) == [lost]


def test_a_folder_of_models_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", failing)
    with pytest.raises(
        ModelError, match=r"that can be read at .* \(SPIKEHEAD_MODELS\), got: Permission denied"
    ):
        load_models(Settings(models=tmp_path))


# ----------------------------------------------------------------------------------------------- fingerprints


def write_as_old(path: Path, content: bytes, like: os.stat_result) -> None:
    """Write a file, and give it the times of another one."""
    path.write_bytes(content)
    os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))


def test_a_fingerprint_is_that_of_the_files(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    before = fingerprint(folder)
    assert [one[0] for one in before] == ["card.json", "model.onnx"]
    (folder / "card.json").read_bytes()
    assert fingerprint(folder) == before


@pytest.mark.parametrize("change", ["name", "size", "time", "inode"])
def test_a_fingerprint_changes_with_everything_of_a_file(tmp_path: Path, change: str) -> None:
    """One thing at a time; a file that is moved over another keeps size and time, and has another inode."""
    folder = write_model(tmp_path)
    card = folder / "card.json"
    before, about, content = fingerprint(folder), card.stat(), card.read_bytes()
    if change == "name":
        card.rename(folder / "cards.json")
    elif change == "size":
        write_as_old(card, content + b" ", about)
    elif change == "time":
        os.utime(card, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000_000))
    else:
        write_as_old(tmp_path / "other", content[::-1], about)
        (tmp_path / "other").replace(card)
    after = fingerprint(folder)
    assert after != before
    different = {i for one, other in zip(before, after, strict=True) for i in range(4) if one[i] != other[i]}
    assert different == {("name", "size", "time", "inode").index(change)}
