"""Restore: from an exported model back to a network, in float arithmetic, that folds into the same integers."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from spikehead.model.card import ModelError
from torch import nn

from tests.training.conftest import GLM, SMALL, Exported, Mnist, make_glm, make_network, write_checkpoint
from training.data import mnist
from training.data.mnist import firing_probabilities
from training.export.artifact import export, export_ann
from training.export.graph import build
from training.fit.restore import IMAGES, held_out_of, origin, restore, restore_from
from training.fit.train import Trainer, TrainingSettings
from training.measure.lesion import write_lesioned
from training.network.ann import LeNet5
from training.network.spiking import NetworkConfig, SpikingNetwork, SpikingTransformer

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


def exported_to(folder: Path, network: SpikingNetwork, drawn: Drawn) -> Path:
    """A model folder of a network that was not trained."""
    checkpoint = write_checkpoint(folder / "best.pt", network)
    export(checkpoint, folder / "small", drawn, drawn[0][:2], max_steps=2, seeds=1)
    return folder / "small"


def assert_same_integers(network: SpikingNetwork, model: Path) -> None:
    """The graph that the network would be exported as is that of the model."""
    network.integer = True
    graphs = build(network.eval(), model.name), onnx.load(model / "model.onnx")
    found, expected = ({one.name: one for one in graph.graph.initializer} for graph in graphs)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(numpy_helper.to_array(found[name]), numpy_helper.to_array(values)), name


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        NetworkConfig(stem=(4, 6), channels=8, blocks=2, heads=2, attention=False, position=False),
        NetworkConfig(stem=(4, 6), channels=8, blocks=2, heads=2, attention_from=2),
    ],
    ids=["attention", "none", "late attention"],
)
def test_the_network_has_the_integers_of_the_model(
    config: NetworkConfig, drawn: Drawn, tmp_path: Path
) -> None:
    model = exported_to(tmp_path, make_network(config, seed=3), drawn)
    network = restore(model, drawn[0])
    assert network.config == config
    assert_same_integers(network, model)


def test_a_network_is_shown_steeper_rates_than_its_model(exported: Exported, drawn: Drawn) -> None:
    """The same integers; what normalisation measured is what the steeper rates drive."""
    flat, steep = (restore(exported.folder, drawn[0], changes={"rate_slope": slope}) for slope in (1, 16))
    assert (flat.config.rate_slope, steep.config.rate_slope) == (1, 16)
    assert_same_integers(steep, exported.folder)
    assert isinstance(flat, SpikingTransformer) and isinstance(steep, SpikingTransformer)
    before, after = statistics(flat.stem.stem1.norm), statistics(steep.stem.stem1.norm)
    assert not torch.allclose(before[1], after[1], rtol=1e-3)


def test_the_slope_of_the_model_is_kept(drawn: Drawn, tmp_path: Path, tiny_mnist: Mnist) -> None:
    steep = make_network(replace(SMALL, rate_slope=3), seed=4)
    model = exported_to(tmp_path, steep, drawn)
    begun = TrainingSettings(network=NetworkConfig())
    assert restore_from(model, begun, tiny_mnist.folder).config.rate_slope == 3
    assert restore_from(model, begun, tiny_mnist.folder, {"rate_slope": 2}).config.rate_slope == 2


def test_output_neurons_alone(drawn: Drawn, tmp_path: Path) -> None:
    model = exported_to(tmp_path, make_glm(seed=3), drawn)
    network = restore(model, drawn[0])
    assert network.config == GLM
    assert_same_integers(network, model)


def statistics(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the currents of a run, [C]."""
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean.clone(), norm.running_var.sqrt()


