"""Answers and lists of requests as text. rich omits colours without a terminal or if NO_COLOR is set."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import NamedTuple

from pydantic import AwareDatetime
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from spikehead.library.answers import Classification, RequestSummary
from spikehead.model.encoding import CLASSES

DRAWN_LAYERS = ("input", "output")
"""Layers whose spikes are drawn."""

Pixels = Sequence[Sequence[int]]
Block = list[Text]
"""Lines drawn together, each of which fits the terminal."""


class Glyphs(NamedTuple):
    """Characters that bars, spikes and pictures are made of."""

    bar: str  # the last cell of a bar, from nearly empty to full
    spike: str
    silence: str
    halves: str  # two pixels in a cell: neither, upper, lower or both are bright


UNICODE = Glyphs("▏▎▍▌▋▊▉█", "|", "·", " ▀▄█")
ASCII = Glyphs("#", "|", ".", " '.:")

_LEAST_BAR, _MOST_BAR = 16, 40  # cells
_GAP = 3  # cells between blocks side by side
_AROUND_BAR = len("class  ") + len(" 100.00 %")
_LABEL = len("input")
# columns left out of a narrow table, in this order
_LESS_NEEDED = ("model", "time (UTC)", "steps", "conf. %")


def text_console() -> Console:
    """Return a console that writes text as it is, without rich's markup."""
    return Console(highlight=False, markup=False, emoji=False)


def _glyphs(console: Console) -> Glyphs:
    return ASCII if console.options.ascii_only else UNICODE


def printable(text: str, encoding: str = "utf-8") -> str:
    """Replace characters that would control a terminal, or that the encoding lacks."""
    clean = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c
        for c in text
    )
    return clean.encode(encoding, "replace").decode(encoding)


def percent(probability: float) -> str:
    """Write a probability with two decimals; one below 1 is not rounded up to 100."""
    text = f"{100 * probability:.2f} %"
    return ">99.99 %" if text == "100.00 %" and probability < 1 else text


