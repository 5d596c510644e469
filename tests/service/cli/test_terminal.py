"""`spikehead classify` and `spikehead spikes`: what they print, to whom, and with which exit code."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from spikehead.cli.app import EXIT_FILE, EXIT_MODEL, EXIT_SERVICE, EXIT_SETTINGS, app
from spikehead.cli.terminal import (
    ASCII,
    UNICODE,
    RequestPage,
    Shown,
    Stored,
    percent,
    picture,
    printable,
    raster,
)
from spikehead.errors import example
from spikehead.inference.simulator import Simulator
from spikehead.settings import Settings
from spikehead.web.app import create_app
from spikehead.web.documents import schemas
from typer.testing import CliRunner, Result

from tests.service.conftest import SHIPPED, band, write_model
from tests.service.picture_files import animated, huge_png, png
from tests.service.serving import LONG, ROOT, serving, started, until

FOUR = """\
four.raw: 4 (73.41 %)

                                                            step  1  2  3  4
class  probability                                         input 32 32 32 32
    0  █                                          2.51 %       0  ·  ·  |  ·
    1  █▎                                         3.23 %       1  ·  ·  ·  |
    2  █▎                                         3.23 %       2  ·  ·  ·  |
    3  █                                          2.51 %       3  ·  ·  |  ·
    4  █████████████████████████████▍            73.41 %       4  |  |  ·  |
    5  █▎                                         3.23 %       5  ·  ·  ·  |
    6  █▎                                         3.23 %       6  ·  ·  ·  ·
    7  ▉                                          2.22 %       7  ·  |  ·  ·
    8  █▎                                         3.23 %       8  ·  ·  ·  ·
    9  █▎                                         3.23 %       9  ·  ·  ·  ·

steps       4 of 4: confidence 73.41 % stayed under 90.00 %
spikes      input 128, hidden layers 4, output 9
operations  168 synaptic: 40 additions, 128 products
model       tiny 1.2.3, engine onnxruntime
seed        7, encoder bernoulli
"""
FOUR_NARROW = """\
four.raw: 4 (39.00 %)

class  probability
    0  █▋                         6.78 %
    1  █▋                         6.78 %
    2  █▋                         6.78 %
    3  █▋                         6.78 %
    4  █████████▍                39.00 %
    5  █▋                         6.78 %
    6  █▋                         6.78 %
    7  █▋                         6.78 %
    8  █▋                         6.78 %
    9  █▋                         6.78 %

 step  1  2
input 32 32
    0  ·  ·
    1  ·  ·
    2  ·  ·
    3  ·  ·
    4  |  |
    5  ·  ·
    6  ·  ·
    7  ·  |
    8  ·  ·
    9  ·  ·

steps       2 of 2: confidence 39.00 %
            stayed under 90.00 %
spikes      input 64, hidden layers 2,
            output 3
operations  84 synaptic: 20 additions,
            64 products
model       tiny 1.2.3, engine
            onnxruntime
seed        7, encoder bernoulli
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, models_folder: Path, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("SPIKEHEAD_") or name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SPIKEHEAD_MODELS", str(models_folder))
    monkeypatch.setenv("SPIKEHEAD_DEFAULT_MODEL", "tiny")
    monkeypatch.setenv("SPIKEHEAD_ENGINE", "onnxruntime")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    Path("four.raw").write_bytes(band(4).tobytes())


