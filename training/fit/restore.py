"""From an exported model back to a network that can be trained on, for when its checkpoint is gone.

The integers of the step graph become float weights that fold into the same integers again. Batch normalisation
was folded into them: its statistics are measured anew, and its factors chosen such that nothing changes.

The network may be larger than the model. What is new in it drives nothing yet, so that it answers as the model does.
It may also lack attention that the model has: then it answers as the model does with that attention silent, but for
neurons whose potentials reach a threshold exactly, which rounding may tip.
Source: Chen, Goodfellow, Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from spikehead.model.card import ModelError, load_card
from torch import Tensor, nn
from torch.nn import functional as F

from training.data import mnist
from training.fit.train import TrainingSettings
from training.network.spiking import (
    CLASSES,
    Block,
    SpikingNetwork,
    SpikingTransformer,
    Synapses,
    make_network,
)

START = "start.json"
"""In a run's folder: the model with whose weights it began."""

IMAGES = 500
"""Training images by which batch normalisation is measured."""

GROWN_BIAS = -0.7
"""Bias of new neurons, in thresholds: normal currents reach the threshold one time in twenty, as in trained ones."""

GROWING = ("stem", "blocks", "mlp_ratio")
"""Sizes that may be larger than the model's. Others would change what the neurons there are read as."""


