"""The commands as a terminal runs them, and training that stops before it begins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from tests.training.conftest import SMALL
from training.commands.app import app

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> Result:
    result = run(*arguments)
    if result.exception is not None:
        raise AssertionError(result.output) from result.exception
    return result


def said(text: str) -> str:
    """Without colours, frames and line breaks, which depend on the terminal. No spaces: a path may be broken."""
    return re.sub(r"[\s│╭╮╰╯─]", "", re.sub(r"\x1b\[[0-9;]*m", "", text))


def assert_refused(message: str, *arguments: object) -> None:
    """It fails, and says so: on the terminal where the usage was wrong, else in the error that ends it."""
    result = run(*arguments)
    assert result.exit_code != 0
    assert said(message) in said(result.output) + said(str(result.exception))


class Stopped(BaseException):
    """Raised where training would begin."""


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The arguments with which `train` or `teacher` would begin, in a folder that has no runs yet."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}

    def begin(*arguments: Any) -> None:
        found["arguments"] = arguments
        raise Stopped

    monkeypatch.setattr("training.fit.train.Trainer", begin)
    monkeypatch.setattr("training.fit.teacher.train_teacher", begin)
    return found


def begun(captured: dict[str, Any], *arguments: object) -> Sequence[Any]:
    """What the command would begin with."""
    with pytest.raises(Stopped):
        run(*arguments)
    return captured["arguments"]  # type: ignore[no-any-return]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """`train` makes the small network."""
    monkeypatch.setattr("training.network.spiking.NetworkConfig", lambda **changed: SMALL)
