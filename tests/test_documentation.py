"""The documents hold: settings, routes, options, commands, links, modules, figures, and the answer that they show."""

from __future__ import annotations

import json
import re
import tomllib
from itertools import pairwise
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
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "models/README.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
EVERYTHING = "\n".join(DOCUMENTS.values())
ARCHITECTURE = DOCUMENTS["docs/architecture.md"]


def table(document: str, header: str) -> list[list[str]]:
    """Return the cells of the table in a document that has this first header, without the header."""
    lines = DOCUMENTS[document].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_readme_is_short() -> None:
    assert len(DOCUMENTS["README.md"].splitlines()) <= 150


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
    assert table("docs/settings.md", "variable") == expected


def test_variables_that_are_named_exist() -> None:
    from spikehead.cli.app import NO_SETTINGS

    known = {PREFIX + name.upper() for name in Settings.model_fields} | NO_SETTINGS
    assert set(re.findall(r"\bSPIKEHEAD_[A-Z_]+\b", EVERYTHING)) <= known


def test_routes() -> None:
    with TestClient(create_app(Settings(models=SHIPPED.parent))) as client:
        document = client.get("/openapi.json").json()
    documented = {
        f"`{method.upper()} {path}`" for path, methods in document["paths"].items() for method in methods
    }
    pages = {"`GET /`", "`GET /docs`"}
    assert {row[0] for row in table("docs/http.md", "route")} == documented | pages


def test_options() -> None:
    assert [row[0] for row in table("docs/http.md", "option")] == [
        f"`{name}`" for name in BatchOptions.model_fields
    ]


def test_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", " ".join(re.findall(r"`[^`]*`", EVERYTHING))))
    assert {"serve", "test", "quick", "check"} <= named <= targets
    for target in ("serve", "test"):
        assert f"\nmake {target}\n" in DOCUMENTS["README.md"]


def test_training_commands() -> None:
    from training.commands.app import app

    commands = set(re.findall(r"python -m training ([a-z-]+)", EVERYTHING))
    assert {"train", "export", "evaluate", "figures", "recalibrate", "retina"} <= commands
    for command in commands:
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0, result.output


def test_commands_of_the_terminal() -> None:
    from spikehead.cli.app import app

    commands = set(re.findall(r"\bspikehead (classify|spikes|health|serve)\b", EVERYTHING))
    assert commands == {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }


def test_other_commands_have_a_module() -> None:
    modules = set(re.findall(r"python -m ((?:benchmarks|docs)[a-z.]*[a-z])", EVERYTHING))
    assert {"benchmarks.engine", "docs.screenshots.make"} <= modules
    for module in modules:
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_make_train_is_what_the_documents_say() -> None:
    text = DOCUMENTS["docs/training.md"]
    block = text[text.index("make train") :].split("```")[2].removeprefix("sh\n")
    recipe = re.search(r"^train:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    lines = [
        line.strip().removeprefix("$(FAST_MALLOC) ").replace("$(BIN)/", "") for line in recipe[1].splitlines()
    ]
    assert lines == block.strip().splitlines()


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a document."""
    without_code = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    }


def test_anchors_are_those_of_github() -> None:
    text = "# A model\n```sh\n# no heading\n```\n## Through today's retina\n### 2. Re-use `x_y`, again\n"
    assert anchors(text) == {"a-model", "through-todays-retina", "2-re-use-x_y-again"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_pictures_exist(document: str) -> None:
    here = (ROOT / document).parent
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[document]):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        found = (here / path).resolve() if path else ROOT / document
        if not found.exists() or (anchor and anchor not in anchors(found.read_text())):
            broken.append(target)
    assert broken == []


def test_modules_that_the_architecture_names_exist() -> None:
    """And what it says to be in a file is defined there."""
    linked = re.findall(r"\[([^]]+)\]\(([^)#]+\.(?:py|cpp|hpp|html))\)", ARCHITECTURE)
    assert len(linked) >= 50
    for name, path in linked:
        assert path.endswith(name.replace("\\", "")), f"{name} leads to {path}"
    plain = re.sub(r"\[[^]]+\]\([^)]+\)", "", ARCHITECTURE)
    assert re.findall(r"[\w/]+\.(?:py|cpp|hpp)\b", re.sub(r"`tests/[^`]+`", "", plain)) == []
    for path in re.findall(r"`(tests/[^`]+)`", ARCHITECTURE):
        assert (ROOT / path).exists(), path
    places = re.findall(r"((?:`\w+`(?:,| and)? )+)in \[[^]]+\]\(([^)]+)\)", ARCHITECTURE)
    assert len(places) >= 20
    for names, path in places:
        text = (ROOT / "docs" / path).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(
                rf"\b(def|class|struct|inline|void) (?:\S+ )?{name}\b|^{name}\b", text, re.MULTILINE
            ), (name, path)


def test_every_room_has_its_sentence() -> None:
    rooms = {
        str(path.parent.relative_to(ROOT))
        for package in ("service/spikehead", "training")
        for path in (ROOT / package).glob("*/**/__init__.py")
        if "migrations" not in path.parts
    }
    rows = re.findall(r"^\| \[([\w/]+)\]\(\.\./([\w/]+)/\) \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
    assert {path for _, path, _ in rows} == rooms
    assert all(path.endswith(f"/{name}") and len(sentence.split()) >= 4 for name, path, sentence in rows)


def test_the_picture_of_the_rooms_is_what_is_checked() -> None:
    """It shows every layer of import-linter's contracts, and no arrow leads upwards."""
    picture = ARCHITECTURE.split("```mermaid")[1].split("```")[0]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    depths = [
        {
            room.strip("() "): depth
            for depth, layer in enumerate(contract["layers"])
            for room in layer.split("|")
        }
        for contract in contracts
        if "containers" in contract
    ]
    assert len(depths) == 3
    shown = set(re.findall(r"\w+", picture))
    assert {room for depth in depths for room in depth} - {"__main__"} <= shown
    arrows = 0
    for line in picture.splitlines():
        for left, right in pairwise(re.findall(r"(?:^ *|--> )(\w+)", line)):
            found = [depth for depth in depths if left in depth and right in depth]
            assert all(depth[left] < depth[right] for depth in found), (left, right)
            arrows += len(found)
    assert arrows >= 25


