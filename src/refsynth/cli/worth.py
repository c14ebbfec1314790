"""`refsynth label worth`: are the next labels or the next drafts worth more?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refsynth.cli.parts import told_when_stopped
from refsynth.cli.screen import out, print_json
from refsynth.cli.table import show_rows
from refsynth.cli.watch import Printer
from refsynth.core.errors import InputError

if TYPE_CHECKING:
    from refsynth.core.types import Metric

SAID: Mapping[str, str] = {
    "labels": "label: {labels:,} labels would bring more than {drafts:,} drafts",
    "drafts": "synthesise: {drafts:,} drafts would bring more than {labels:,} labels",
    "cannot tell": "cannot tell: the intervals overlap; more labelled rows would make them narrower",
}


def worth(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    labels: Annotated[int, typer.Option(min=1, help="Labels that a person would give.")] = 20,
    drafts: Annotated[int, typer.Option(min=1, help="Drafts that would be asked for.")] = 1000,
    seed: Annotated[int | None, typer.Option("--seed", help="Of what is drawn; the task's if left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Tell whether the next labels or the next drafts would bring more, from the learning curves of a finished run.

    Example: refsynth label worth runs/tickets --labels 20 --drafts 1000
    """
    from refsynth.core.record import command_of
    from refsynth.labels.curves import answer
    from refsynth.pipeline.flow import synthesize, writers_of
    from refsynth.pipeline.reopen import reopened
    from refsynth.synthesis.rounds import screened

    if not (run / "bundle").is_dir():
        raise InputError(f"{run}: no finished run", remedy=command_of(run))
    with told_when_stopped(), reopened(run, (), Printer()) as begun:
        writers = writers_of(begun)
        written, _ = synthesize(begun.job, writers)
        found = answer(
            begun.job, screened(begun.job, writers, written), asked=written.asked, labels=labels, more=drafts, seed=seed
        )
    if as_json:
        print_json(found._asdict() | {"labels": asdict(found.labels), "drafts": asdict(found.drafts)})
        return
    lines = [
        (what, f"{found.now[what]:,}", f"{more:,}", _points(gain), _curve(found.errors[what]))
        for what, more, gain in (("labels", labels, found.labels), ("drafts", drafts, found.drafts))
    ]
    show_rows(("", "now", "more", f"{found.score}, points", "measured errors by size"), lines)
    out.print(SAID[found.verdict].format(labels=labels, drafts=drafts))
    out.print("by a logistic head on frozen embeddings; labels are measured without drafts, drafts with all labels")


def _points(gain: Metric) -> str:
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _curve(errors: Mapping[int, float]) -> str:
    return ", ".join(f"{size:,}: {100 * error:.1f}%" for size, error in errors.items())
