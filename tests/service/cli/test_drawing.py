"""Drawing of `spikehead classify` and `spikehead spikes`."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import pytest
from spikehead.cli.app import app
from spikehead.cli.drawing import ASCII, UNICODE, percent, picture, printable, raster
from spikehead.library.answers import Classification, read
from spikehead.web.documents import examples
from typer.testing import CliRunner

from tests.service.cli.conftest import ROOT, lines, run
from tests.service.conftest import band
from tests.service.serving import LONG, started

pytestmark = pytest.mark.usefixtures("environment")

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
        **examples.CLASSIFICATION,
        "steps_used": 9,
        "prediction": 7,
        "raster": {
            "input": {"shape": [1, 28, 28], "events": [[t, i] for t in range(9) for i in range(t)]},
            "output": {"shape": [10], "events": [[0, 7], [5, 0], [8, 7]]},
        },
    }
    first, second = raster(read(Classification, document), 16, UNICODE)
    assert [line.plain for line in first][:3] == [" step 1 2 3 4 5", "input 0 1 2 3 4", "    0 · · · · ·"]
    assert [line.plain for line in second][:3] == [" step 6 7 8 9", "input 5 6 7 8", "    0 | · · ·"]
    assert [block[9].plain for block in (first, second)] == ["    7 | · · · ·", "    7 · · · |"]


def test_what_is_not_certain_is_not_called_so() -> None:
    numbers = [percent(value) for value in (0.0, 0.00004, 0.12345, 0.9999, 0.999999, 1.0)]
    assert numbers == ["0.00 %", "0.00 %", "12.35 %", "99.99 %", ">99.99 %", "100.00 %"]


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31m\n\u202eb") == "a\ufffd[31m\ufffd\ufffdb"
    assert printable("\udcff é", "ascii") == "? ?"


def test_pictures_are_two_pixels_a_cell() -> None:
    pixels = [[10, 250, 10, 250], [10, 10, 250, 250]]
    assert [line.plain for line in picture(pixels, UNICODE)] == [" ▀▄█"]
    assert [line.plain for line in picture(pixels, ASCII)] == [" '.:"]


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