def utc(time: AwareDatetime) -> str:
    """Write a time in UTC, in whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def headline(name: str, answer: Classification, console: Console) -> Text:
    """Write a file's or request's name and its digit."""
    return Text.assemble(
        f"{printable(name, console.encoding)}: ",
        (str(answer.prediction), "bold green"),
        f" ({percent(answer.confidence)})",
    )


def drawn(answer: Classification, console: Console, pixels: Pixels | None = None) -> RenderableType:
    """Draw an answer without its headline, no wider than the terminal, after the picture if there is one."""
    glyphs, width = _glyphs(console), console.width
    before = [] if pixels is None else [picture(pixels, glyphs)]
    after = list(raster(answer, width, glyphs))
    left = width - _AROUND_BAR - sum(_width(block) + _GAP for block in before + after)
    if left >= _LEAST_BAR:
        blocks = [_beside([*before, bars(answer, left, glyphs), *after])]
    else:
        blocks = [*before, bars(answer, width - _AROUND_BAR, glyphs), *after]
    parts: list[RenderableType] = []
    for block in blocks:
        parts += ["", *block]
    return Group(*parts, "", _facts(answer, console))


def bars(answer: Classification, room: int, glyphs: Glyphs) -> Block:
    """Draw a bar for each class, of at most `room` cells."""
    room = max(1, min(room, _MOST_BAR))
    lines = [Text("class  probability", "dim")]
    for digit, probability in enumerate(answer.class_probabilities):
        line = f"{digit:>5}  {_bar(probability, room, glyphs):<{room}} {percent(probability):>8}"
        lines.append(Text(line, "bold green" if digit == answer.prediction else ""))
    return _cropped(lines)


def _bar(part: float, room: int, glyphs: Glyphs) -> str:
    """Draw a bar for a share of `room` cells, in steps of one eighth of a cell if there are glyphs for it."""
    levels = len(glyphs.bar)
    full, rest = divmod(round(part * room * levels), levels)
    return glyphs.bar[-1] * full + (glyphs.bar[rest - 1] if rest else "")


def raster(answer: Classification, width: int, glyphs: Glyphs) -> Iterator[Block]:
    """Draw the input's spike count and the output neurons' spikes step by step, in strips that fit the width.

    Yields nothing if the answer has no raster.
    """
    if answer.raster is None or not set(DRAWN_LAYERS) <= set(answer.raster):
        return
    steps = answer.steps_used
    counts = Counter(t for t, _ in answer.raster["input"].events)
    fired = set(answer.raster["output"].events)
    cell = 1 + len(str(max(steps, *counts.values())))
    fitting = max(1, (width - _LABEL) // cell)
    for first in range(0, steps, fitting):
        strip = range(first, min(first + fitting, steps))
        lines = [
            Text("step".rjust(_LABEL) + "".join(f"{t + 1:>{cell}}" for t in strip), "dim"),
            Text("input" + "".join(f"{counts[t]:>{cell}}" for t in strip)),
        ]
        for digit in range(CLASSES):
            marks = [glyphs.spike if (t, digit) in fired else glyphs.silence for t in strip]
            line = f"{digit:>{_LABEL}}" + "".join(mark.rjust(cell) for mark in marks)
            lines.append(Text(line, "bold green" if digit == answer.prediction else ""))
        yield _cropped(lines)


def picture(pixels: Pixels, glyphs: Glyphs) -> Block:
    """Draw pixels brighter than the mean of the darkest and the brightest, two in a cell, one above the other."""
    middle = (min(map(min, pixels)) + max(map(max, pixels))) / 2
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = ((a > middle) + 2 * (b > middle) for a, b in zip(upper, lower, strict=True))
        lines.append(Text("".join(glyphs.halves[cell] for cell in cells)))
    return _cropped(lines)


def _cropped(lines: list[Text]) -> Block:
    """Cut lines that are too long for the terminal instead of folding them."""
    for line in lines:
        line.no_wrap, line.overflow = True, "crop"
    return lines


def _width(block: Block) -> int:
    return max(line.cell_len for line in block)


def _beside(blocks: Sequence[Block]) -> Block:
    """Put blocks side by side, aligned at their last lines."""
    height = max(map(len, blocks))
    lines = [Text() for _ in range(height)]
    for number, block in enumerate(blocks):
        width = _width(block)
        for line, part in zip(lines, [*[Text()] * (height - len(block)), *block], strict=True):
            line.append(" " * (_GAP if number else 0)).append(part).append(" " * (width - part.cell_len))
    for line in lines:
        line.rstrip()
    return _cropped(lines)


def _facts(answer: Classification, console: Console) -> Table:
    """List steps, spikes, operations, model and seed in words."""
    counts, kinds = answer.spike_counts, answer.synaptic_operations_by_kind
    sure, wanted = percent(answer.confidence), percent(answer.confidence_threshold)
    reason = "reached" if answer.stopped_by == "confidence" else "stayed under"
    facts = {
        "steps": f"{answer.steps_used} of {answer.max_steps}: confidence {sure} {reason} {wanted}",
        "spikes": f"input {counts.input:,}, hidden layers {sum(counts.layers.values()):,}, "
        f"output {sum(counts.output):,}",
        "operations": f"{answer.synaptic_operations:,} synaptic: {kinds.accumulates:,} additions, "
        f"{kinds.multiply_accumulates:,} products",
        "model": f"{answer.model} {answer.model_version}, engine {answer.engine}",
        "seed": f"{answer.seed}, encoder {answer.encoder}",
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, fact in facts.items():
        table.add_row(Text(name, "dim"), Text(printable(fact, console.encoding)))
    return table


def table(requests: Sequence[RequestSummary], console: Console) -> Table:
    """List requests, one in each line. Columns that do not fit are left out; the id stays whole."""
    columns = {
        "time (UTC)": [utc(request.time) for request in requests],
        "id": [printable(request.id, console.encoding) for request in requests],
        "digit": [str(request.prediction) for request in requests],
        "conf. %": [percent(request.confidence).removesuffix(" %") for request in requests],
        "steps": [str(request.steps_used) for request in requests],
        "model": [printable(request.model, console.encoding) for request in requests],
    }

    def width() -> int:
        return sum(1 + max(map(cell_len, [name, *cells])) for name, cells in columns.items()) - 1

    for name in _LESS_NEEDED:
        if width() > console.width:
            del columns[name]
    result = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name in columns:
        right = name in ("digit", "conf. %", "steps")
        result.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        result.add_row(*(Text(cell) for cell in row))
    return result