def test_the_lines_of_python_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```python\n(.*?)```", DOCUMENTS["README.md"], re.DOTALL)
    assert block is not None
    monkeypatch.chdir(ROOT)
    exec(compile(block[1], "README.md", "exec"), {})
    prediction, confidence = capsys.readouterr().out.split()
    quoted = quoted_answer()
    assert int(prediction) == quoted["prediction"]
    assert float(confidence) == pytest.approx(quoted["confidence"], abs=5e-5)


def quoted_answer() -> dict[str, Any]:
    block = re.search(r"```json\n(.*?)```", DOCUMENTS["docs/http.md"], re.DOTALL)
    assert block is not None
    answer: dict[str, Any] = json.loads(block[1])
    return answer


def test_curl_prints_the_answer_that_is_shown() -> None:
    pattern = r"curl --data-binary @(\S+) -H 'Content-Type: (\S+)' '(http://127.0.0.1:8000)?(\S+)'"
    command = re.search(pattern, DOCUMENTS["README.md"])
    assert command is not None and command[0] in DOCUMENTS["docs/http.md"]
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
    """Return the value as it may be quoted: numbers rounded to what is quoted, keys left out."""
    if isinstance(quoted, dict):
        return {key: _shortened(value[key], quoted[key]) for key in quoted}
    if isinstance(quoted, list):
        return [_shortened(a, b) for a, b in zip(value, quoted, strict=True)]
    return pytest.approx(value, abs=5e-5) if isinstance(quoted, float) else value


def test_the_table_of_models_is_what_is_stored() -> None:
    """`python -m training compare` wrote both."""
    from training.comparison.table import BEGIN, END, markdown

    contents = json.loads((SHIPPED.parent / "comparison.json").read_text())
    text = DOCUMENTS["models/README.md"]
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == markdown(contents).strip()


def test_figures_of_the_model_are_those_of_its_evaluation() -> None:
    """`python -m training evaluate models/spiking-mha --json` wrote the file; the documents quote it."""
    result = json.loads((SHIPPED / "evaluation.json").read_text())
    card = json.loads((SHIPPED / "card.json").read_text())
    assert (result["version"], result["images"], result["set"]) == (card["version"], 10_000, "test")
    assert result["graph_sha256"] == card["graph"]["sha256"]
    options = DOCUMENTS["docs/http.md"]
    assert f"default: the model's ({card['calibration']['confidence']})" in options
    assert f"1 to the model's ({card['max_steps']})" in options
    quoted = {row[0]: row[1] for row in table("docs/measurements.md", "figure")}
    rule = result["stopping"]
    accuracy, steps = f"{100 * rule['accuracy']['mean']:.2f} %", f"{rule['steps']['mean']:.2f} "
    assert quoted["accuracy under the stopping rule"].startswith(accuracy)
    assert quoted["time steps used, on average"].startswith(steps)
    for row in result["accuracy_by_step"]:
        if row["steps"] in (1, 2, 4, 8, card["max_steps"]):
            name = f"accuracy after {row['steps']} step{'s' if row['steps'] > 1 else ''}"
            assert quoted[name].startswith(f"{100 * row['mean']:.2f} %")
    rate = 100 * result["mean_firing_rate"]["over_layers"]
    assert quoted["mean firing rate over the layers"].startswith(f"{rate:.1f} %")
    error = rule["expected_calibration_error"]["mean"]
    assert quoted["expected calibration error"].startswith(f"{error:.4f}")
    distortions = result["robustness"]["distortions"]
    robust = f"{100 * result['robustness']['mean_accuracy']:.1f} %"
    assert (
        quoted[f"accuracy under {len(distortions)} distortions that training has never seen, mean"] == robust
    )
    assert dict(table("docs/measurements.md", "distortion")) == {
        name.replace("_", " "): f"{100 * row['accuracy']:.1f} %" for name, row in distortions.items()
    }
    noise = result["synapse_noise"]
    scattered = f"accuracy with synapses that scatter by {100 * noise['sigma']:.0f} %, as memristive cells do"
    assert quoted[scattered].startswith(f"{100 * noise['accuracy']['mean']:.2f} %")
    operations = result["synaptic_operations"]
    additions = f"{operations['accumulates']:,.0f}"
    assert quoted["additions an image"].startswith(additions)
    assert quoted["multiplications an image"].startswith(f"{operations['multiply_accumulates']:,.0f}")
    assert quoted["parameters"].startswith(f"{card['parameters']:,}")
    readme = [row[1] for row in table("README.md", "figure")][:4]
    assert [
        value.partition(expected)[0]
        for value, expected in zip(readme, (accuracy, steps, additions, robust), strict=True)
    ] == [""] * 4
    assert f"`{card['name']}` {card['version']}" in DOCUMENTS["README.md"]
