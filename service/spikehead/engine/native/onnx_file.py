"""Reads what the native engine needs of an ONNX file: nodes, weights, inputs and outputs. Needs no onnx package.

A reader of the protobuf wire format for the few messages of `onnx.proto` that the export writes. Whatever else
a file holds, however broken it is, ends in a GraphError, never in a crash.
Source: https://protobuf.dev/programming-guides/encoding/ and onnx/onnx.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    3: np.dtype("i1"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
}
"""ONNX's data types that the export uses: FLOAT, INT8, INT32, INT64."""

Attribute = int | float | bytes | tuple[int, ...] | None


class GraphError(ValueError):
    """The graph is not one that this project's export writes. The message says what was expected and found."""


@dataclass(frozen=True)
class Node:
    """One operation."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


@dataclass
class OnnxFile:
    """The parts of a model that decide what it computes."""

    opsets: dict[str, int] = field(default_factory=dict)  # domain to version
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


Fields = Iterator[tuple[int, int, Any]]


def _fields(data: memoryview) -> Fields:
    """(number, wire type, value) of each field of a message. Raises GraphError where it is cut off."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise GraphError(f"expected a field of a known wire type, found type {wire}")
        if size > end - at:
            raise GraphError(f"expected {size} bytes of a field, found the end after {end - at}")
        yield number, wire, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise GraphError("expected a number, found the end of the file")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise GraphError("expected a number of at most 64 bits, found a longer one")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _text(value: Any) -> str:
    data = bytes(_message(value))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GraphError(f"expected a name in UTF-8, found {data[:40]!r}") from error


def _message(value: Any) -> memoryview:
    if not isinstance(value, memoryview):
        raise GraphError("expected a message, found a number")
    return value


def _numbers(wire: int, value: Any) -> list[int]:
    """Repeated int64: one value, or several packed."""
    if wire == _VARINT:
        return [_signed(value)]
    numbers, at = [], 0
    data = _message(value)
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(_signed(number))
    return numbers


def read(data: bytes) -> OnnxFile:
    """Parse a file. Raises GraphError."""
    result = OnnxFile()
    graphs = []
    for number, _, value in _fields(memoryview(data)):
        if number == 7:
            graphs.append(_message(value))
        elif number == 8:
            domain, version = _opset(_message(value))
            result.opsets[domain] = version
    if len(graphs) != 1:
        raise GraphError(f"expected one graph in the file, found {len(graphs)}")
    for number, _, value in _fields(graphs[0]):
        if number == 1:
            result.nodes.append(_node(_message(value)))
        elif number == 5:
            name, array = _tensor(_message(value))
            if name in result.weights:
                raise GraphError(f"expected one tensor named {name}, found two")
            result.weights[name] = array
        elif number == 11:
            result.inputs.append(_value_name(_message(value)))
        elif number == 12:
            result.outputs.append(_value_name(_message(value)))
        elif number == 15:
            raise GraphError("expected dense weights, found sparse ones")
    return result


def _opset(data: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, _, value in _fields(data):
        if number == 1:
            domain = _text(value)
        elif number == 2:
            version = _number(value)
    return domain, version


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise GraphError("expected a number, found bytes")
    return _signed(value)


def _value_name(data: memoryview) -> str:
    for number, _, value in _fields(data):
        if number == 1:
            return _text(value)
    raise GraphError("expected a name of an input or output, found none")


def _node(data: memoryview) -> Node:
    inputs, outputs, operator, attributes = [], [], "", {}
    for number, _, value in _fields(data):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            operator = _text(value)
        elif number == 5:
            name, attribute = _attribute(_message(value))
            attributes[name] = attribute
        elif number == 7 and (domain := _text(value)):
            raise GraphError(f"expected operators of ONNX itself, found one of {domain!r}")
    return Node(operator, tuple(inputs), tuple(outputs), attributes)


def _attribute(data: memoryview) -> tuple[str, Attribute]:
    name = ""
    value: Attribute = None
    several: list[int] = []
    for number, wire, content in _fields(data):
        if number == 1:
            name = _text(content)
        elif number == 2 and wire == _FIXED32:
            value = float(struct.unpack("<f", content)[0])
        elif number == 3:
            value = _number(content)
        elif number == 4:
            value = bytes(_message(content))
        elif number == 8:
            several += _numbers(wire, content)
        elif number not in (20, 13):  # its type, its documentation
            raise GraphError(f"expected a number, text or a list of numbers in attribute {name!r}")
    return name, tuple(several) if several else value


def _tensor(data: memoryview) -> tuple[str, NDArray[Any]]:
    name, kind, raw = "", 0, None
    shape: list[int] = []
    for number, wire, value in _fields(data):
        if number == 1:
            shape += _numbers(wire, value)
        elif number == 2:
            kind = _number(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = _message(value)
        elif number != 12:  # its documentation
            raise GraphError(f"expected raw data in tensor {name!r}, found field {number}")
    if kind not in _TYPES:
        raise GraphError(f"expected tensor {name!r} of float, int8, int32 or int64, found type {kind}")
    dtype = _TYPES[kind]
    if any(size < 0 for size in shape):
        raise GraphError(f"expected sizes of tensor {name!r} from 0, found {shape}")
    expected = math.prod(shape) * dtype.itemsize
    if raw is None or len(raw) != expected:
        raise GraphError(
            f"expected {expected} bytes in tensor {name!r}, found {0 if raw is None else len(raw)}"
        )
    return name, np.frombuffer(raw, dtype).reshape(shape)