def run(*arguments: str, given: bytes = b"") -> Result:
    result = CliRunner().invoke(app, arguments, input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def lines(text: str) -> list[str]:
    """rich fills the last column of a table up with blanks."""
    return [line.rstrip() for line in text.splitlines()]


def answers(result: Result) -> list[dict[str, Any]]:
    """Documents on standard output: one a line, nothing else."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """What two answers to one picture have in common."""
    return {name: value for name, value in answer.items() if name not in ("id", "recorded", "timings_ms")}


# ---------------------------------------------------------------------------------- classify: drawn


def test_an_answer_is_drawn() -> None:
    result = run("classify", "four.raw", "--seed", "7")
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines(result.stdout) == lines(FOUR)


def test_an_answer_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    result = run("classify", "four.raw", "--seed", "7", "--max-steps", "2")
    assert lines(result.stdout) == lines(FOUR_NARROW)


@pytest.mark.parametrize("width", [12, 20, 30, 40, 56, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    Path("a name that is longer than all the others.raw").write_bytes(band(3).tobytes())
    monkeypatch.setenv("COLUMNS", str(width))
    result = run("classify", *map(str, Path().iterdir()), "--seed", "7")
    assert result.exit_code == 0
    assert 0 < max(map(len, result.stdout.splitlines())) <= width


def test_ascii_where_the_encoding_has_no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("vier-é\n.raw").write_bytes(band(4).tobytes())
    result = CliRunner(charset="ascii").invoke(app, ["classify", "vier-é\n.raw", "--seed", "7"])
    assert result.exit_code == 0
    assert lines(result.stdout)[0] == "vier-??.raw: 4 (73.41 %)"
    assert lines(result.stdout)[8] == (
        "    4  #############################             73.41 %       4  |  |  .  |"
    )


def test_long_runs_take_several_strips() -> None:
    document = {
        **schemas.CLASSIFICATION,
        "steps_used": 9,
        "prediction": 7,
        "raster": {
            "input": {"shape": [1, 28, 28], "events": [[t, i] for t in range(9) for i in range(t)]},
            "output": {"shape": [10], "events": [[0, 7], [5, 0], [8, 7]]},
        },
    }
    first, second = raster(Shown.model_validate(document), 16, UNICODE)
    assert [line.plain for line in first][:3] == [" step 1 2 3 4 5", "input 0 1 2 3 4", "    0 · · · · ·"]
    assert [line.plain for line in second][:3] == [" step 6 7 8 9", "input 5 6 7 8", "    0 | · · ·"]
    assert [block[9].plain for block in (first, second)] == ["    7 | · · · ·", "    7 · · · |"]


def test_what_is_not_certain_is_not_called_so() -> None:
    numbers = [percent(value) for value in (0.0, 0.00004, 0.12345, 0.9999, 0.999999, 1.0)]
    assert numbers == ["0.00 %", "0.00 %", "12.35 %", "99.99 %", ">99.99 %", "100.00 %"]


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31m\n\u202eb") == "a\ufffd[31m\ufffd\ufffdb"
    assert printable("\udcff é", "ascii") == "? ?"


def seen_on_a_terminal(width: int, **environment: str) -> str:
    """What `classify` writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, width, 0, 0))
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with started(
        [sys.executable, "-m", "service", "classify", str(Path("four.raw").resolve()), "--seed", "7"],
        cwd=ROOT,
        env={**env, "TERM": "xterm-256color", **environment},
        stdin=theirs,
        stdout=theirs,
    ) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError as error:  # Linux says so where the other end is closed
                assert error.errno == errno.EIO
                break
            written += part
        os.close(ours)
        assert process.wait(LONG) == 0
    return written.decode()


def test_colours_on_a_terminal_alone_and_not_where_they_are_unwanted() -> None:
    coloured, plain = seen_on_a_terminal(44), seen_on_a_terminal(44, NO_COLOR="1")
    assert "\x1b[1;32m4\x1b[0m" in coloured
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", plain) is None  # bold and dim are no colours
    for text in (coloured, plain):
        bare = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
        assert max(map(len, bare)) <= 44
        assert any(line.startswith("    4  █") for line in bare)


# --------------------------------------------------------------------------------- classify: as JSON


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


# ------------------------------------------------------------------------ classify: what comes in


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
    assert lines(drawn.stdout) == lines(FOUR)


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    from spikehead.cli import terminal

    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(OSError, match="standard input is closed"):
        terminal._read("-", 1000)


# ---------------------------------------------------------------------------- classify: exit codes


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
    assert result.stderr == f"spikehead: An option has a wrong value: expected {message}\n"


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
        "spikehead: expected a model named resnet (--model or SPIKEHEAD_DEFAULT_MODEL), found other, tiny\n"
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


def test_exit_codes_are_in_the_help() -> None:
    for command, codes in (("classify", "0 1 2 4 130"), ("spikes", "0 2 5 130")):
        text = " ".join(run(command, "--help").stdout.split())
        assert "Exit codes: " in text
        for code in codes.split():
            assert f" {code} " in text[text.index("Exit codes: ") :]


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


