"""`refsynth trace`: where a training row comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument

from refsynth.cli.screen import Json, out, print_json


def trace(
    run: Annotated[Path, Argument(help="A run folder.")],
    row: Annotated[str, Argument(help="A row id, e.g. draft-3f2a9c01de-7 or row-12.")],
    as_json: Json = False,
) -> None:
    """Show where a training row comes from.

    For a draft: its prompt, the seed examples that the prompt showed, seed, reference and scores. For a seed example: the drafts
    whose prompts showed it.

    Example: refsynth trace runs/tickets draft-3f2a9c01de-7
    """
    from refsynth.evaluation.trace import trace_row

    story = trace_row(run, row)
    if as_json:
        print_json(story)
        return
    for key, value in story.items():
        if isinstance(value, list):
            out.print(f"{key}:")
            for item in value:
                out.print(f"  {item}", markup=False)
        else:
            out.print(f"{key}: {value}", markup=False)
