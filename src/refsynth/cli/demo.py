"""`refsynth demo`: the main job on the built-in example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option("--seed", help="The root of all randomness.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Support tickets of an online context: 8 intents, 8 labelled rows each, 36 test rows each, written for this project.

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
