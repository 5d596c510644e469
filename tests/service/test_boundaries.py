"""What the service must not depend on, and that importing does nothing."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ["torch", "torchvision", "training", "matplotlib", "onnx", "scipy", "pandas"]

SCRIPT = """
import sys
from fastapi.testclient import TestClient
from spikehead.web.app import create_app
from spikehead.settings import Settings
import spikehead.cli.app
url = "sqlite:///" + sys.argv[2]
with TestClient(create_app(Settings(models=sys.argv[1], default_model="tiny", database_url=url))) as client:
    rows = [[255 if 4 < y < 23 and 12 < x < 16 else 0 for x in range(28)] for y in range(28)]
    assert client.post("/classify?raster=all", json={"pixels": rows}).status_code == 200
print(",".join(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_service_runs_without_the_offline_package(models_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(models_folder), str(tmp_path / "records.db")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.strip().split(","))
    assert "onnxruntime" in loaded
    assert loaded.isdisjoint(FORBIDDEN)


def test_importing_does_nothing(tmp_path: Path) -> None:
    modules = sorted(
        ".".join(path.relative_to(ROOT / "service").with_suffix("").parts)
        for path in (ROOT / "service" / "spikehead").rglob("*.py")
        # Alembic's scripts, and the one that CMake has beside the C++, are run, not imported
        if not {"migrations", "src"} & set(path.parts)
    )
    script = "import importlib, sys, threading\n" + "".join(
        f"importlib.import_module({name!r})\n" for name in modules
    )
    script += "print(threading.active_count(), 'typer.main' in sys.modules)"
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}",
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "1 True\n" and result.stderr == ""
    assert list(tmp_path.iterdir()) == []
