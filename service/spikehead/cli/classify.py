"""Classifies files in this process and prints the answers: `spikehead classify`. Nothing is recorded."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from spikehead.cli.drawing import DRAWN_LAYERS, drawn, headline, printable, text_console
from spikehead.inference import bodies
from spikehead.inference.models import find_model, usable
from spikehead.inference.options import Options, collect, parse
from spikehead.inference.simulator import Simulator
from spikehead.library.answers import Classification, read
from spikehead.pictures.pixels import ImageError
from spikehead.settings import PREFIX, Settings

STANDARD_INPUT = "-"


def classify_files(
    files: Sequence[str], options: Mapping[str, str | None], settings: Settings, as_json: bool
) -> bool:
    """Classify each file and print its answer; faults go to standard error. True if every file was classified.

    Options are those of `POST /classify`, as text, and None if not given. Without a seed, one is drawn for each file.
    Raises ModelError and Problem before the first file is read.
    """
    given = collect([(name, value) for name, value in options.items() if value is not None], {})
    folder = find_model(settings.models, options.get("model") or settings.default_model)
    simulator = usable(folder, *settings.simulation)
    console = text_console()
    complete, first = True, True
    for file in files:
        parsed = parse(given, simulator.card)
        if not as_json:
            parsed = replace(parsed, raster=DRAWN_LAYERS)
        try:
            answer = classify_file(file, simulator, parsed, settings)
        except (ImageError, OSError) as error:
            typer.echo(f"spikehead: {printable(file)}: {_fault(error)}", err=True)
            complete = False
            continue
        if as_json:
            typer.echo(json.dumps({"file": file, **answer}))
            continue
        if not first:
            console.print()
        first = False
        classification = read(Classification, answer)
        console.print(headline(file, classification, console))
        console.print(drawn(classification, console))
    return complete


def classify_file(file: str, simulator: Simulator, options: Options, settings: Settings) -> dict[str, Any]:
    """Return the answer that `POST /classify` would give, without its `id` and `recorded`.

    Raises OSError and ImageError.
    """
    data = _read(file, settings.max_batch_body)
    began = time.perf_counter()
    pixels = bodies.of_file(data).decode(settings.max_pixels)
    decode_ms = (time.perf_counter() - began) * 1000
    return next(simulator.classify(pixels[None], [options.seed], options, [decode_ms]))


def _read(file: str, most: int) -> bytes:
    """Return the bytes of a file or of standard input. Raises OSError and ImageError."""
    if file == STANDARD_INPUT:
        # closed by a shell, by <&-
        if sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed")
        data = sys.stdin.buffer.read(most + 1)
    else:
        with Path(file).open("rb") as stream:
            # bounded, because a device such as /dev/zero has no end
            data = stream.read(most + 1)
    if len(data) > most:
        raise ImageError("body-too-large", f"at most {most} bytes ({PREFIX}MAX_BATCH_BODY)", "more")
    if not data:
        raise ImageError("empty-body", "a picture", "0 bytes")
    return data


def _fault(error: ImageError | OSError) -> str:
    if isinstance(error, ImageError):
        return str(error)
    return f"expected a file that can be read, got: {error.strerror or error}"
