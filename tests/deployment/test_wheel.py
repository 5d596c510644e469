"""What is installed: `spikehead` and nothing else, with its models, by versions that are locked."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks.serving import free_port
from tests.deployment.files import ROOT, arguments, copies
from tests.service.conftest import SHIPPED
from tests.service.serving import environment, started, until

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_lock_has_a_version_for_everything_that_is_asked_for() -> None:
    """On any Python from 3.11 on; `make lock` writes it anew."""
    lines = [
        Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"
    ]
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(line for name in extras if name != "bench" for line in extras[name])]
    for minor in range(11, 16):
        here = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0"}
        locked = {
            line.name: str(line.specifier).removeprefix("==")
            for line in lines
            if line.marker is None or line.marker.evaluate(here)
        }
        for requirement in map(Requirement, asked):
            name = re.sub("[-_.]+", "-", requirement.name.lower())
            if name != "spikehead":
                assert name in locked, f"{name} is not in constraints.txt: make lock"
                assert requirement.specifier.contains(locked[name]), (requirement, locked[name])
    assert sys.version_info < (3, 16), "the versions of Python that are looked at"


def test_everything_is_installed_by_the_lock() -> None:
    assert "install --constraint constraints.txt\n" in (ROOT / "Makefile").read_text()
    assert all("--constraint constraints.txt" in step for step in arguments("RUN") if "pip install" in step)


SCRIPT = """
import importlib.util, sys
import spikehead
assert not [name for name in ("service", "training", "tests") if importlib.util.find_spec(name)], sys.path
print(spikehead.__file__)
here = spikehead.load()
with spikehead.Client(sys.argv[1]) as there:
    answer = here.classify(sys.argv[2], seed=7)
    assert there.classify(sys.argv[2], seed=7) == answer
print(answer.prediction, answer.engine)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it compiles
def test_the_wheel_of_the_source_archive_in_an_empty_environment(tmp_path: Path) -> None:
    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    python, lock = tmp_path / "venv" / "bin" / "python", ROOT / "constraints.txt"
    run(sys.executable, "-m", "venv", "venv")
    run(python, "-m", "pip", "install", "--quiet", "build")
    run(python, "-m", "build", "--outdir", "dist", ROOT)  # the archive of the sources, and a wheel of that
    (archive,), (wheel,) = ((tmp_path / "dist").glob(kind) for kind in ("*.tar.gz", "*.whl"))
    with tarfile.open(archive) as sources:
        found = {Path(name).parts[1] for name in sources.getnames()}
        held = {
            name for name in sources.getnames() if "__pycache__" in name or name.endswith((".pyc", ".so"))
        }
    built_from = {name for names, target in copies() if target != "/app/models" for name in names}
    assert found == built_from - {"constraints.txt"} | {"PKG-INFO"} and held == set()

    run(python, "-m", "pip", "install", "--quiet", "--constraint", lock, wheel)
    (record,) = tmp_path.glob("venv/lib/*/site-packages/spikehead-*.dist-info/RECORD")
    files = {row[0] for row in csv.reader(record.read_text().splitlines())}
    own = {name for name in files if name.split("/")[0] not in ("spikehead", record.parent.name)}
    assert own == {"../../../bin/spikehead"}
    assert "spikehead/py.typed" in files
    models = {str(path.relative_to(SHIPPED.parents[1])) for path in SHIPPED.parent.glob("*/*")}
    assert {name for name in files if name.startswith("spikehead/models/")} == {
        f"spikehead/{name}" for name in models
    }
    modules = {
        str(path.relative_to(ROOT / "service"))
        for path in (ROOT / "service" / "spikehead").rglob("*.py")
        if "src" not in path.parts  # what the native engine is made from
    }
    assert {name for name in files if name.startswith("spikehead/") and name.endswith(".py")} == modules
    assert not [name for name in files if name.endswith((".cpp", ".hpp"))]

    port = free_port()
    serve = [str(tmp_path / "venv" / "bin" / "spikehead"), "serve"]
    with started(serve, cwd=tmp_path, env=environment(PORT=str(port))):
        until(port, "/health/ready")
        printed = run(python, "-c", SCRIPT, f"http://127.0.0.1:{port}", ROOT / "examples" / "7.png")
    engine = "native" if shutil.which("g++") else "onnxruntime"
    assert printed.splitlines()[1:] == [f"7 {engine}"]
    assert printed.startswith(str(tmp_path / "venv"))
