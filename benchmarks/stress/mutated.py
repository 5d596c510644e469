"""10,000 mutated images and bodies over /classify and /classify/batch: no 5xx, and memory stays as it is.

Whole bodies of every kind (PNG, JPEG, GIF, BMP, WebP, multipart form, JSON with base64, JSON with pixels, raw
bytes) get one to three mutations each: flipped bits, a truncation, the end of another body of the kind, inserted
or repeated or removed bytes, and lengths (1, 2 or 4 bytes overwritten with a limit of their range). One in 32
stays whole, one in 32 goes under the content type of another kind. All of it follows from a seed and a number:
`mutation(number)` gives a request again. Four connections send them; the Content-Length is always right.

Memory is the resident size of all processes, at rest, after the first 4,000 requests and after the last.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from benchmarks import serving
from benchmarks.stress.client import FAILURES, described, each_once, merged
from benchmarks.stress.plan import Plan
from benchmarks.stress.requests import post
from benchmarks.stress.verdicts import Claim, Row
from tests.service.drawings import encoded, random_style, render

SEED = 5
CLIENTS = 4
PORTION = 250  # requests that are made at a time
MOST_GROWTH = 0.05
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
BOUNDARY = "b0undary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
VARIANTS = 6  # bodies of a kind

Body = tuple[str, str, bytes]  # path, content type, body


def measure(plan: Plan) -> list[Row]:
    with serving.ready() as service:
        tallies = []
        sizes = []
        for first in range(0, plan.mutations, PORTION):
            if first == plan.warm_up:
                time.sleep(1.0)
                sizes.append(service.resident())
            requests = [mutation(number) for number in range(first, min(first + PORTION, plan.mutations))]
            tally = each_once(service.port, requests, CLIENTS)
            tally.number = type(tally.number)("l", (number + first for number in tally.number))
            tallies.append(tally)
        time.sleep(1.0)
        sizes.append(service.resident())
    whole = merged(tallies)
    failed = {
        number: status
        for number, status in zip(whole.number, whole.status, strict=True)
        if status < 0 or status >= 500
    }
    return [judged(whole.counts(), failed, sizes[0], sizes[1], float(whole.seconds(*whole.counts()).max()))]


def judged(counts: dict[int, int], failed: dict[int, int], warm: float, end: float, longest: float) -> Row:
    """The row: answers by status, failures by number of the request, memory after warm-up and at the end."""
    growth = end / warm - 1
    examples = ", ".join(
        f"{FAILURES.get(status, status)} to {number}" for number, status in sorted(failed.items())[:5]
    )
    return Row(
        f"{sum(counts.values()):,} mutated bodies",
        (
            Claim(
                "answers",
                f"{described(counts)}{f' (such as {examples})' if failed else ''}",
                "all answered, no 5xx",
                not failed,
            ),
            Claim(
                "memory",
                f"{warm:.1f} MB warm, {end:.1f} MB at the end: {growth:+.1%}",
                f"grows by less than {MOST_GROWTH:.0%}",
                growth < MOST_GROWTH,
            ),
        ),
        (f"longest {longest:.1f} s",),
        {
            "counts": {str(status): count for status, count in counts.items()},
            "failed": {str(number): status for number, status in failed.items()},
            "warm_mb": warm,
            "end_mb": end,
        },
    )


@cache
def bodies() -> tuple[tuple[Body, ...], ...]:
    """Whole bodies, a group for each kind."""
    files: dict[str, list[bytes]] = {format: [] for format in FORMATS}
    sheets = []
    for number in range(VARIANTS):
        random = np.random.default_rng(40_000 + number)
        style = replace(random_style(number, random), side=int(random.integers(40, 160)))
        picture = render(number, style, random)
        for format in FORMATS:
            files[format].append(encoded(picture, format))
        sheets.append(255 - np.asarray(picture.convert("L").resize((28, 28))))
    groups: list[list[Body]] = []
    for format in FORMATS:
        groups.append([("/classify", f"image/{format.lower()}", file) for file in files[format]])
    pngs, mixed = files["PNG"], [files[format][0] for format in FORMATS]
    in_base64 = [base64.b64encode(file).decode() for file in pngs]
    groups.append([("/classify", FORM, form([file])) for file in pngs])
    groups.append([("/classify/batch", FORM, form([file, *mixed])) for file in pngs])
    groups.append([("/classify", "application/json", as_json(image=text, seed=7)) for text in in_base64])
    groups.append(
        [("/classify/batch", "application/json", as_json(images=[text, text])) for text in in_base64]
    )
    groups.append([("/classify", "application/json", as_json(pixels=sheet.tolist())) for sheet in sheets])
    groups.append(
        [("/classify/batch", "application/json", as_json(pixels=[sheet.tolist()] * 2)) for sheet in sheets]
    )
    groups.append([("/classify", "application/octet-stream", sheet.tobytes()) for sheet in sheets])
    groups.append([("/classify/batch", "application/octet-stream", sheet.tobytes() * 3) for sheet in sheets])
    return tuple(tuple(group) for group in groups)


def form(files: list[bytes]) -> bytes:
    """A multipart form with files and an option."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{number}"\r\n\r\n'.encode()
        + file
        + b"\r\n"
        for number, file in enumerate(files)
    ]
    option = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="seed"\r\n\r\n7\r\n--{BOUNDARY}--\r\n'
    return b"".join([*parts, option.encode()])


def as_json(**document: object) -> bytes:
    return json.dumps(document).encode()


def _place(data: bytes, random: np.random.Generator) -> int:
    """A place in the data; every second one near the beginning, where formats keep what matters."""
    return int(random.integers(min(len(data), 64) if random.random() < 0.5 else len(data)))


def flip(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 9))):
        changed[_place(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def truncate(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    return data[: _place(data, random)]


def splice(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    return data[: _place(data, random)] + other[_place(other, random) :]


def insert(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    at = _place(data, random)
    added: bytes = random.bytes(int(random.integers(1, 65)))
    return data[:at] + added + data[at:]


def repeat(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    begin, end = sorted((_place(data, random), _place(data, random)))
    return data[:end] + data[begin:]


def remove(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    begin, end = sorted((_place(data, random), _place(data, random)))
    return data[:begin] + data[end:]


def lengths(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    size = int(random.choice([1, 2, 4]))
    at, most = _place(data, random), (1 << 8 * size) - 1
    value = [0, 1, most, most - 1, most // 2, most // 2 + 1][int(random.integers(6))]
    return data[:at] + value.to_bytes(size, "big" if random.random() < 0.5 else "little") + data[at + size :]


MUTATIONS: tuple[Callable[[bytes, bytes, np.random.Generator], bytes], ...] = (
    flip, truncate, splice, insert, repeat, remove, lengths,
)  # fmt: skip


def mutation(number: int) -> bytes:
    """The request of a number."""
    random = np.random.default_rng([SEED, number])
    groups = bodies()
    group = groups[number % len(groups)]
    path, content_type, data = group[int(random.integers(len(group)))]
    kind = int(random.integers(32))
    if kind == 1:
        stranger = groups[int(random.integers(len(groups)))]
        path, content_type, _ = stranger[0]
    if kind != 0:
        for _ in range(int(random.integers(1, 4))):
            _, _, other = group[int(random.integers(len(group)))]
            if data:
                data = MUTATIONS[int(random.integers(len(MUTATIONS)))](data, other, random)
    return post(path, content_type, data)
