"""The commands `classify` and `spikes`: pictures classified here, and a running service's requests, drawn as text.

    classify     files -> answers, as `POST /classify` gives them, drawn or as JSON lines; nothing is recorded
    spikes       a service's recent requests, or one of them, by way of `GET /spikes`

Nothing here knows of exit codes: what cannot be done is an exception (see `spikehead.cli.app`). Text is drawn by
rich, which leaves colours out where there is no terminal or NO_COLOR is set.
"""

from __future__ import annotations

import errno
import json
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import BaseHandler, HTTPHandler, ProxyHandler, Request, build_opener

import typer
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from spikehead.cli.probe import UNIX, UnixConnection
from spikehead.errors import Problem
from spikehead.inference import bodies
from spikehead.inference.models import model_folders, usable
from spikehead.inference.options import Options, collect, parse, quoted
from spikehead.inference.simulator import Simulator
from spikehead.model.card import ModelError, load_card
from spikehead.model.encoding import CLASSES, SIDE
from spikehead.pictures.normalise import ImageError
from spikehead.settings import PREFIX, Settings

STANDARD_INPUT = "-"
ANSWER_SECONDS = 10
"""A service that has said nothing for so long is given up."""

_LOCAL = ("127.0.0.1", "::1", "localhost")
_DRAWN = ("input", "output")  # layers whose spikes are drawn

Part = TypeVar("Part", bound="_Part")
Block = list[Text]
"""Lines that belong together, each of which fits the terminal."""


class ServiceError(RuntimeError):
    """A service cannot be asked, or says no. The message says what was expected and what came."""


# ------------------------------------------------------------------------------------------ classify


def classify(
    files: Sequence[str], options: Mapping[str, str | None], settings: Settings, as_json: bool
) -> bool:
    """Classify each file and print its answer. Whether all of them could be; faults go to standard error.

    Options are those of `POST /classify`, as text, and None where not given. Every file gets the same seed,
    or one drawn for it alone. Raises ModelError and Problem before the first file is read.
    """
    given = collect([(name, value) for name, value in options.items() if value is not None], {})
    simulator = load_model(settings, options.get("model") or settings.default_model)
    console = _console()
    complete, first = True, True
    for file in files:
        parsed = parse(given, simulator.card)
        try:
            answer = answer_of(
                file, simulator, parsed if as_json else replace(parsed, raster=_DRAWN), settings
            )
        except (ImageError, OSError) as error:
            typer.echo(f"spikehead: {printable(file)}: {_fault(error)}", err=True)
            complete = False
            continue
        if as_json:
            typer.echo(json.dumps({"file": file, **answer}))
            continue
        seen = Shown.model_validate(answer)
        if not first:
            console.print()
        first = False
        console.print(_headline(printable(file, console.encoding), seen))
        console.print(_drawn(seen, console))
    return complete


def load_model(settings: Settings, name: str) -> Simulator:
    """One model, loaded and tried out; what is wrong with others does not matter. Raises ModelError."""
    found: dict[str, Path] = {}
    broken: dict[str, ModelError] = {}
    for folder in model_folders(settings.models):
        try:
            card = load_card(folder)
        except ModelError as error:
            broken[folder.name] = error
            continue
        if card.name == name in found:
            raise ModelError(
                f"expected one model named {name} in {settings.models}, found another in {folder}"
            )
        found[card.name] = folder
    if name not in found:
        names = ", ".join(sorted(found)) or "none"
        expected = f"a model named {name} (--model or {PREFIX}DEFAULT_MODEL)"
        raise broken.get(name) or ModelError(f"expected {expected}, found {names}")
    return usable(found[name], *settings.simulation)