# -------------------------------------------------------------------------------------------- spikes


class Service(ThreadingHTTPServer):
    """Answers with what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.status, self.content = 200, b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def says(self, document: Any, status: int = 200) -> None:
        self.status = status
        self.content = document if isinstance(document, bytes) else json.dumps(document).encode()


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def summaries() -> list[dict[str, Any]]:
    unsure = {**schemas.SUMMARY, "id": "18a5c0d2f3b4e6a1c2d3e4f6", "model": "tiny", "steps_used": 8}
    unsure |= {"prediction": 3, "confidence": 0.999999, "time": "2026-01-02T03:04:05.678+01:00", "new": [1]}
    return [schemas.SUMMARY, unsure]


def test_recent_requests(service: Service) -> None:
    service.says({"requests": summaries(), "next": None})
    result = run("spikes", "--url", service.url + "/")
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines(result.stdout) == [
        "time (UTC)          id                       digit conf. % steps model",
        "2026-11-24 15:17:27 18a5c0d2f3b4e6a1c2d3e4f5     7   99.68     1 spiking-mha",
        "2026-01-02 02:04:05 18a5c0d2f3b4e6a1c2d3e4f6     3  >99.99     8 tiny",
    ]
    assert service.asked == ["/spikes?limit=20"]


@pytest.mark.parametrize(
    ("width", "header"),
    [
        (76, "time (UTC)          id                       digit conf. % steps model"),
        (75, "time (UTC)          id                       digit conf. % steps"),
        (40, "id                       digit conf. %"),
        (30, "id                       digit"),
    ],
)
def test_columns_that_do_not_fit_are_left_out(
    monkeypatch: pytest.MonkeyPatch, service: Service, width: int, header: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    service.says({"requests": summaries(), "next": None})
    result = run("spikes", "--url", service.url)
    assert lines(result.stdout)[0] == header
    assert all(summary["id"] in result.stdout for summary in summaries())


def test_options_of_the_list(service: Service) -> None:
    service.says({"requests": [], "next": None})
    result = run("spikes", "--url", service.url, "--limit", "1000", "--model", "a b&c", "--low-confidence")
    assert (result.exit_code, result.stdout) == (0, "no requests to a model named a b&c yet\n")
    assert service.asked == ["/spikes?limit=1000&model=a+b%26c&order=confidence"]
    assert {"limit", "model", "order"} <= set(schemas.RecentQuery.model_fields)
    assert run("spikes", "--limit", "1001").exit_code == EXIT_SETTINGS
    assert run("spikes", "--limit", "0").exit_code == EXIT_SETTINGS


def test_requests_as_json(service: Service) -> None:
    service.says({"requests": summaries(), "next": None})
    assert answers(run("spikes", "--url", service.url, "--json")) == summaries()
    service.says({"requests": [], "next": None})
    assert run("spikes", "--url", service.url, "--json").stdout == ""


def test_one_request(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    service.says(schemas.STORED)
    result = run("spikes", schemas.ID, "--url", service.url)
    assert (result.exit_code, result.stderr) == (0, "")
    printed = lines(result.stdout)
    assert printed[:3] == [f"{schemas.ID}: 7 (99.68 %)", "2026-11-24 15:17:27 UTC", ""]
    assert printed[5] == "        ▄▄▄▄▄▄▄▄▄▄▄▄"
    assert printed[14] == "           ███                     7  ████████████████████████████████▉  99.68 %"
    assert printed[18:] == [
        "steps       1 of 16: confidence 99.68 % reached 75.00 %",
        "spikes      input 89, hidden layers 1,114, output 1",
        "operations  285,744 synaptic: 262,544 additions, 23,200 products",
        "model       spiking-mha 1.0.0, engine onnxruntime",
        "seed        7, encoder bernoulli",
    ]
    assert answers(run("spikes", schemas.ID, "--url", service.url, "--json")) == [schemas.STORED]
    assert run("spikes", "a/b?c", "--url", service.url).exit_code == 0
    assert service.asked == [f"/spikes/{schemas.ID}"] * 2 + ["/spikes/a%2Fb%3Fc"]
    monkeypatch.setenv("COLUMNS", "40")
    narrow = run("spikes", schemas.ID, "--url", service.url)
    assert max(map(len, narrow.stdout.splitlines())) <= 40
    assert run("spikes", schemas.ID, "--limit", "3").exit_code == EXIT_SETTINGS


def test_documents_of_the_service_are_understood() -> None:
    """The examples, against which the service's answers are tested."""
    assert RequestPage.model_validate(schemas.REQUESTS).requests[0].id == schemas.ID
    assert Stored.model_validate(schemas.STORED).answer.prediction == 7