def test_batch_normalisation_knows_its_currents(exported: Exported, drawn: Drawn) -> None:
    """On the images by which it was measured, statistics of the batch and those of the run are the same."""
    network = restore(exported.folder, drawn[0], time_steps=2, seed=7)
    assert isinstance(network, SpikingTransformer) and network.training
    generator = torch.Generator().manual_seed(7)
    probability = firing_probabilities(drawn[0])
    spikes = (torch.rand(2, *probability.shape, generator=generator) < probability).float()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    before = [statistics(norm) for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the batch's statistics replace those of the run
    network(spikes, torch.zeros(2, len(probability), 10))
    # A current that reaches a threshold exactly may end on either side of it: some spikes differ.
    for norm, (mean, spread) in zip(norms, before, strict=True):
        of_batch = statistics(norm)
        assert ((of_batch[0] - mean).abs() / (spread + 0.01)).max() < 0.05
        assert ((of_batch[1] - spread).abs() / (spread + 0.01)).max() < 0.05


def answers(network: SpikingNetwork, drawn: Drawn) -> torch.Tensor:
    """Potentials [T, N, 10] in evaluation mode."""
    generator = torch.Generator().manual_seed(11)
    probability = firing_probabilities(drawn[0])
    spikes = (torch.rand(3, *probability.shape, generator=generator) < probability).float()
    with torch.no_grad():
        potentials: torch.Tensor = network.eval()(spikes, torch.zeros(3, len(probability), 10)).potentials
    return potentials


LARGER: dict[str, Any] = {"stem": (6, 10), "blocks": 3, "mlp_ratio": 3}


def test_a_larger_network_answers_as_the_model_does(exported: Exported, drawn: Drawn) -> None:
    torch.manual_seed(0)
    grown = restore(exported.folder, drawn[0], changes=LARGER)
    assert grown.config == replace(SMALL, **LARGER)
    assert torch.allclose(
        answers(grown, drawn), answers(restore(exported.folder, drawn[0]), drawn), atol=1e-4
    )


TWO_BLOCKS = NetworkConfig(stem=(4, 6), channels=8, blocks=2, heads=2)


@pytest.mark.parametrize(
    ("changes", "silent"),
    [({"attention_from": 2}, ["block1.attention"]), ({"attention": False}, ["*.attention"])],
    ids=["first block", "all blocks"],
)
def test_a_network_without_the_models_attention_answers_as_the_model_with_that_silent(
    changes: dict[str, Any], silent: list[str], drawn: Drawn, tmp_path: Path
) -> None:
    model = exported_to(tmp_path, make_network(TWO_BLOCKS, seed=3), drawn)
    lacking = restore(model, drawn[0], changes=changes)
    assert lacking.config == replace(TWO_BLOCKS, **changes)
    (tmp_path / "lesioned").mkdir()
    assert write_lesioned(model, tmp_path / "lesioned", silent)
    expected = answers(restore(tmp_path / "lesioned", drawn[0]), drawn)

    def alike(network: SpikingNetwork) -> float:
        """Share of the potentials that are the same."""
        return float(torch.isclose(answers(network, drawn), expected, atol=1e-4).float().mean())

    # Where a potential reaches the threshold exactly, a spike may differ: how many depends on the machine's rounding.
    assert alike(lacking) > 0.8 > 0.5 > alike(restore(model, drawn[0]))


@pytest.mark.parametrize("had", [{"attention_from": 2}, {"attention": False}], ids=["one block", "no block"])
def test_new_attention_changes_nothing_at_first(had: dict[str, Any], drawn: Drawn, tmp_path: Path) -> None:
    model = exported_to(tmp_path, make_network(replace(TWO_BLOCKS, **had), seed=3), drawn)
    whole = {"attention": True, "attention_from": 1}
    grown = restore(model, drawn[0], changes=whole)
    assert grown.config == TWO_BLOCKS
    assert torch.allclose(answers(grown, drawn), answers(restore(model, drawn[0]), drawn), atol=1e-4)


def test_fewer_blocks_than_the_models_are_refused_also_where_attention_is_late(
    drawn: Drawn, tmp_path: Path
) -> None:
    model = exported_to(tmp_path, make_network(replace(TWO_BLOCKS, attention_from=2), seed=3), drawn)
    with pytest.raises(ModelError, match="expected blocks of at least 2, as small has, got 1"):
        restore(model, drawn[0], changes={"blocks": 1})


def test_attention_where_there_are_no_blocks_is_refused(
    exported: Exported, drawn: Drawn, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="expected attention from a block between 1 and 1, got 2"):
        restore(exported.folder, drawn[0], changes={"attention_from": 2})
    alone = exported_to(tmp_path, make_glm(seed=3), drawn)
    with pytest.raises(ModelError, match=r"expected a model with blocks .*, got small of kind glm"):
        restore(alone, drawn[0], changes={"attention": True, "attention_from": 2})


def test_what_is_new_in_a_larger_network_learns(exported: Exported, drawn: Drawn) -> None:
    """New neurons spike, and have weights that come to be read; no two of them are alike."""
    grown = restore(exported.folder, drawn[0], changes=LARGER)
    assert isinstance(grown, SpikingTransformer)
    probability = firing_probabilities(drawn[0])
    spikes = (torch.rand(2, *probability.shape) < probability).float()
    optimizer = torch.optim.SGD(grown.parameters(), lr=0.1)
    before = {name: values.detach().clone() for name, values in grown.named_parameters()}
    for _ in range(3):  # the first moves what reads new neurons, the next also what drives them
        run = grown(spikes, torch.zeros(2, len(probability), 10))
        optimizer.zero_grad()
        run.potentials.square().mean().backward()
        optimizer.step()
    for name in ("stem1", "stem2"):
        new = run.layers[name][:, :, SMALL.stem[name == "stem2"] :]
        assert 0.0 < new.detach().mean().item() < 0.5
    after = {name: values.detach() for name, values in grown.named_parameters()}
    for name, rows in (
        ("stem.stem1", slice(4, 6)),
        ("stem.stem2", slice(4, 10)),
        ("blocks.0.mlp.expand", slice(16, 24)),
    ):
        weight = after[f"{name}.weight"]
        assert not torch.equal(weight[rows], before[f"{name}.weight"][rows]), name
        assert len(torch.unique(before[f"{name}.weight"][rows], dim=0)) == rows.stop - rows.start
    new = [name for name in after if name.startswith("blocks.2.") and after[name].dim() > 1]
    assert len(new) == 6
    for name in new:
        assert not torch.equal(after[name], before[name]), name


@pytest.mark.parametrize("smaller", [{"stem": (4, 3)}, {"mlp_ratio": 1}, {"blocks": 0}])
def test_a_smaller_network_than_the_model_is_refused(
    exported: Exported, drawn: Drawn, smaller: dict[str, Any]
) -> None:
    (size, asked), had = *smaller.items(), getattr(SMALL, next(iter(smaller)))
    with pytest.raises(
        ModelError, match=re.escape(f"expected {size} of at least {had}, as small has, got {asked}")
    ):
        restore(exported.folder, drawn[0], changes=smaller)


def test_a_conventional_network_is_not_restored(drawn: Drawn, tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_ann(LeNet5(), tmp_path / "lenet5", drawn, {})
    with pytest.raises(ModelError, match=r"expected a spiking model .* got lenet5 of kind ann"):
        restore(tmp_path / "lenet5", drawn[0])


def test_a_model_that_is_not_there(drawn: Drawn, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        restore(tmp_path / "nothing", drawn[0])


def test_images_are_training_images_varied_as_the_settings_say(
    exported: Exported, tiny_mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def note(model: Path, images: NDArray[np.uint8], time_steps: int, seed: int, changes: Any) -> None:
        seen.update(model=model, images=images, time_steps=time_steps, seed=seed)

    monkeypatch.setattr("training.fit.restore.restore", note)
    settings = TrainingSettings(variation=mnist.Variation().times(0.0), time_steps=3, seed=5)
    restore_from(exported.folder, settings, tiny_mnist.folder)
    assert (seen["model"], seen["time_steps"], seen["seed"]) == (exported.folder, 3, 5)
    assert np.array_equal(seen["images"], tiny_mnist.images[:300][:IMAGES])


def test_training_begins_with_it(
    exported: Exported, tiny_mnist: Mnist, tmp_path: Path, few_held_out: int
) -> None:
    """Before its first batch, the trainer's network is the model."""
    settings = TrainingSettings(epochs=2, integer_epochs=1, limit=32, network=SMALL)
    network = restore_from(exported.folder, settings, tiny_mnist.folder)
    trainer = Trainer(settings, tmp_path, torch.device("cpu"), tiny_mnist.folder, network=network)
    assert trainer.network is network
    assert_same_integers(trainer.exported, exported.folder)


def test_bits_and_neighbours_may_differ_from_the_models(exported: Exported, tiny_mnist: Mnist) -> None:
    """The weights are the model's: with its bits they would fold into the same integers."""
    changed = replace(SMALL, bits=4, neighbours=False)
    network = restore_from(exported.folder, TrainingSettings(network=changed), tiny_mnist.folder)
    assert network.config == changed
    assert isinstance(network, SpikingTransformer)
    same = restore_from(exported.folder, TrainingSettings(network=SMALL), tiny_mnist.folder)
    assert torch.equal(network.readout.weight, same.readout.weight)
    assert isinstance(same, SpikingTransformer)
    assert torch.allclose(network.stem.stem1.folded()[0], same.stem.stem1.folded()[0], atol=1e-5)


@pytest.mark.parametrize(
    ("before", "asked", "found"),
    [(None, None, None), (None, 70, 70), (30, None, 30), (30, 30, 30), (30, 7, 7)],
)
def test_what_a_model_has_not_seen_may_be_held_out(
    before: int | None, asked: int | None, found: int | None, drawn: Drawn, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_glm(), held_out=before)
    export(checkpoint, tmp_path / "it", drawn, drawn[0][:2], max_steps=1, seeds=1)
    assert held_out_of(tmp_path / "it", asked) == found


@pytest.mark.parametrize(("before", "asked", "most"), [(30, 31, "30"), (None, 10_001, "10,000")])
def test_what_a_model_has_learned_from_cannot_be_held_out(
    before: int | None, asked: int, most: str, drawn: Drawn, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_glm(), held_out=before)
    export(checkpoint, tmp_path / "it", drawn, drawn[0][:2], max_steps=1, seeds=1)
    message = (
        f"expected at most {most} images held out, because it has learned from the others, got {asked:,}"
    )
    with pytest.raises(ModelError, match=re.escape(message)):
        held_out_of(tmp_path / "it", asked)


def test_the_origin_of_a_run(exported: Exported) -> None:
    card = exported.card
    assert origin(exported.folder) == {
        "name": "small",
        "version": "1.0.0",
        "sha256": card.graph.sha256,
        "training": card.training,
    }
