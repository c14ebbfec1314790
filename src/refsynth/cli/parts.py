"""`refsynth synthesize | filter | reinforce`: one part of a run again, from its folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from refsynth.cli.files import check_writable, writing
from refsynth.cli.run import interruptible
from refsynth.cli.screen import Json, out, print_json
from refsynth.cli.table import show_rows
from refsynth.cli.watch import Printer
from refsynth.core.errors import ConfigError
from refsynth.core.files import write_jsonl

if TYPE_CHECKING:
    from refsynth.synthesis.reinforcement.figures import Figures

Run = Annotated[Path, Argument(help="A run folder.")]
Set = Annotated[list[str] | None, Option("--set", help="Change one value of the run's task: filter.agreement=0.6")]
Out = Annotated[Path | None, Option("--out", help="File for the drafts that are kept, as JSON lines.")]


def synthesize(run: Run, overrides: Set = None, as_json: Json = False) -> None:
    """Write the drafts of a run again, with some values changed.

    Nothing is trained except what rounds and reinforcement need.

    Example: refsynth synthesize runs/tickets --set synthesis.temperature=0.8
    """
    from refsynth.pipeline.flow import synthesize as write
    from refsynth.pipeline.flow import writers_of
    from refsynth.pipeline.reopen import reopened
    from refsynth.synthesis.selection.diversity import diversity

    with interruptible(), reopened(run, tuple(overrides or ()), Printer()) as begun:
        written, _ = write(begun.job, writers_of(begun))
    texts = [draft.text for draft in written.drafts]
    counts = Counter(draft.label for draft in written.drafts)
    figures = diversity(texts)._asdict() if len(texts) > 1 else {}
    if as_json:
        print_json({"asked": written.asked, "drafts": dict(counts), "rejected": dict(written.rejected), "diversity": figures})
        return
    show_rows(("label", "drafts"), [(label, f"{counts[label]:,}") for label in begun.job.task.labels])
    if figures:
        out.print(f"distinct word pairs {100 * figures['distinct_2']:.1f}%, self-BLEU-4 {100 * figures['self_bleu']:.1f}%")
    out.print(f"drafts: {written.folder / 'drafts.jsonl'}", markup=False)


def filter_drafts(run: Run, overrides: Set = None, kept: Out = None, as_json: Json = False) -> None:
    """Select among the drafts of a run again, with other values of filter.*.

    The command counts the drafts that are dropped for each reason. It trains nothing: the run has kept the scores of its drafts.

    Example: refsynth filter runs/tickets --set filter.agreement=0.6 --out drafts.jsonl
    """
    from refsynth.core.types import kept as kept_examples
    from refsynth.pipeline.flow import select_again

    if other := next((item for item in overrides or () if not item.strip().startswith("filter.")), None):
        raise ConfigError(f"--set {other}: refsynth filter changes filter.* only", remedy="change it in task.yaml, and run again")
    if kept is not None:
        check_writable(kept)
    with interruptible():
        selected = select_again(run, tuple(overrides or ()), Printer())
    reasons = Counter(draft.dropped or "kept" for draft in selected.drafts)
    if kept is not None:
        with writing(kept):
            write_jsonl(kept, [{"id": one.id, "text": one.text, "label": one.label} for one in kept_examples(selected.drafts)])
    if as_json:
        print_json({"drafts": len(selected.drafts), "by_reason": dict(reasons)})
        return
    show_rows(("", "drafts"), [(reason, f"{count:,}") for reason, count in reasons.most_common()])
    if kept is not None:
        out.print(f"kept drafts: {kept}", markup=False)


def reinforce(run: Run, overrides: Set = None, as_json: Json = False) -> None:
    """Train the reference by how its drafts change the loss on held-out rows.

    Later commands use the trained reference if they have the same --set, or task.yaml the same settings.

    Example: refsynth reinforce runs/tickets --set reinforce.iterations=8
    """
    from refsynth.pipeline.flow import writers_of
    from refsynth.pipeline.reopen import reopened

    with interruptible(), reopened(run, tuple(overrides or ()), Printer()) as begun:
        if not begun.job.task.config.reinforce.iterations:
            raise ConfigError("reinforce.iterations is 0: reinforcement is turned off", remedy="--set reinforce.iterations=8")
        curves = writers_of(begun).curves
    if as_json:
        print_json({curve.half: [asdict(turn) for turn in curve.turns] for curve in curves})
        return
    lines = [(curve.half, *_figures(turn)) for curve in curves for turn in curve.turns]
    show_rows(("half", "turn", "reward", "faulty", "distinct word pairs", "KL, nats per token"), lines)


def _figures(turn: Figures) -> tuple[str, ...]:
    kl = "" if turn.kl is None else f"{turn.kl:.4f}"
    return f"{turn.turn + 1}", f"{turn.reward:+.2f}", f"{100 * turn.faulty:.0f}%", f"{100 * turn.distinct_2:.0f}%", kl
