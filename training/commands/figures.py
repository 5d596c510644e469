"""`figures` and `retina`: pictures of what happens to an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.progress import console


def figures(
    image: Annotated[Path, typer.Argument(help="picture of a digit, prepared as the service does")],
    model: Annotated[Path, typer.Option(help="model folder")] = Path("models/spiking-mha"),
    out: Annotated[Path, typer.Option(help="folder for the PNG files")] = Path("figures"),
    more: Annotated[
        list[Path] | None, typer.Option("--sample", help="further pictures for the sheet")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="time steps (default: the model's)")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 7,
) -> None:
    """Draw what happens to an image: one PNG for each stage, and one sheet."""
    from spikehead.engine.onnxruntime import OnnxruntimeEngine
    from spikehead.engine.run import observe
    from spikehead.insight.figures import draw_all
    from spikehead.pictures.normalise import prepare

    engine = OnnxruntimeEngine(model)
    limit = engine.card.max_steps
    if steps is not None and steps > limit:
        raise typer.BadParameter(f"expected at most {limit} steps, got {steps}")
    runs = []
    for path in [image, *(more or [])]:
        if not path.is_file():
            raise typer.BadParameter(f"expected a picture, found no file {path}")
        pixels = prepare(path.read_bytes(), max_pixels=50_000_000)
        runs.append(observe(engine, pixels, seed, steps or limit))
    for written in draw_all(engine.card, runs, out, seed):
        console.print(written)


def retina(
    image: Annotated[Path, typer.Argument(help="picture of a digit, prepared as the service does")],
    out: Annotated[Path, typer.Option(help="file of the picture, .png or .svg")] = Path("retina.png"),
    seed: Annotated[int, typer.Option(min=0, help="of the distortions")] = 1,
) -> None:
    """Draw a digit under every distortion, and what the retina makes of each."""
    from spikehead.pictures.normalise import prepare

    from training.comparison.retina_figure import draw

    if not image.is_file():
        raise typer.BadParameter(f"expected a picture, found no file {image}")
    pixels = prepare(image.read_bytes(), max_pixels=50_000_000)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(pixels, seed).savefig(out, dpi=120)
    console.print(out)
