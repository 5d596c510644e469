"""Two services to compare with, each the least that does the job: `uvicorn benchmarks.bare:constant` and `:lenet`."""

from __future__ import annotations

import io
import json

import numpy as np
from fastapi import FastAPI, Request, Response
from PIL import Image

from benchmarks.contenders import lenet5, session

ANSWER = json.dumps({"prediction": 3, "confidence": 0.9}).encode()

constant = FastAPI()


@constant.post("/classify")
async def answer(request: Request) -> Response:
    """Reads the body and returns a constant."""
    await request.body()
    return Response(ANSWER, media_type="application/json")


lenet = FastAPI()
_session = session(lenet5())


@lenet.post("/classify")
async def classify(request: Request) -> Response:
    """LeNet-5 under onnxruntime on a PNG, by hand."""
    picture = Image.open(io.BytesIO(await request.body()))
    pixels = np.asarray(picture, np.float32).reshape(1, 1, 28, 28) / np.float32(255)
    scores = _session.run(None, {"intensities": pixels})[0][0]
    exponentials = np.exp(scores - scores.max())
    probabilities = exponentials / exponentials.sum()
    best = int(probabilities.argmax())
    body = {
        "prediction": best,
        "confidence": float(probabilities[best]),
        "probabilities": probabilities.tolist(),
    }
    return Response(json.dumps(body), media_type="application/json")
