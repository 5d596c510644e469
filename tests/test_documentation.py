"""The README holds: settings, routes, options, commands, links, and the answer that it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from spikehead.settings import PREFIX, Settings
from spikehead.web.app import create_app
from spikehead.web.documents.schemas import BatchOptions
from typer.testing import CliRunner

from tests.service.conftest import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def table(header: str) -> list[list[str]]:
    """Cells of the README's table with that first header, without the header."""
    lines = README.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_settings() -> None:
    expected = []
    for name, field in Settings.model_fields.items():
        value = "" if field.default_factory else field.default
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, bool):
            value = str(value).lower()
        default = "" if value == "" else f"`{value}`"
        expected.append([f"`{PREFIX}{name.upper()}`", default, field.description])
    assert table("variable") == expected


def test_routes() -> None:
    with TestClient(create_app(Settings(models=SHIPPED.parent))) as client:
        document = client.get("/openapi.json").json()
    documented = {
        f"`{method.upper()} {path}`" for path, methods in document["paths"].items() for method in methods
    }
    pages = {"`GET /`", "`GET /docs`"}
    assert {row[0] for row in table("route")} == documented | pages


def test_options() -> None:
    assert [row[0] for row in table("option")] == [f"`{name}`" for name in BatchOptions.model_fields]


def test_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert {"serve", "test"} <= named <= targets


def test_training_commands() -> None:
    from training.commands.app import app

    commands = set(re.findall(r"python -m training ([a-z-]+)", README))
    assert {"train", "export", "evaluate", "figures", "recalibrate", "retina"} <= commands
    for command in commands:
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0, result.output


def test_make_train_is_what_the_readme_says() -> None:
    block = README[README.index("make train") :].split("```")[2].removeprefix("sh\n")
    recipe = re.search(r"^train:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    lines = [
        line.strip().removeprefix("$(FAST_MALLOC) ").replace("$(BIN)/", "") for line in recipe[1].splitlines()
    ]
    assert lines == block.strip().splitlines()


def test_links_and_pictures_exist() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if not target.startswith("http")]
    assert len(local) >= 9
    assert [target for target in local if not (ROOT / target).exists()] == []


def quoted_answer() -> dict[str, Any]:
    block = re.search(r"```json\n(.*?)```", README, re.DOTALL)
    assert block is not None
    answer: dict[str, Any] = json.loads(block[1])
    return answer


def test_curl_prints_the_answer_that_the_readme_shows() -> None:
    command = re.search(
        r"curl --data-binary @(\S+) -H 'Content-Type: (\S+)' '(http://127.0.0.1:8000)?(\S+)'", README
    )
    assert command is not None
    with TestClient(create_app(Settings(models=SHIPPED.parent, engine="onnxruntime"))) as client:
        response = client.post(
            command[4], content=(ROOT / command[1]).read_bytes(), headers={"Content-Type": command[2]}
        )
    answer, quoted = response.json(), quoted_answer()
    assert {"prediction", "class_probabilities", "spike_counts", "seed", "raster"} <= set(quoted)
    for name, value in quoted.items():
        if name in ("id", "engine", "timings_ms"):
            continue
        assert _shortened(answer[name], value) == value, name


def _shortened(value: Any, quoted: Any) -> Any:
    """The value as the README may quote it: numbers rounded to what is quoted, keys left out."""
    if isinstance(quoted, dict):
        return {key: _shortened(value[key], quoted[key]) for key in quoted}
    if isinstance(quoted, list):
        return [_shortened(a, b) for a, b in zip(value, quoted, strict=True)]
    return pytest.approx(value, abs=5e-5) if isinstance(quoted, float) else value


def test_the_table_of_models_is_what_is_stored() -> None:
    """`python -m training compare` wrote both."""
    from training.comparison.compare import BEGIN, END, markdown

    contents = json.loads((SHIPPED.parent / "comparison.json").read_text())
    text = (SHIPPED.parent / "README.md").read_text()
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == markdown(contents).strip()


def test_figures_of_the_model_are_those_of_its_evaluation() -> None:
    """`python -m training evaluate models/spiking-mha --json` wrote the file; the README quotes it."""
    result = json.loads((SHIPPED / "evaluation.json").read_text())
    card = json.loads((SHIPPED / "card.json").read_text())
    assert (result["version"], result["images"], result["set"]) == (card["version"], 10_000, "test")
    assert result["graph_sha256"] == card["graph"]["sha256"]
    assert f"default: the model's ({card['calibration']['confidence']})" in README
    assert f"1 to the model's ({card['max_steps']})" in README
    quoted = {row[0]: row[1] for row in table("figure")}
    rule = result["stopping"]
    assert quoted["accuracy under the stopping rule"].startswith(f"{100 * rule['accuracy']['mean']:.2f} %")
    assert quoted["time steps used, on average"].startswith(f"{rule['steps']['mean']:.2f} ")
    for row in result["accuracy_by_step"]:
        if row["steps"] in (1, 2, 4, card["max_steps"]):
            name = f"accuracy after {row['steps']} step{'s' if row['steps'] > 1 else ''}"
            assert quoted[name].startswith(f"{100 * row['mean']:.2f} %")
    rate = 100 * result["mean_firing_rate"]["over_layers"]
    assert quoted["mean firing rate over the layers"].startswith(f"{rate:.1f} %")
    error = rule["expected_calibration_error"]["mean"]
    assert quoted["expected calibration error"].startswith(f"{error:.4f}")
    robust = 100 * result["robustness"]["mean_accuracy"]
    distortions = len(result["robustness"]["distortions"])
    assert quoted[f"accuracy under {distortions} distortions that training has never seen, mean"].startswith(
        f"{robust:.1f} %"
    )
    noise = result["synapse_noise"]
    scattered = f"accuracy with synapses that scatter by {100 * noise['sigma']:.0f} %, as memristive cells do"
    assert quoted[scattered].startswith(f"{100 * noise['accuracy']['mean']:.2f} %")
    operations = result["synaptic_operations"]
    assert quoted["additions an image"].startswith(f"{operations['accumulates']:,.0f}")
    assert quoted["multiplications an image"].startswith(f"{operations['multiply_accumulates']:,.0f}")
    assert quoted["parameters"].startswith(f"{card['parameters']:,}")
