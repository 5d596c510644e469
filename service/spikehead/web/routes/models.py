"""The models and their cards."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from spikehead.inference.simulator import Simulator
from spikehead.web.documents import examples, openapi, schemas
from spikehead.web.routes.common import json, service_of

router = APIRouter()


def _model_summary(simulator: Simulator) -> dict[str, Any]:
    card = simulator.card
    return {
        "name": card.name,
        "version": card.version,
        "description": card.description,
        "engine": simulator.engine.name,
        "max_steps": card.max_steps,
        "confidence": card.calibration.confidence,
        "layers": card.layer_names,
    }


@router.get(
    "/models",
    tags=["models"],
    summary="Models",
    response_class=Response,
    responses=openapi.answers(schemas.ModelList, examples.MODELS, ["not-ready"], "What can be asked for"),
)
async def models(request: Request) -> Response:
    """The models that the service answers with, and which one is the default."""
    loaded = service_of(request).models
    return json({"default": loaded.default, "models": [_model_summary(simulator) for simulator in loaded]})


@router.get(
    "/models/{name}",
    tags=["models"],
    summary="One model",
    response_class=Response,
    responses=openapi.answers(
        schemas.ModelCard,
        examples.MODEL_CARD,
        ["unknown-model", "not-ready"],
        "Its card, and what simulates it",
    ),
)
async def model(request: Request, name: Annotated[str, Path(examples=["spiking-mha"])]) -> Response:
    """A model's card: layers, time constants, calibration, accuracy, how it was trained."""
    simulator = service_of(request).models.get(name)
    return json({"engine": simulator.engine.name, "card": simulator.card})