def test_pictures_are_two_pixels_a_cell() -> None:
    pixels = [[10, 250, 10, 250], [10, 10, 250, 250]]
    assert [line.plain for line in picture(pixels, UNICODE)] == [" ▀▄█"]
    assert [line.plain for line in picture(pixels, ASCII)] == [" '.:"]


# ------------------------------------------------------------------------------- spikes: exit codes


def refused(*arguments: str) -> str:
    result = run("spikes", *arguments)
    assert (result.exit_code, result.stdout) == (EXIT_SERVICE, "")
    assert EXIT_SERVICE == 5
    return result.stderr


def test_a_problem_is_shown_in_words(service: Service) -> None:
    service.says(example("unknown-request"), 404)
    words = f"{example('unknown-request')['title']}: {example('unknown-request')['detail']}"
    assert refused("42", "--url", service.url, "--json") == f"spikehead: {service.url}: {words}\n"
    service.says(b"<html>Bad Gateway</html>", 502)
    assert refused("--url", service.url) == (
        f"spikehead: {service.url}: expected an answer, got status 502 Bad Gateway\n"
    )


def test_no_service() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"  # bound, but nobody listens
        message = refused("--url", url)
    assert message == f"spikehead: expected a service at {url}, got: Connection refused\n"


def test_a_service_that_hangs_up_or_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr("spikehead.cli.terminal.ANSWER_SECONDS", 0.2)
        assert refused("--url", url) == f"spikehead: expected a service at {url}, got: timed out\n"
        listener.accept()[0].close()
        hang_up = threading.Thread(target=lambda: listener.accept()[0].close())
        hang_up.start()
        assert refused("--url", url).startswith(f"spikehead: expected a service at {url}, got: ")
        hang_up.join()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "expected JSON from the service at {}, got something else"),
        (
            b'{"a": 1}',
            "expected a spikehead service at {}, got another one's answer (requests: Field required)",
        ),
        (
            b"[]",
            "expected a spikehead service at {}, got another one's answer "
            "(the answer: Input should be a valid dictionary or instance of RequestPage)",
        ),
    ],
)
def test_another_program_answers(service: Service, content: bytes, message: str) -> None:
    service.says(content)
    for json_too in ([], ["--json"]):
        assert refused("--url", service.url, *json_too) == f"spikehead: {message.format(service.url)}\n"


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    service.says({"requests": [], "next": None})
    assert run("spikes", "--url", service.url).exit_code == 0


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://a", "http://", "http://a:b", "http://a:0", "http://a?b", "http://a b"],
)
def test_addresses_that_are_none(url: str) -> None:
    result = run("spikes", "--url", url)
    assert (result.exit_code, result.stdout) == (EXIT_SETTINGS, "")
    assert result.stderr == (
        "spikehead: An option has a wrong value: expected url: an address such as http://127.0.0.1:8000 or "
        f"unix:/PATH, got {url!r}\n"
    )


@pytest.mark.parametrize("key", ["a\nb", "a\x00b"])
def test_a_key_that_is_no_line_is_refused(key: str) -> None:
    result = run("spikes", "--key", key)
    assert result.exit_code == EXIT_SETTINGS and "expected key: an API key in one line" in result.stderr


def test_a_key_in_any_letters(models_folder: Path, tmp_path: Path) -> None:
    with serving(models_folder, API_KEYS="clé", DATABASE_URL=f"sqlite:///{tmp_path}/keys.db") as (port, _):
        until(port, "/health/ready")
        url = f"http://127.0.0.1:{port}"
        assert run("spikes", "--url", url, "--key", "clé").exit_code == 0
        assert run("spikes", "--url", url, "--key", "cle").exit_code == EXIT_SERVICE
