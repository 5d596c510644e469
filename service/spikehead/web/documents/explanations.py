"""Causes and remedies of each kind of problem, as `GET /problems/{kind}` shows them."""

from __future__ import annotations

from typing import NamedTuple


class Explanation(NamedTuple):
    """Cause and remedy of one kind of problem."""

    cause: str
    remedy: str


EXPLANATIONS: dict[str, Explanation] = {
    "empty-body": Explanation(
        "The body, the form's file or the base64 text is empty.",
        "Send the picture as the body (curl --data-binary @FILE). Check that the file is not empty and that no "
        "redirect has dropped the body.",
    ),
    "malformed-request": Explanation(
        "The bytes received are not HTTP/1.1: a broken head, a wrong Content-Length or chunk, or another "
        "protocol such as TLS.",
        "Use an HTTP client, with http:// for this port or https:// for the proxy in front of it. The connection "
        "has been closed: open a new one.",
    ),
    "malformed-body": Explanation(
        "The body does not match its Content-Type: JSON that cannot be parsed or has values of the wrong type, a "
        "form that is cut short or has no boundary, or text that is not base64.",
        "Let a library write the JSON and the base64, and let the client set the form's Content-Type, as curl "
        "does with -F image=@FILE.",
    ),
    "unauthorized": Explanation(
        "The service requires an API key. The request has none, or its key is not valid.",
        "Send a key in the header X-API-Key or as Authorization: Bearer KEY. If a browser asks for a name and a "
        "password, enter the key as the password. The operator of the service sets the keys (SPIKEHEAD_API_KEYS).",
    ),
    "not-found": Explanation(
        "The service has no such route, or no file or kind of that name.",
        "Compare the path with the documentation at /docs. If a proxy serves the service under a path, set "
        "SPIKEHEAD_ROOT_PATH to that path.",
    ),
    "unknown-model": Explanation(
        "No model of that name is loaded.",
        "Choose a model from GET /models, or leave the option `model` out. Models are loaded from the folder "
        "SPIKEHEAD_MODELS; the log says why one is skipped or refused.",
    ),
    "unknown-request": Explanation(
        "No record has that id: it was deleted, has expired, was never stored, or is in another service's "
        "database.",
        "Use an id from GET /spikes. Send record=required if the record must be stored before the answer is sent.",
    ),
    "model-changed": Explanation(
        "The request was answered by another version of the model than the one that is loaded now. Only the same "
        "version gives the same spikes.",
        "Leave `include` out to get the stored answer. For replays and figures, load the version of the model "
        "that answered the request.",
    ),
    "no-such-figure": Explanation(
        "The model has nothing of that kind to draw: a network without attention has no heads, and a "
        "conventional network has no decay kernels.",
        "Choose another `kind`. GET /models/{name} describes the model.",
    ),
    "method-not-allowed": Explanation(
        "The path exists, but does not support this method.",
        "Use a method listed in the header Allow. A client that follows a redirect may have turned a POST into a "
        "GET.",
    ),
    "too-slow": Explanation(
        "The head or the body of the request did not arrive in time.",
        "Send the whole request without pauses. On slow networks, send smaller pictures or batches, or raise "
        "SPIKEHEAD_CLIENT_TIMEOUT.",
    ),
    "body-too-large": Explanation(
        "The body has more bytes than the route accepts.",
        "Send a smaller picture (a few hundred pixels a side are enough), or split the batch. The limits are "
        "SPIKEHEAD_MAX_BODY and SPIKEHEAD_MAX_BATCH_BODY.",
    ),
    "too-many-images": Explanation(
        "The batch has more pictures than a request may have. With a raster, fewer are allowed.",
        "Split the batch. The limits are SPIKEHEAD_MAX_BATCH_IMAGES and SPIKEHEAD_MAX_RASTER_IMAGES.",
    ),
    "image-too-large": Explanation(
        "The picture's width times its height is over the limit, even if its file is small.",
        "Scale the picture down before sending it. The limit is SPIKEHEAD_MAX_PIXELS.",
    ),
    "head-too-large": Explanation(
        "The request's target and headers, or the trailers of a chunked body, are too large.",
        "Send pictures in the body, not in the URL, and leave out cookies of other services on the same host.",
    ),
    "unsupported-media-type": Explanation(
        "The service does not support the Content-Type or the Content-Encoding.",
        "Set the Content-Type to that of the body, such as image/png, and send it without compression.",
    ),
    "unsupported-image-format": Explanation(
        "The file is a picture in a format that the service does not read, such as TIFF, HEIF or SVG.",
        "Convert the picture to PNG or JPEG.",
    ),
    "unreadable-image": Explanation(
        "The file is cut short or damaged, or it is not a picture.",
        "Open the file in a viewer. If it is intact there, check that it is sent unchanged (curl --data-binary, "
        "not -d) and that nothing treats its bytes as text.",
    ),
    "animated-image": Explanation(
        "The file has several frames, and the service cannot tell which of them is the digit.",
        "Save one frame as a picture, and send that.",
    ),
    "blank-image": Explanation(
        "The whole picture is about equally bright: there is nothing to read.",
        "Check that the picture shows the drawing and that its ink differs from the paper, including on a "
        "transparent background.",
    ),
    "wrong-size": Explanation(
        "A body of raw pixels must have 784 bytes for each picture: 28 rows of 28 pixels, one byte each.",
        "Send 784 bytes, or a multiple of 784 to /classify/batch. If the body is a picture file, set its type, "
        "such as Content-Type: image/png.",
    ),
    "wrong-pixels": Explanation(
        "An array of pixels must have 28 rows of 28 whole numbers from 0 to 255, bright ink on a dark background.",
        "Convert the values: multiply numbers from 0 to 1 by 255 and round them.",
    ),
    "missing-image": Explanation(
        "The JSON or the form has no picture, or has it both as `image` and as `pixels`.",
        "Send the picture once: as `image` (base64) or `pixels` (an array) in JSON, or as a file in a form. A "
        "batch has `images` or `pixels`.",
    ),
    "too-many-files": Explanation(
        "The form has several files, but the route classifies one picture.",
        "Send one file, or send all of them to /classify/batch.",
    ),
    "unknown-option": Explanation(
        "The query, the JSON or the form names an option that the route does not have, often because of a typo.",
        "Use the names listed in `expected`.",
    ),
    "invalid-option": Explanation(
        "An option has a value of the wrong type, outside its limits, or not in its list.",
        "Send a value as described in `expected`, or leave the option out to use its default.",
    ),
    "conflicting-option": Explanation(
        "The same option has several different values, for example in the query and in the body.",
        "Set the option once.",
    ),
    "unknown-layer": Explanation(
        "The option `raster` names a layer that the model does not have.",
        "Use the names listed in `expected`, or raster=all. Each model has its own layers: see GET /models.",
    ),
    "overloaded": Explanation(
        "The service is processing as many requests as it can, and its queue is full.",
        "Try again after the number of seconds in the header Retry-After, and wait longer each time. If this "
        "persists, add processes (SPIKEHEAD_WORKERS) or lengthen the queue (SPIKEHEAD_MAX_QUEUE).",
    ),
    "rate-limited": Explanation(
        "This key or this address has sent more requests than SPIKEHEAD_RATE_LIMIT allows.",
        "Try again after the number of seconds in the header Retry-After. If many clients come through one proxy, "
        "list it in SPIKEHEAD_TRUSTED_PROXIES, or they all count as one.",
    ),
    "internal-error": Explanation(
        "The request hit a bug in the service.",
        "The log has a traceback under the `request_id` of this problem. Report both, with the request if "
        "possible.",
    ),
    "no-figures": Explanation(
        "Figures need matplotlib, which is not installed where the service runs.",
        "Install it (pip install 'spikehead[figures]') and restart the service.",
    ),
    "not-recorded": Explanation(
        "The request asked for record=required, but its record could not be stored in time: the records "
        "database is unavailable or slow, or recording is switched off.",
        "Try again later, or without record=required. GET /health/ready and the log say what is wrong with the "
        "database. If it was slow or unavailable, the record may still be stored later: a single picture's has "
        "the `request_id` of this problem as its id, unless the request brought its own.",
    ),
    "records-away": Explanation(
        "The records database is unavailable: it cannot be reached, is locked, full or damaged. Pictures "
        "are still classified.",
        "Try again later. GET /health/ready and the log say what is wrong with the database "
        "(SPIKEHEAD_DATABASE_URL).",
    ),
    "not-ready": Explanation(
        "The service has started and is still loading its models.",
        "Try again in a few seconds. Load balancers should send no requests until GET /health/ready answers 200.",
    ),
    "shutting-down": Explanation(
        "The service was told to stop, and could not finish this request or accepts no more requests.",
        "Try again: another process, or the one that replaces this one, will answer.",
    ),
    "timed-out": Explanation(
        "The answer was not ready in time, usually because many other requests came first.",
        "Try again later, or ask for less: a smaller batch, fewer steps, no raster. The limit is SPIKEHEAD_TIMEOUT.",
    ),
}
"""One for each kind in `spikehead.errors.KINDS`."""
