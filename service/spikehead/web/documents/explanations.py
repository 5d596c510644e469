"""Explanations of each kind of problem, and what to do about it, for `GET /problems/{kind}`: text for people."""

from __future__ import annotations

from typing import NamedTuple


class Explanation(NamedTuple):
    """Cause and remedy of one kind of problem."""

    cause: str
    remedy: str


EXPLANATIONS: dict[str, Explanation] = {
    "empty-body": Explanation(
        "There is nothing in the body, in the form's file, or in the base64 text.",
        "Send the picture as the body, with curl by --data-binary @FILE. Check that the file is not empty, "
        "and that no redirect has dropped the body on its way.",
    ),
    "malformed-request": Explanation(
        "What came over the connection is not HTTP/1.1: a broken head, a wrong Content-Length or chunk, or "
        "another protocol, such as TLS.",
        "Ask http:// at this port, or https:// at the proxy in front of it, with an HTTP client. The "
        "connection is closed: open a new one.",
    ),
    "malformed-body": Explanation(
        "The body is not what its Content-Type says: JSON that cannot be parsed or has other types than are "
        "asked for, a form that is cut short or has no boundary, text that is not base64.",
        "Let a library write the JSON and the base64, and let the client set the form's Content-Type by "
        "itself, as curl does with -F image=@FILE.",
    ),
    "unauthorized": Explanation(
        "The service asks for an API key, and the request has none, or one that is not valid (any more).",
        "Send a key in the header X-API-Key or as Authorization: Bearer KEY; a browser that asks for a name "
        "and a password takes it as the password. Keys are given out by those who run the service "
        "(SPIKEHEAD_API_KEYS).",
    ),
    "not-found": Explanation(
        "The service has no route of that path, or no part of that name.",
        "Compare the path with the interface's description, /docs. Behind a proxy that serves it under a "
        "path, SPIKEHEAD_ROOT_PATH has to be that path.",
    ),
    "unknown-model": Explanation(
        "No model of that name is loaded.",
        "Take one of GET /models, or leave the option `model` out. Whoever runs the service adds models in "
        "SPIKEHEAD_MODELS; the log says why one is passed over or refused.",
    ),
    "unknown-request": Explanation(
        "No record has that id: it was deleted or has become too old, was never recorded, or belongs to "
        "another service's database.",
        "Take an id of GET /spikes. Send record=required where the record has to be there before the answer.",
    ),
    "model-changed": Explanation(
        "The request was answered by another version of the model than the one that is loaded now, and only "
        "that one gives the same spikes.",
        "Ask for the request without `include`: what was answered is still there. For replays and figures, "
        "load the version of the model that has answered.",
    ),
    "no-such-figure": Explanation(
        "The model has nothing of that kind to draw: a network without attention has no heads, a "
        "conventional one no decay kernels.",
        "Take another `kind`. GET /models/{name} says what the model consists of.",
    ),
    "method-not-allowed": Explanation(
        "The path is there, and takes other methods.",
        "Use one that the header Allow names. A client that follows a redirect may have made a GET of a "
        "POST.",
    ),
    "too-slow": Explanation(
        "The head or the body of the request did not come in time, for each of which there is a limit.",
        "Send what is to be sent at once, and in one go. Over slow networks, smaller pictures or batches "
        "help; whoever runs the service may raise SPIKEHEAD_CLIENT_TIMEOUT.",
    ),
    "body-too-large": Explanation(
        "The body has more bytes than the route takes.",
        "Send a smaller picture: some hundred pixels a side are more than is needed. Split a batch. The "
        "limits are SPIKEHEAD_MAX_BODY and SPIKEHEAD_MAX_BATCH_BODY.",
    ),
    "too-many-images": Explanation(
        "The batch has more pictures than a request may have; where a raster is asked for, fewer are "
        "allowed.",
        "Split the batch. The limits are SPIKEHEAD_MAX_BATCH_IMAGES and SPIKEHEAD_MAX_RASTER_IMAGES.",
    ),
    "image-too-large": Explanation(
        "The picture's width times its height is over the limit, however small its file is.",
        "Scale the picture down before it is sent. The limit is SPIKEHEAD_MAX_PIXELS.",
    ),
    "head-too-large": Explanation(
        "The request's target and headers, or what comes behind a chunked body, are over the limit.",
        "Send pictures in the body and not in the address, and leave out cookies of other services on the "
        "same host.",
    ),
    "unsupported-media-type": Explanation(
        "The Content-Type, or a Content-Encoding, is none that is read here.",
        "Name what the body is, such as Content-Type: image/png, and send it without compression.",
    ),
    "unsupported-image-format": Explanation(
        "The file is a picture in a format that is not read here, such as TIFF, HEIF or SVG.",
        "Save the picture as PNG or JPEG.",
    ),
    "unreadable-image": Explanation(
        "The file begins as a picture and is cut short or damaged, or it is no picture at all.",
        "Open the file in a viewer. If it is whole there, check that it is sent as bytes (--data-binary, "
        "not -d) and that nothing has changed them as text.",
    ),
    "animated-image": Explanation(
        "The file has several frames, and it is not said which of them is the digit.",
        "Save one frame as a picture of its own.",
    ),
    "blank-image": Explanation(
        "All of the picture is about equally bright: there is nothing to read.",
        "Check that the drawing is in the picture and differs from its paper, also if it is drawn on a "
        "transparent ground.",
    ),
    "wrong-size": Explanation(
        "A body of raw pixels has 784 bytes for each picture: 28 rows of 28, a byte each.",
        "Send 784 bytes, or a multiple of that to /classify/batch. If the body is a picture's file, name "
        "its type, such as Content-Type: image/png.",
    ),
    "wrong-pixels": Explanation(
        "An array of pixels has 28 rows of 28 whole numbers from 0 to 255, bright ink on a dark ground.",
        "Convert the values: numbers from 0 to 1 are multiplied by 255 and rounded.",
    ),
    "missing-image": Explanation(
        "The JSON or the form has no picture, or has it twice.",
        "Send the picture once: as `image` (base64) or `pixels` (an array) in JSON, as a file in a form, as "
        "`images` or `pixels` for a batch.",
    ),
    "too-many-files": Explanation(
        "The form has several files, and the route answers for one picture.",
        "Send one file, or all of them to /classify/batch.",
    ),
    "unknown-option": Explanation(
        "The query, the JSON or the form names an option that the route does not have: most often a "
        "misspelling.",
        "Take the names from the list in `expected`.",
    ),
    "invalid-option": Explanation(
        "An option has a value of another type, outside of its limits, or none that is known.",
        "Send a value as `expected` describes it, or leave the option out to get its default.",
    ),
    "conflicting-option": Explanation(
        "The same option is given several times, with different values: in the query and in the body, for "
        "example.",
        "Give it once.",
    ),
    "unknown-layer": Explanation(
        "The raster of a layer is asked for that the model does not have.",
        "Take names of the list in `expected`, or raster=all. Layers differ from model to model: see GET "
        "/models.",
    ),
    "overloaded": Explanation(
        "As many requests as the service takes up at a time are under way, and as many as may wait are "
        "waiting.",
        "Ask again after the seconds that the header Retry-After names, a little later each time. If it "
        "lasts: more processes (SPIKEHEAD_WORKERS), or a longer queue (SPIKEHEAD_MAX_QUEUE).",
    ),
    "rate-limited": Explanation(
        "This key, or this address, has asked more often than each may.",
        "Ask again after the seconds that the header Retry-After names. If many clients come through one "
        "proxy, SPIKEHEAD_TRUSTED_PROXIES has to name it, or all of them count as one.",
    ),
    "internal-error": Explanation(
        "The service has a fault that this request has met.",
        "The log has its trace, under the id that the answer names as `request_id`. Report both, with the "
        "request if that is possible.",
    ),
    "no-figures": Explanation(
        "Figures are drawn by matplotlib, which is not installed where the service runs.",
        "Install it (pip install 'spikehead[figures]') and start the service again.",
    ),
    "not-recorded": Explanation(
        "The request asked for record=required, and its record could not be stored in time: the records "
        "database is unavailable or slow, or recording is switched off.",
        "Ask again later, or without record=required. GET /health/ready and the log say what is wrong with "
        "the database. If it was slow or away, the record may still be stored once it is back: a picture's has "
        "the id that this problem names as request_id, unless you sent one of your own.",
    ),
    "records-away": Explanation(
        "The records database is unavailable: it cannot be reached, is locked, full or damaged. Pictures "
        "are classified all the same.",
        "Ask again later. GET /health/ready and the log say what is wrong with the database "
        "(SPIKEHEAD_DATABASE_URL).",
    ),
    "not-ready": Explanation(
        "The service has started, and still loads its models.",
        "Ask again in some seconds. Balancers should ask GET /health/ready and send nothing before that "
        "answers 200.",
    ),
    "shutting-down": Explanation(
        "The service was told to end, and could not finish this request, or takes no more of them.",
        "Ask again: another process, or the one that takes its place, answers.",
    ),
    "timed-out": Explanation(
        "The answer was not ready in time, mostly because many others came before it.",
        "Ask again later, or for less: a smaller batch, fewer steps, no raster. The limit is "
        "SPIKEHEAD_TIMEOUT.",
    ),
}
"""Explanations of every kind in `spikehead.errors.KINDS`."""
