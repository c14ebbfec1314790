"""`refsynth compare`: two runs on the rows that both held out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument

from refsynth.cli.screen import Json, out, print_json
from refsynth.core.errors import counted


def compare(
    first: Annotated[Path, Argument(help="A run folder.")],
    second: Annotated[Path, Argument(help="The run folder to compare it with.")],
    as_json: Json = False,
) -> None:
    """Tell which of two runs is better on the rows that both held out, or that the rows cannot tell.

    Rows are paired by text and label. The test file is not used: it is for the one run that you choose in the end.

    Example: refsynth compare runs/tickets runs/larger
    """
    from refsynth.cli.table import show_rows
    from refsynth.core.intervals import INTERVALS
    from refsynth.evaluation.compare import compare_runs

    result = compare_runs(first, second)
    if as_json:
        print_json({**asdict(result), "verdict": result.verdict, "intervals": INTERVALS})
        return
    measure = result.both[0].name
    lines = [
        (name, own.percent(), f"{own.n:,}", both.percent(), f"{both.n:,}")
        for name, own, both in zip(result.names, result.own, result.both, strict=True)
    ]
    show_rows(("run", f"{measure}, all its rows", "rows", f"{measure}, shared rows", "rows"), lines)
    out.print(result.verdict, markup=False)
    won, lost = counted(result.won, "row"), counted(result.lost, "row")
    out.print(f"only {second} is right on {won}, only {first} on {lost}", markup=False)
    out.print(INTERVALS, style="italic", markup=False)
