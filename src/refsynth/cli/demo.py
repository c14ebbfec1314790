"""`refsynth demo`: the whole pipeline on the built-in example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from refsynth.cli.screen import Json


def demo(
    folder: Annotated[Path, Option("--out", help="The run folder.")] = Path("runs/demo"),
    seed: Annotated[int, Option("--seed", help="The seed of all random choices.")] = 0,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline on a built-in example: support tickets of an online shop.

    The tickets were written for this project. They have 8 intents, with 8 labeled rows and 36 test rows each.

    Example: refsynth demo --out runs/demo
    """
    import yaml

    import refsynth
    from refsynth.cli.run import execute
    from refsynth.core.config import RunConfig
    from refsynth.core.task import Task

    example = Path(refsynth.__file__).parent / "examples" / "tickets"
    tree = {
        "language": "en",
        "labels": yaml.safe_load((example / "labels.yaml").read_text("utf-8")),
        "data": {
            "train": str(example / "train.csv"),
            "test": str(example / "test.csv"),
            "columns": {"text": "message", "label": "intent"},
        },
        "seed": seed,
    }
    execute(Task.of(RunConfig.parse(tree)), folder, skip_bad=False, as_json=as_json)
