"""Parts of the OpenAPI document about bodies, options and errors, with an example for each."""

from __future__ import annotations

from typing import Any

from spikehead.errors import KINDS, MEDIA_TYPE, example
from spikehead.web.documents import examples, schemas

JSON = "application/json"

EMPTY = {"type": "string", "maxLength": 0}
"""The schema of a query's option without a value."""

_NOTES = ("title", "description", "default", "examples", "deprecated")
"""Parts of a schema that do not restrict values."""

OPEN = "/health/"
"""Beginning of the routes that need no key and have no limits."""

ANY_IMAGE = [
    "unreadable-image",
    "animated-image",
    "blank-image",
    "wrong-size",
    "wrong-pixels",
    "missing-image",
]
ANY_OPTION = ["unknown-option", "invalid-option", "conflicting-option", "unknown-layer"]
ANY_BODY = [
    "empty-body", "malformed-request", "malformed-body", "too-slow", "head-too-large", "body-too-large",
    "unsupported-media-type",
]  # fmt: skip
ANY_REQUEST = ["unauthorized", "rate-limited", "internal-error", "timed-out"]
"""Problems of any route but those of health."""
CLASSIFY_PROBLEMS = [
    *ANY_BODY, "unknown-model", "image-too-large", "unsupported-image-format", *ANY_IMAGE, "too-many-files",
    *ANY_OPTION, "overloaded", "not-recorded", "not-ready",
]  # fmt: skip
BATCH_PROBLEMS = [kind for kind in CLASSIFY_PROBLEMS if kind != "too-many-files"] + ["too-many-images"]


STREAM = 'event: step\ndata: {"step":1,...}\n\nevent: result\ndata: {"id":...}\n\n'
"""An answer as server-sent events."""


def answers(
    model: type[Any],
    answer: Any,
    problems: list[str],
    description: str,
    besides: dict[str, Any] | None = None,
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: its answer, in all media types, and its problems by their status."""
    content = {JSON: {"example": answer}, **(besides or {})}
    good = {"model": model, "description": description, "content": content}
    return {200: good} | refusals(problems)


def refusals(problems: list[str]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that are problems, by their status."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in problems:
        status: int | str = KINDS[kind].status
        schema = {"$ref": "#/components/schemas/ProblemDocument"}
        response = responses.setdefault(
            status, {"description": "", "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}}}
        )
        response["content"][MEDIA_TYPE]["examples"][kind] = {
            "summary": KINDS[kind].title,
            "value": example(kind),
        }
    for response in responses.values():
        response["description"] = _titles(response["content"][MEDIA_TYPE]["examples"])
    return responses


def _required(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema without the `null` that stands for "not given"."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    without = ("anyOf", "default", "description", "title")
    rest = {name: value for name, value in schema.items() if name not in without}
    return {**(kinds[0] if kinds else {}), **rest}


def _option_schemas(options: type[schemas.ClassifyOptions]) -> dict[str, dict[str, Any]]:
    properties = options.model_json_schema()["properties"]
    return {name: _required(one) | {"description": one["description"]} for name, one in properties.items()}


_EXAMPLES = {
    "model": "spiking-mha", "max_steps": 16, "confidence": 0.9, "seed": 7, "encoder": "bernoulli", "raster": "output",
    "record": "yes", "on_error": "report",
}  # fmt: skip


def option_parameters(
    options: type[schemas.ClassifyOptions] = schemas.ClassifyOptions,
) -> list[dict[str, Any]]:
    """Return the options as query parameters."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description"),
            "schema": schema,
            "example": _EXAMPLES[name],
        }
        for name, schema in _option_schemas(options).items()
    ]


