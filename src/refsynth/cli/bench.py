"""`refsynth bench`: the benchmarks, resumable cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refsynth.cli.screen import err, out, print_json

bench = typer.Typer(no_args_is_help=True, help="Benchmarks. Each measured cell is appended to a file, so a long bench resumes.")

DATA = typer.Option("--data", help="Folder of data sets: NAME/train.jsonl, NAME/test.jsonl, NAME/labels.json.")
RESULTS = typer.Option("--results", help="Folder that measured cells are appended to.")
SEEDS = typer.Option("--seeds", min=1, help="Seeds 0 to N-1.")
QUICK = typer.Option("--quick", help="The same checks on less, in under ten minutes.")
JSON = typer.Option("--json", help="One JSON object on stdout.")
ONLY = typer.Option("--sets", help="Comma-separated data sets, instead of all of the bench.")


@bench.command("fewshot")
def fewshot(
    data: Annotated[Path, DATA],
    results: Annotated[Path, RESULTS] = Path("benchmarks/results"),
    seeds: Annotated[int, SEEDS] = 5,
    quick: Annotated[bool, QUICK] = False,
    as_json: Annotated[bool, JSON] = False,
    sets: Annotated[str | None, ONLY] = None,
) -> None:
    """Accuracy with 8 labels per class: TF-IDF, frozen encoder, full fine-tuning, SetFit, and this project's arms.

    Example: refsynth bench fewshot --data ../data --seeds 5
    """
    import transformers

    from refsynth.bench.fewshot import measure, outcome

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()

    names = None if sets is None else tuple(sets.split(","))
    cells = measure(data, results / "fewshot.jsonl", seeds=1 if quick else seeds, sets=names, quick=quick, say=_say)
    result = outcome(cells)
    if as_json:
        print_json(result)
    else:
        out.print(result["table"], markup=False)


def _say(line: str) -> None:
    err.print(line, markup=False)
