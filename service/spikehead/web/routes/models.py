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
    responses=openapi.answers(
        schemas.ModelList, examples.MODELS, ["not-ready"], "The models, and the default"
    ),
)
async def models(request: Request) -> Response:
    """List the models of the service, and name the default."""
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
        "Its card, and the engine that simulates it",
    ),
)
async def model(request: Request, name: Annotated[str, Path(examples=["spiking-mha"])]) -> Response:
    """Get a model's card: layers, time constants, calibration, accuracy, training."""
    simulator = service_of(request).models.get(name)
    return json({"engine": simulator.engine.name, "card": simulator.card})
