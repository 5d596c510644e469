"""`figures` and `retina`."""

from __future__ import annotations

from pathlib import Path

from tests.service.picture_files import png
from tests.training.commands.conftest import Drawn, assert_refused, said, succeed
from tests.training.conftest import Exported


def test_the_retina_at_work_is_drawn(drawn: Drawn, tmp_path: Path) -> None:
    picture, out = tmp_path / "one.png", tmp_path / "pictures" / "retina.png"
    picture.write_bytes(png(drawn[0][0]))
    assert said(str(out)) in said(succeed("retina", picture, "--out", out).stderr)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert_refused("expected a picture, found no file", "retina", tmp_path / "two.png")


def test_a_picture_that_is_not_there(exported: Exported, drawn: Drawn, tmp_path: Path) -> None:
    picture, absent = tmp_path / "digit.png", tmp_path / "absent.png"
    picture.write_bytes(png(drawn[0][0]))
    rest = ("--model", exported.folder, "--out", tmp_path / "out")
    message = f"expected a picture, found no file {absent}"
    assert_refused(message, "figures", absent, *rest)
    assert_refused(message, "figures", picture, "--sample", absent, *rest)
    assert not (tmp_path / "out").exists()


def test_more_steps_than_the_model_has(exported: Exported, drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(png(drawn[0][0]))
    assert_refused(
        "expected at most 4 steps, got 5",
        "figures", tmp_path / "digit.png", "--model", exported.folder, "--steps", 5, "--out", tmp_path / "out",
    )  # fmt: skip