def answer_of(file: str, simulator: Simulator, options: Options, settings: Settings) -> dict[str, Any]:
    """What the model says to a file: the answer over HTTP, but for its `id` and whether it was `recorded`.

    Raises OSError and ImageError.
    """
    data = _read(file, settings.max_batch_body)
    began = time.perf_counter()
    pixels = bodies.of_file(data).decode(settings.max_pixels)
    decode_ms = (time.perf_counter() - began) * 1000
    return next(simulator.classify(pixels[None], [options.seed], options, [decode_ms]))


def _read(file: str, most: int) -> bytes:
    """The bytes of a file or of standard input. Raises OSError and ImageError."""
    if file == STANDARD_INPUT:
        if sys.stdin is None:  # so it is where a shell closed it: <&-
            raise OSError(errno.EBADF, "standard input is closed")
        data = sys.stdin.buffer.read(most + 1)
    else:
        with Path(file).open("rb") as stream:
            data = stream.read(most + 1)  # a bound, since there are files without an end
    if len(data) > most:
        raise ImageError("body-too-large", f"at most {most} bytes ({PREFIX}MAX_BATCH_BODY)", "more")
    if not data:
        raise ImageError("empty-body", "a picture", "0 bytes")
    return data


def _fault(error: ImageError | OSError) -> str:
    if isinstance(error, ImageError):
        return str(error)
    return f"expected a file that can be read, got: {error.strerror or error}"


# -------------------------------------------------------------------------------------------- spikes


@dataclass(frozen=True)
class Remote:
    """A running service, and the key that it may ask for."""

    url: str
    key: str | None = None


def spikes(
    remote: Remote,
    *,
    limit: int,
    model: str | None = None,
    low_confidence: bool = False,
    as_json: bool = False,
) -> None:
    """Print a service's recent requests: newest first, or those first that it was least sure of.

    Raises ServiceError, and Problem where its address is none.
    """
    query = {"limit": str(limit)}
    if model is not None:
        query["model"] = model
    if low_confidence:
        query["order"] = "confidence"
    document = ask(remote, f"/spikes?{urlencode(query)}")
    page = _checked(RequestPage, document, remote.url)
    if as_json:
        for request in document["requests"]:
            typer.echo(json.dumps(request))
        return
    console = _console()
    nothing = "no requests yet" if model is None else f"no requests to a model named {printable(model)} yet"
    console.print(_table(page.requests, console) if page.requests else nothing)


def one_of_spikes(remote: Remote, identifier: str, *, as_json: bool = False) -> None:
    """Print one of a service's requests. Raises ServiceError, and Problem where its address is none."""
    document = ask(remote, f"/spikes/{quote(identifier, safe='')}")
    stored = _checked(Stored, document, remote.url)
    if as_json:
        typer.echo(json.dumps(document))
        return
    console = _console()
    console.print(_headline(printable(identifier, console.encoding), stored.answer))
    console.print(Text(f"{_utc(stored.time)} UTC", style="dim"))
    console.print(_drawn(stored.answer, console, picture(stored.pixels, _glyphs(console))))


def ask(remote: Remote, path: str) -> Any:
    """The JSON with which a service answers a GET. Raises ServiceError, and Problem for a wrong address."""
    url = base = remote.url
    handlers: list[BaseHandler] = []
    if url.startswith(UNIX):
        base = "http://localhost"
        handlers = [ProxyHandler({}), _UnixHandler(url.removeprefix(UNIX))]
    else:
        _check_url(url)
        if urlsplit(url).hostname in _LOCAL:  # a proxy knows nothing of this machine's services
            handlers = [ProxyHandler({})]
    headers = {"Accept": "application/json"}
    if remote.key:
        if not remote.key.isprintable():
            raise Problem("invalid-option", "key: an API key in one line", quoted(remote.key))
        # a header is sent in Latin-1: these are the bytes of UTF-8 in it
        headers["X-API-Key"] = remote.key.encode().decode("latin-1")
    request = Request(base.rstrip("/") + path, headers=headers)
    try:
        with build_opener(*handlers).open(request, timeout=ANSWER_SECONDS) as response:
            data = response.read()
    except HTTPError as error:
        raise ServiceError(f"{url}: {_in_words(error)}") from None
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise ServiceError(f"expected a service at {url}, got: {printable(words)}") from None
    try:
        return json.loads(data)
    except ValueError:
        raise ServiceError(f"expected JSON from the service at {url}, got something else") from None