_BASE64 = {
    "type": "string",
    "minLength": 1,
    "description": "A picture in base64 (either alphabet, with or without padding), plain or as a data URL.",
}
_28: dict[str, Any] = {"type": "array", "minItems": 28, "maxItems": 28}
_PIXELS = {
    **_28,
    "items": {**_28, "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    "description": "28 rows of 28 whole numbers, ink bright on dark as in MNIST; used unchanged.",
}


def _object(name: str, schema: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    properties = {name: schema, **options}
    return {"type": "object", "required": [name], "properties": properties, "additionalProperties": False}


def _binary(description: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": description}


def classify_body() -> dict[str, Any]:
    """Return the `requestBody` of `POST /classify`."""
    options = _option_schemas(schemas.ClassifyOptions)
    content: dict[str, Any] = {
        media_type: {"schema": _binary("The picture's file."), "example": "(the bytes of the file)"}
        for media_type in ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif")
    }
    content["application/octet-stream"] = {
        "schema": {**_binary("784 bytes, row by row, used unchanged."), "minLength": 784, "maxLength": 784},
        "example": "(784 bytes)",
    }
    content["multipart/form-data"] = {
        "schema": _object("image", _binary("The picture's file, or its base64."), options),
        "example": {"image": "(the bytes of the file)", "seed": 7},
    }
    content["application/x-www-form-urlencoded"] = {
        "schema": _object("image", _BASE64, options),
        "example": {"image": examples.PNG_BASE64, "seed": 7},
    }
    content[JSON] = {
        "schema": {"oneOf": [_object("image", _BASE64, options), _object("pixels", _PIXELS, options)]},
        "examples": {
            "image": {
                "summary": "base64",
                "value": {"image": examples.PNG_BASE64, "seed": 7, "raster": "output"},
            },
            "pixels": {"summary": "pixels", "value": {"pixels": examples.PIXELS, "seed": 7}},
        },
    }
    return {"required": True, "content": content}


def batch_body() -> dict[str, Any]:
    """Return the `requestBody` of `POST /classify/batch`."""
    options = _option_schemas(schemas.BatchOptions)
    item = {"oneOf": [_BASE64, _PIXELS, _object("image", _BASE64, {}), _object("pixels", _PIXELS, {})]}
    pictures = {"type": "array", "minItems": 1, "items": item}
    pixels = {"type": "array", "minItems": 1, "items": _PIXELS}
    files = {"type": "array", "minItems": 1, "items": _binary("A picture's file.")}
    content = {
        "application/octet-stream": {
            "schema": {**_binary("N times 784 bytes, used unchanged."), "minLength": 784},
            "example": "(N times 784 bytes)",
        },
        "multipart/form-data": {
            "schema": _object("images", files, options),
            "example": {"images": ["(the bytes of the first file)", "(of the second)"], "seed": 7},
        },
        "application/x-www-form-urlencoded": {
            "schema": _object("images", {"type": "array", "minItems": 1, "items": _BASE64}, options),
            "example": {"images": [examples.PNG_BASE64] * 2, "on_error": "report"},
        },
        JSON: {
            "schema": {"oneOf": [_object("images", pictures, options), _object("pixels", pixels, options)]},
            "examples": {
                "images": {"summary": "base64", "value": {"images": [examples.PNG_BASE64] * 2, "seed": 7}},
                "pixels": {"summary": "pixels", "value": {"pixels": [examples.PIXELS], "seed": 7}},
            },
        },
    }
    return {"required": True, "content": content}


def complete(document: dict[str, Any], locked: bool = False, root_path: str = "") -> dict[str, Any]:
    """Add the problem's schema to the generated document, and remove FastAPI's own errors.

    `locked`: the service requires keys. `root_path`: the path of all routes.
    """
    if root_path:
        document["servers"] = [{"url": root_path}]
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components["ProblemDocument"] = schemas.ProblemDocument.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            default = operation["responses"].get("422", {}).get("content", {})
            if JSON in default:
                del operation["responses"]["422"]
            if not path.startswith(OPEN):
                _add(operation["responses"], ANY_REQUEST)
            for parameter in operation.get("parameters", ()):
                _allow_empty(parameter)
    if locked:
        _secure(document)
    return document


def _allow_empty(parameter: dict[str, Any]) -> None:
    """Allow an empty option of the query, which a page's form sends and which counts as not given."""
    schema = parameter["schema"]
    if parameter["in"] != "query" or parameter.get("required"):
        return
    if "anyOf" not in schema:
        values = {name: schema.pop(name) for name in list(schema) if name not in _NOTES}
        schema["anyOf"] = [values]
    schema["anyOf"].append(EMPTY)


def _add(responses: dict[str, Any], problems: list[str]) -> None:
    """Add problems to the responses of an operation."""
    for status, more in refusals(problems).items():
        known = responses.setdefault(str(status), more)
        if known is not more:
            kinds = known["content"][MEDIA_TYPE]["examples"]
            kinds.update(more["content"][MEDIA_TYPE]["examples"])
            known["description"] = _titles(kinds)


def _titles(kinds: dict[str, Any]) -> str:
    return ". ".join(kind["summary"] for kind in kinds.values()) + "."


def _secure(document: dict[str, Any]) -> None:
    """Require a key for every operation but those of health."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "basic": {"type": "http", "scheme": "basic", "description": "The key is the password."},
    }
    document["security"] = [{name: []} for name in document["components"]["securitySchemes"]]
    for path, operations in document["paths"].items():
        if path.startswith(OPEN):
            for operation in operations.values():
                operation["security"] = []
