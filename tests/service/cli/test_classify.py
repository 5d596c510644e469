"""`spikehead classify`: what it prints, to whom, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from spikehead.cli.app import EXIT_FILE, EXIT_MODEL, EXIT_SETTINGS
from spikehead.cli.classify import _read
from spikehead.cli.drawing import percent
from spikehead.inference.simulator import Simulator
from spikehead.settings import Settings
from spikehead.web.app import create_app

from tests.service.cli.conftest import ROOT, answers, lines, run
from tests.service.conftest import SHIPPED, band, write_model
from tests.service.picture_files import animated, huge_png, png
from tests.service.serving import LONG, started

pytestmark = pytest.mark.usefixtures("environment")


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """What two answers to one picture have in common."""
    return {name: value for name, value in answer.items() if name not in ("id", "recorded", "timings_ms")}


def test_json_is_the_answer_over_http(client: TestClient) -> None:
    Path("three.png").write_bytes(png(band(3)))
    options = ["--seed", "18446744073709551615", "--max-steps", "3", "--confidence", "0.6"]
    options += ["--encoder", "regular", "--model", "other"]
    result = run("classify", "three.png", "four.raw", "--json", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    query = "seed=18446744073709551615&max_steps=3&confidence=0.6&encoder=regular&model=other"
    kinds = {"three.png": "image/png", "four.raw": "application/octet-stream"}
    for printed, (file, kind) in zip(answers(result), kinds.items(), strict=True):
        headers = {"Content-Type": kind}
        response = client.post(f"/classify?{query}", content=Path(file).read_bytes(), headers=headers)
        assert response.status_code == 200
        assert next(iter(printed.items())) == ("file", file)
        assert printed["timings_ms"].keys() == response.json()["timings_ms"].keys()
        assert comparable(printed) == {"file": file, **comparable(response.json())}
        assert "raster" not in printed


def test_the_shipped_model_answers_as_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (SHIPPED / "card.json").is_file():
        pytest.skip(f"needs the shipped model in {SHIPPED}")
    monkeypatch.setenv("SPIKEHEAD_MODELS", str(SHIPPED.parent))
    monkeypatch.setenv("SPIKEHEAD_DEFAULT_MODEL", SHIPPED.name)
    monkeypatch.setenv("SPIKEHEAD_ENGINE", "auto")
    files = [str(ROOT / "examples" / f"{digit}.png") for digit in range(10)]
    printed = answers(run("classify", *files, "--json", "--seed", "7", "--confidence", "0.999"))
    with TestClient(create_app(Settings(models=SHIPPED.parent, default_model=SHIPPED.name))) as client:
        for answer, file in zip(printed, files, strict=True):
            response = client.post(
                "/classify?seed=7&confidence=0.999",
                content=Path(file).read_bytes(),
                headers={"Content-Type": "image/png"},
            )
            assert comparable(answer) == {"file": file, **comparable(response.json())}
    drawn = run("classify", *files, "--seed", "7")
    assert [line for line in lines(drawn.stdout) if line.startswith(str(ROOT))] == [
        f"{file}: {digit} ({percent(answer['confidence'])})"
        for digit, (file, answer) in enumerate(
            zip(files, answers(run("classify", *files, "--json", "--seed", "7")), strict=True)
        )
    ]


def test_each_file_without_a_seed_gets_its_own() -> None:
    seeds = [answer["seed"] for answer in answers(run("classify", *["four.raw"] * 3, "--json"))]
    assert len(set(seeds)) == 3
    again = answers(run("classify", "four.raw", "--json", "--seed", str(seeds[1])))[0]
    assert again["seed"] == seeds[1]


def test_nothing_is_recorded(tmp_path: Path) -> None:
    run("classify", "four.raw")
    run("classify", "four.raw", "--json")
    assert [path.name for path in tmp_path.iterdir()] == ["four.raw"]


@pytest.mark.parametrize("data", [band(4).tobytes(), png(band(4))])
def test_standard_input(data: bytes) -> None:
    result = run("classify", "-", "--seed", "7", "--json", given=data)
    assert result.exit_code == 0
    (answer,) = answers(result)
    assert (answer["file"], answer["prediction"]) == ("-", 4)


def test_bad_files_do_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEHEAD_MAX_PIXELS", "1000000")
    monkeypatch.setenv("SPIKEHEAD_MAX_BATCH_BODY", "20000")
    Path("folder").mkdir()
    bad = {
        "empty": b"",
        "text": b"no picture",
        "blank": bytes(784),
        "cut.png": png(band(4))[:60],
        "huge.png": huge_png(50_000, 50_000),
        "moves.gif": animated("GIF"),
        "long": bytes(20_001),
    }
    for name, data in bad.items():
        Path(name).write_bytes(data)
    files = ["missing", "folder", *bad, "four.raw"]
    result = run("classify", "four.raw", *files, "-", "--json", "--seed", "7")
    assert result.exit_code == EXIT_FILE == 1
    assert [answer["file"] for answer in answers(result)] == ["four.raw", "four.raw"]
    pictures = "a PNG, JPEG, WebP, BMP or GIF picture"
    faults = result.stderr.splitlines()
    assert faults[:5] == [
        "spikehead: missing: expected a file that can be read, got: No such file or directory",
        "spikehead: folder: expected a file that can be read, got: Is a directory",
        "spikehead: empty: expected a picture, got 0 bytes",
        f"spikehead: text: expected {pictures}, got 10 bytes of something else",
        "spikehead: blank: expected a picture with ink on it, got 784 pixels of value 0",
    ]
    assert faults[5].startswith("spikehead: cut.png: expected a complete picture, got a broken ")
    assert faults[6].startswith("spikehead: huge.png: expected at most 1000000 pixels, got ")
    assert faults[7:] == [
        "spikehead: moves.gif: expected a still picture, got an animation of 3 frames",
        "spikehead: long: expected at most 20000 bytes (SPIKEHEAD_MAX_BATCH_BODY), got more",
        "spikehead: -: expected a picture, got 0 bytes",
    ]
    drawn = run("classify", *files, "--seed", "7")
    assert drawn.exit_code == EXIT_FILE
    assert lines(drawn.stdout) == lines(run("classify", "four.raw", "--seed", "7").stdout)


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(OSError, match="standard input is closed"):
        _read("-", 1000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-steps", "5"], "max_steps: a whole number from 1 to 4, got '5'"),
        (["--confidence", "0"], "confidence: a number above 0, at most 1, got '0'"),
        (["--seed", "-1"], "seed: a whole number from 0 to 2**64 - 1, got '-1'"),
        (["--encoder", "morse"], "encoder: one of bernoulli, regular, got 'morse'"),
    ],
)
def test_wrong_options(arguments: list[str], message: str) -> None:
    result = run("classify", "missing", *arguments)
    assert (result.exit_code, result.stdout) == (EXIT_SETTINGS, "")
    assert result.stderr == f"spikehead: An option has an invalid value: expected {message}\n"


def test_wrong_usage_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("classify").exit_code == EXIT_SETTINGS
    assert run("classify", "four.raw", "--steps", "3").exit_code == EXIT_SETTINGS
    monkeypatch.setenv("SPIKEHEAD_THREADS", "none")
    result = run("classify", "four.raw")
    assert (result.exit_code, result.stdout) == (EXIT_SETTINGS, "")
    assert result.stderr.startswith("spikehead: SPIKEHEAD_THREADS: ")


def test_models_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run("classify", "four.raw", "--model", "resnet")
    assert (result.exit_code, result.stdout) == (EXIT_MODEL, "")
    assert result.stderr == (
        f"spikehead: expected a model named resnet in {os.environ['SPIKEHEAD_MODELS']}, found other, tiny\n"
    )
    models = tmp_path / "models"
    (write_model(models, "broken") / "card.json").write_text("{}")
    write_model(models)
    monkeypatch.setenv("SPIKEHEAD_MODELS", str(models))
    result = run("classify", "four.raw", "--model", "broken")
    assert result.exit_code == EXIT_MODEL
    assert result.stderr.startswith(f"spikehead: expected a valid model card at {models / 'broken'}")
    assert result.stderr.count("\n") == 1
    assert run("classify", "four.raw").exit_code == 0  # what is wrong with another model does not matter
    (models / "twin").mkdir()
    for file in (models / "tiny").iterdir():
        (models / "twin" / file.name).write_bytes(file.read_bytes())
    result = run("classify", "four.raw")
    assert result.exit_code == EXIT_MODEL
    assert result.stderr.endswith(f"found another in {models / 'twin'}\n")


def test_a_model_that_fails_when_it_is_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Simulator) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(Simulator, "warm_up", broken)
    result = run("classify", "four.raw")
    assert (result.exit_code, result.stdout) == (EXIT_MODEL, "")
    assert result.stderr.endswith("tiny that can classify a picture, got: by nothing\n")


def test_ctrl_c_is_130() -> None:
    with started(
        [sys.executable, "-m", "service", "classify", str(Path("four.raw").resolve()), "-", "--json"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell that runs the tests in the background has them ignore Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["prediction"] == 4  # it waits for the second file now
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == 130
        assert process.stderr.read() == b""


def test_no_web_framework_and_no_training_are_imported() -> None:
    code = (
        "import sys\nfrom spikehead.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print([name for name in ('fastapi', 'starlette', 'uvicorn', 'torch') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "classify", str(Path("four.raw").resolve()), "--json"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG, check=True)
    assert result.stdout.splitlines()[1:] == ["[]"]