class _UnixHandler(HTTPHandler):
    """Opens each request on one unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def http_open(self, req: Request) -> HTTPResponse:
        def connection(host: str, **options: Any) -> UnixConnection:
            return UnixConnection(self._path, ANSWER_SECONDS)

        return self.do_open(connection, req)


def _check_url(url: str) -> None:
    """Raises Problem."""
    expected = "url: an address such as http://127.0.0.1:8000 or unix:/PATH"
    fault = Problem("invalid-option", expected, quoted(url))
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise fault from None
    if not named or parts.query or parts.fragment or not re.fullmatch("[!-~]+", url):
        raise fault


def _in_words(error: HTTPError) -> str:
    """A problem document's title and detail, or what the status code says."""
    try:
        with error:
            document = json.loads(error.read())
        words = f"{document['title']}: {document['detail']}"
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        words = f"expected an answer, got status {error.code} {error.reason}"
    return printable(words)


def _checked(kind: type[Part], document: Any, url: str) -> Part:
    """Raises ServiceError where another program than the service answered."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the answer"
        raise ServiceError(
            f"expected a spikehead service at {url}, got another one's answer ({printable(where)}: {fault['msg']})"
        ) from None


# ----------------------------------------------------------------------------------- what is drawn


class _Part(BaseModel):
    """What is drawn of a document. A newer service may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


Class = Annotated[int, Field(ge=0, lt=CLASSES)]
Row = Annotated[list[int], Field(min_length=SIDE, max_length=SIDE)]


class Counts(_Part):
    input: int
    layers: dict[str, int]
    output: list[int]


class ByKind(_Part):
    accumulates: int
    multiply_accumulates: int


class Events(_Part):
    events: list[tuple[int, int]]  # (t, index)


class Shown(_Part):
    """What is drawn of an answer."""

    model: str
    model_version: str
    engine: str
    prediction: Class
    confidence: float
    class_probabilities: Annotated[list[float], Field(min_length=CLASSES, max_length=CLASSES)]
    spike_counts: Counts
    steps_used: int
    max_steps: int
    stopped_by: str
    confidence_threshold: float
    seed: int
    encoder: str
    synaptic_operations: int
    synaptic_operations_by_kind: ByKind
    raster: dict[str, Events] = Field(default_factory=dict)


class ListedRequest(_Part):
    """A line of the list of requests."""

    id: str
    time: AwareDatetime
    model: str
    prediction: Class
    confidence: float
    steps_used: int


class RequestPage(_Part):
    """`GET /spikes`."""

    requests: list[ListedRequest]


class Stored(_Part):
    """`GET /spikes/{id}`."""

    time: AwareDatetime
    pixels: Annotated[list[Row], Field(min_length=SIDE, max_length=SIDE)]
    answer: Shown


# ------------------------------------------------------------------------------------------ drawing


class Glyphs(NamedTuple):
    """What bars, spikes and pictures are drawn with."""

    bar: str  # its last cell, from nearly empty to full
    spike: str
    silence: str
    halves: str  # a cell of two pixels: neither, upper, lower, both


UNICODE = Glyphs("▏▎▍▌▋▊▉█", "|", "·", " ▀▄█")
ASCII = Glyphs("#", "|", ".", " '.:")

_LEAST_BAR, _MOST_BAR = 16, 40  # cells
_GAP = 3  # cells between blocks side by side
_AROUND_BAR = len("class  ") + len(" 100.00 %")
_LABEL = len("input")
_LESS_NEEDED = ("model", "time (UTC)", "steps", "conf. %")  # left out of a narrow table, in this order


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _glyphs(console: Console) -> Glyphs:
    return ASCII if console.options.ascii_only else UNICODE


