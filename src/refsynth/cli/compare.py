"""`refsynth compare`: two runs on the rows that both held out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from refsynth.cli.screen import out, print_json
from refsynth.core.errors import counted


def compare(
    first: Annotated[Path, typer.Argument(help="A run folder.")],
    second: Annotated[Path, typer.Argument(help="Another run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell which of two runs is better, on the rows that both held out, or that it cannot be told.

    Rows are paired by text and label. The test file has no part in it: it is for the one run that is taken in the end.

    Example: refsynth compare runs/tickets runs/larger
    """
    from refsynth.cli.table import show_rows
    from refsynth.core.intervals import INTERVALS
    from refsynth.evaluation.compare import compare_runs

    found = compare_runs(first, second)
    if as_json:
        print_json({**asdict(found), "verdict": found.verdict, "intervals": INTERVALS})
        return
    measure = found.both[0].name
    lines = [
        (name, own.percent(), f"{own.n:,}", both.percent(), f"{both.n:,}")
        for name, own, both in zip(found.names, found.own, found.both, strict=True)
    ]
    show_rows(("run", f"{measure}, all its rows", "rows", f"{measure}, rows of both", "rows"), lines)
    out.print(found.verdict, markup=False)
    out.print(
        f"only {second} is right on {counted(found.won, 'row')}, only {first} on {counted(found.lost, 'row')}", markup=False
    )
    out.print(INTERVALS, style="italic", markup=False)
