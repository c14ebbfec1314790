"""`refsynth label worth`: are the next labels or the next drafts worth more?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from refsynth.cli.run import interruptible
from refsynth.cli.screen import Json, out, print_json
from refsynth.cli.table import show_rows
from refsynth.cli.watch import Printer
from refsynth.core.errors import InputError

if TYPE_CHECKING:
    from refsynth.core.types import Metric

VERDICTS: Mapping[str, str] = {
    "labels": "label: {labels:,} labels would bring more than {drafts:,} drafts",
    "drafts": "synthesize: {drafts:,} drafts would bring more than {labels:,} labels",
    "cannot tell": "cannot tell: the intervals overlap; more labeled rows would make them narrower",
}


def worth(
    run: Annotated[Path, Argument(help="The folder of a finished run.")],
    labels: Annotated[int, Option(min=1, help="How many more labels a person would give.")] = 20,
    drafts: Annotated[int, Option(min=1, help="How many more drafts would be asked for.")] = 1000,
    seed: Annotated[int | None, Option("--seed", help="Seed of random choices; default: the task's.")] = None,
    as_json: Json = False,
) -> None:
    """Estimate from learning curves whether more labels or more drafts would improve a finished run more.

    Example: refsynth label worth runs/tickets --labels 20 --drafts 1000
    """
    from refsynth.core.record import command_of
    from refsynth.labels.curves import answer
    from refsynth.pipeline.flow import synthesize, writers_of
    from refsynth.pipeline.reopen import reopened
    from refsynth.synthesis.rounds import screened

    if not (run / "bundle").is_dir():
        raise InputError(f"{run}: not a finished run", remedy=command_of(run))
    with interruptible(), reopened(run, (), Printer()) as begun:
        writers = writers_of(begun)
        written, _ = synthesize(begun.job, writers)
        result = answer(
            begun.job, screened(begun.job, writers, written), asked=written.asked, labels=labels, more=drafts, seed=seed
        )
    if as_json:
        print_json(result._asdict() | {"labels": asdict(result.labels), "drafts": asdict(result.drafts)})
        return
    lines = [
        (what, f"{result.now[what]:,}", f"{more:,}", _points(gain), _curve(result.errors[what]))
        for what, more, gain in (("labels", labels, result.labels), ("drafts", drafts, result.drafts))
    ]
    show_rows(("", "now", "more", f"{result.score}, points", "measured errors by size"), lines)
    out.print(VERDICTS[result.verdict].format(labels=labels, drafts=drafts))
    out.print("measured by a logistic head on frozen embeddings: labels without drafts, drafts with all labels")


def _points(gain: Metric) -> str:
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def _curve(errors: Mapping[int, float]) -> str:
    return ", ".join(f"{size:,}: {100 * error:.1f}%" for size, error in errors.items())