def restore_from(
    model: Path,
    settings: TrainingSettings,
    data_root: Path | None,
    sizes: Mapping[str, Any] | None = None,
) -> SpikingNetwork:
    """Return the network of a model folder, as the training that `settings` describe can begin with it.

    `settings` decide on the bits, and if tokens see their neighbours. All else is the model's but for what is in
    `sizes`: some of `GROWING`, `rate_slope`, and which blocks have attention. See `restore`.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    images = torch.from_numpy(mnist.load("train", data_root, settings.held_out)[0][:IMAGES].copy())
    varied = mnist.vary(images, settings.variation, generator)
    changes = {"bits": settings.network.bits, "neighbours": settings.network.neighbours, **(sizes or {})}
    return restore(model, varied.numpy(), settings.time_steps, settings.seed, changes)


def held_out_of(model: Path, asked: int | None) -> int | None:
    """Return the number of images that a training which begins with a model holds out: `asked`, or as the model's did.

    Raises ModelError if the model has learned from some of them.
    """
    card = load_card(model)
    before = mnist.held_out_by(card.training)
    if asked is None:
        return before
    most = mnist.held_out_images(before)
    if asked > most:
        raise ModelError(
            f"expected at most {most:,} images held out, because {card.name} has learned from the others, got {asked:,}"
        )
    return asked


def origin(model: Path) -> dict[str, Any]:
    """Describe the model that a training begins with, for the card: name, version, hash, and how it was trained."""
    card = load_card(model)
    return {
        "name": card.name,
        "version": card.version,
        "sha256": card.graph.sha256,
        "training": card.training,
    }


def restore(
    model: Path,
    images: NDArray[np.uint8],
    time_steps: int = 2,
    seed: int = 1,
    changes: Mapping[str, Any] | None = None,
) -> SpikingNetwork:
    """Return the network of a model folder in float arithmetic, ready to be trained on.

    images uint8 [N, 28, 28]: some hundred training images, by which batch normalisation is measured. changes: what is
    to differ from the model's `NetworkConfig`; of the shapes of weights, `GROWING` and the blocks with attention alone.
    Raises ModelError if there is no model, its card does not tell how a spiking network was made, it is larger than
    what `changes` ask for, or `changes` are none of a network.
    """
    card = load_card(model)
    stored = card.training.get("settings", {})
    if card.kind != "spiking" or "network" not in stored:
        raise ModelError(
            f"expected a spiking model whose card tells the settings of its training, "
            f"got {card.name} of kind {card.kind}"
        )
    smaller, changes = TrainingSettings.from_dict(stored).network, changes or {}
    for size in GROWING:
        asked, had = changes.get(size), getattr(smaller, size)
        if asked is not None and np.any(np.less(asked, had)):
            raise ModelError(f"expected {size} of at least {had}, as {card.name} has, got {asked}")
    try:
        config = replace(smaller, **changes)
    except ValueError as error:
        raise ModelError(str(error)) from None
    if config.kind == "glm" and changes.get("attention"):
        raise ModelError(f"expected a model with blocks to have attention in, got {card.name} of kind glm")
    graph = onnx.load(model / card.graph.file).graph
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    network = make_network(config)

    def tensor(name: str) -> Tensor:
        return _tensor(values[name])

    with torch.no_grad():
        scale = card.potential_scale
        readout = network.readout
        readout.weight.copy_(tensor("readout.weight.int8").T * scale * readout.unit)
        readout.gamma.copy_(tensor("readout.gamma") * scale)
        readout.feedback.copy_(tensor("readout.feedback") * scale * config.trace_unit)
        if isinstance(network, SpikingTransformer):
            grown = _restore_hidden(network, values, smaller.blocks)
            generator = torch.Generator().manual_seed(seed)
            rates = mnist.tuned(mnist.firing_probabilities(images), config.rate_slope)  # [N, 1, 28, 28]
            trains = torch.rand(time_steps, *rates.shape, generator=generator) < rates
            _measure_normalisation(network, trains.float())
            for norm, known in grown:
                norm.weight[known:] = 1.0
                norm.bias[known:] = GROWN_BIAS
    return network


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values.astype("float32"))


def _restore_hidden(
    network: SpikingTransformer, values: dict[str, NDArray[Any]], blocks: int
) -> list[tuple[nn.BatchNorm1d, int]]:
    """Fill in weights and biases in units of the threshold; batch normalisation does nothing yet.

    New neurons keep their fresh weights, and nothing reads them. New blocks, which follow the model's `blocks`,
    add nothing to the residual potential. Returns the normalisations of new neurons and the row at which they begin.
    """
    grown: list[tuple[nn.BatchNorm1d, int]] = []

    def fill(synapses: Synapses, layer: str, neurons: str) -> None:
        unit = 1.0 / _tensor(values[f"{neurons}.v_threshold"]).flatten()  # [C]
        weight = _tensor(values[f"{layer}.weight.int8"])
        weight = weight.T if weight.dim() == 2 else weight  # graphs multiply from the left
        weight = weight * unit.view(-1, *[1] * (weight.dim() - 1)) * synapses.input_unit
        length = weight.flatten(1).norm(dim=1).clamp(min=1e-6)  # as long as fresh weights are: learns as fast
        written, read = weight.shape[:2]
        synapses.weight[:written] = 0.0
        synapses.weight[:written, :read] = weight / length.view(-1, *[1] * (weight.dim() - 1))
        new = len(synapses.weight) - written
        _set_normalisation(
            synapses.norm,
            F.pad(length, (0, new), value=1.0),
            F.pad(_tensor(values[f"{layer}.bias"]) * unit, (0, new)),
            torch.zeros(()),
            torch.ones(()),
        )
        if new:
            grown.append((synapses.norm, written))

    residual, stem = "tokens", network.stem
    residual_unit = 1.0 / _tensor(values[f"{residual}.v_threshold"]).flatten()  # [C]
    fill(stem.stem1, "stem1", "stem1")
    fill(stem.stem2, "stem2", "stem2")
    fill(stem.stem3, "stem3", residual)
    # The last that wrote to the residual potential.
    before: Synapses = stem.stem3
    if network.config.position:
        stem.position.copy_(_tensor(values["position"]) * residual_unit)
    for number, block in enumerate(network.blocks, 1):
        assert isinstance(block, Block)
        attention, mlp, layer = block.attention, block.mlp, f"block{number}"
        had_attention = f"{layer}.projection.bias" in values
        if attention is not None and not had_attention:
            # New attention, in a new block or not, adds nothing to the residual potential.
            nn.init.zeros_(attention.projection.norm.weight)
            grown += [(one.norm, 0) for one in (attention.query, attention.key, attention.value)]
        elif attention is not None:
            for role in ("query", "key", "value"):
                fill(getattr(attention, role), f"{layer}.{role}", f"{layer}.{role}")
            fill(attention.projection, f"{layer}.projection", residual)
            attention.threshold.copy_(_tensor(values[f"{layer}.attention.v_threshold"]).flatten())
        elif had_attention:
            # What it adds without a spike now comes from what writes before it.
            before.norm.bias.add_(_tensor(values[f"{layer}.projection.bias"]) * residual_unit)
        if number > blocks:
            nn.init.zeros_(mlp.contract.norm.weight)
            grown.append((mlp.expand.norm, 0))
            continue
        fill(mlp.expand, f"{layer}.expand", f"{layer}.mlp_hidden")
        fill(mlp.contract, f"{layer}.contract", residual)
        before = mlp.contract
    return grown


def _set_normalisation(norm: nn.BatchNorm1d, factor: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> None:
    """Set statistics, and weight and bias such that currents are multiplied by `factor` and `bias` is added."""
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.weight.copy_(factor * torch.sqrt(norm.running_var + norm.eps))
    norm.bias.copy_(bias + norm.running_mean * factor)


def _measure_normalisation(network: SpikingTransformer, spikes: Tensor) -> None:
    """Give every batch normalisation the mean and variance of its currents, and leave what it does as it is."""
    found: dict[nn.BatchNorm1d, tuple[Tensor, Tensor]] = {}

    def note(norm: nn.BatchNorm1d, arguments: tuple[Tensor]) -> None:
        current = arguments[0].transpose(0, 1).flatten(1)  # [C, everything else]
        found[norm] = current.mean(1), current.var(1)

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    network.eval()
    network(spikes, torch.zeros(*spikes.shape[:2], CLASSES))  # what the output neurons draw does not matter
    network.train()
    for hook in hooks:
        hook.remove()
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        _set_normalisation(norm, factor, norm.bias - norm.running_mean * factor, *found[norm])