def printable(text: str, encoding: str = "utf-8") -> str:
    """A name or message from elsewhere, without what would steer a terminal or cannot be written there."""
    clean = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c
        for c in text
    )
    return clean.encode(encoding, "replace").decode(encoding)


def percent(probability: float) -> str:
    """With two decimals; what is not quite certain is not rounded to 100."""
    text = f"{100 * probability:.2f} %"
    return ">99.99 %" if text == "100.00 %" and probability < 1 else text


def _utc(moment: AwareDatetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _headline(name: str, answer: Shown) -> Text:
    return Text.assemble(
        f"{name}: ", (str(answer.prediction), "bold green"), f" ({percent(answer.confidence)})"
    )


def _drawn(answer: Shown, console: Console, picture: Block | None = None) -> RenderableType:
    """All of an answer but its headline, no wider than the terminal; after a picture, or beside it."""
    glyphs, width = _glyphs(console), console.width
    before = [] if picture is None else [picture]
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


def bars(answer: Shown, room: int, glyphs: Glyphs) -> Block:
    """A bar for each class, of at most `room` cells."""
    room = max(1, min(room, _MOST_BAR))
    lines = [Text("class  probability", "dim")]
    for digit, probability in enumerate(answer.class_probabilities):
        drawn = f"{digit:>5}  {_bar(probability, room, glyphs):<{room}} {percent(probability):>8}"
        lines.append(Text(drawn, "bold green" if digit == answer.prediction else ""))
    return _cropped(lines)


def _bar(part: float, room: int, glyphs: Glyphs) -> str:
    """To an eighth of a cell, where there are glyphs for it."""
    levels = len(glyphs.bar)
    full, rest = divmod(round(part * room * levels), levels)
    return glyphs.bar[-1] * full + (glyphs.bar[rest - 1] if rest else "")


def raster(answer: Shown, width: int, glyphs: Glyphs) -> Iterator[Block]:
    """Over time: how many spikes the input had, and which output neurons fired. As many strips as it takes.

    None where the answer has no raster.
    """
    if not set(_DRAWN) <= set(answer.raster):
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


def picture(pixels: Sequence[Sequence[int]], glyphs: Glyphs) -> Block:
    """28 x 28 pixels, two in a cell: those that are brighter than the middle between darkest and brightest."""
    middle = (min(map(min, pixels)) + max(map(max, pixels))) / 2
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        cells = ((a > middle) + 2 * (b > middle) for a, b in zip(upper, lower, strict=True))
        lines.append(Text("".join(glyphs.halves[cell] for cell in cells)))
    return _cropped(lines)


def _cropped(lines: list[Text]) -> Block:
    """Lines that are cut where even the least does not fit, not folded."""
    for line in lines:
        line.no_wrap, line.overflow = True, "crop"
    return lines


def _width(block: Block) -> int:
    return max(line.cell_len for line in block)


def _beside(blocks: Sequence[Block]) -> Block:
    """Blocks side by side, their last lines on a level."""
    height = max(map(len, blocks))
    lines = [Text() for _ in range(height)]
    for number, block in enumerate(blocks):
        width = _width(block)
        for line, part in zip(lines, [*[Text()] * (height - len(block)), *block], strict=True):
            line.append(" " * (_GAP if number else 0)).append(part).append(" " * (width - part.cell_len))
    for line in lines:
        line.rstrip()
    return _cropped(lines)


def _facts(answer: Shown, console: Console) -> Table:
    """Everything about an answer that is not drawn, in words."""
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


def _table(requests: Sequence[ListedRequest], console: Console) -> Table:
    """Requests, one a line. Columns that do not fit are left out, but never a part of an id."""
    columns = {
        "time (UTC)": [_utc(request.time) for request in requests],
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
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name in columns:
        right = name in ("digit", "conf. %", "steps")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(Text(cell) for cell in row))
    return table
