"""`refsynth label`: cheap labels: what to label next, answers taken in, several annotators, rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refsynth.cli.files import shortest, writing
from refsynth.cli.once import Commands
from refsynth.cli.opening import Delimiter, Encoding
from refsynth.cli.screen import command, err, out, print_json
from refsynth.cli.table import show_rows
from refsynth.cli.watch import Printer
from refsynth.cli.worth import worth
from refsynth.core.errors import DataError, InputError, counted
from refsynth.core.run import write_json, write_jsonl
from refsynth.labels.active import StrategyName
from refsynth.labels.crowd import Method

if TYPE_CHECKING:
    from refsynth.labels.next import Stability

label = Commands(no_args_is_help=True, help="Cheap labels: what to label next, answers taken in, several annotators, rules.")

label.command("worth")(worth)

Run = Annotated[Path, typer.Option("--run", help="The folder of a finished run.")]
TaskText = Annotated[str | None, typer.Option("--text", "--text-column", help="Column of the text; the task's if left out.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Write over the file of --out.")]

_WHERE_TO = "what has no label can go into the file that task.yaml names under data.none"

SHOWN = 10
"""Conflicts on the screen."""

LINES = 40
"""Annotators on the screen."""


@label.command("next")
def next_(
    pool: Annotated[
        Path, typer.Argument(help="Unlabelled texts: CSV, TSV, JSONL, Parquet, Excel, or .txt; or what predict --out wrote.")
    ],
    run: Run,
    n: Annotated[int, typer.Option("-n", min=1, help="How many texts to label.")] = 20,
    strategy: Annotated[StrategyName, typer.Option(help="How they are chosen.")] = "hybrid",
    file: Annotated[
        Path | None, typer.Option("--out", help="New: .csv, .tsv, .xlsx or .jsonl; in RUN/label if left out.")
    ] = None,
    text_column: TaskText = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of what is drawn; the task's if left out.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Ask for texts too that came back without a label.")] = False,
    as_json: Json = False,
) -> None:
    """Choose the texts whose labels would teach the model of a run most, and write them to be filled in.

    All columns of the file are kept, but for what a model said of the rows. Of a file that predict --out wrote, only the rows of
    which the model is unsure are asked for, if there are any. Texts that it marks as none of these come last.

    Example: refsynth label next inbox.csv --run runs/tickets -n 20 --out to-label.csv
    """
    from refsynth.labels.next import ask_next
    from refsynth.pipeline.reopen import reopened

    with reopened(run, (), Printer(), grown=True) as begun:
        asked = ask_next(
            begun.job,
            pool,
            n=n,
            strategy=strategy,
            out=file,
            text=text_column,
            delimiter=delimiter,
            encoding=encoding,
            seed=seed,
            again=again,
        )
        labels, usual = begun.job.task.labels, begun.job.task.config.data.columns.text
    if as_json:
        stable = asked.stability._asdict() if asked.stability else None
        print_json(asked._asdict() | {"stability": stable, "labels": labels})
        return
    left = f"{asked.labelled:,} more have a label already"
    for count, why in ((asked.sure, "that the model is sure of"), (asked.skipped, "left without a label before")):
        left += f", {count:,} {why}" if count else ""
    left += f"; {counted(asked.repeated, 'repeated text')} left out" if asked.repeated else ""
    unread = f"; {counted(asked.unreadable, 'row')} cannot be read" if asked.unreadable else ""
    err.print(f"{asked.rows:,} of {asked.pool:,} texts ({left}{unread})", markup=False)
    if asked.strange:
        err.print(f"{asked.strange:,} of them are marked as none of these, and come last: {_WHERE_TO}", markup=False)
    if asked.certain:
        err.print("the model is unsure of none of them: these are chosen from all", markup=False)
    if asked.stability:
        err.print(_advice(asked.stability), markup=False)
    out.print(f"labels: {', '.join(labels)}", markup=False)
    out.print(f"fill in the labels: {asked.file}   (what you leave empty is not asked for again)", markup=False)
    column = () if asked.text == usual else ("--text", asked.text)
    out.print(f"next: {command('label', 'add', asked.file, '--run', run, *column)}", markup=False)


@label.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="What `label next` wrote, filled in; or any file with the task's columns.")],
    run: Run,
    text_column: TaskText = None,
    label_column: Annotated[
        str | None, typer.Option("--label", "--label-column", help="Column of the label; the task's if left out.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad-rows", help="Leave unusable rows out and list them.")] = False,
    as_json: Json = False,
) -> None:
    """Add labelled rows to those that the next run learns from; the same rows again add nothing.

    Example: refsynth label add to-label.csv --run runs/tickets
    """
    from refsynth.core.record import command_of
    from refsynth.data.account import describe_skipped
    from refsynth.labels.more import add_labels

    done = add_labels(run, file, skip_bad=skip_bad, text=text_column, label=label_column)
    left = [row for row in done.loaded.skipped if not (done.skipped and row.reason == "no label")]  # a form's are told apart
    added, skipped = done.added, describe_skipped(left)
    if as_json:
        conflicts = [conflict._asdict() for conflict in added.conflicts]
        told = {"file": str(done.file), "added": added.added, "known": added.known, "conflicts": conflicts}
        listed = None if done.listed is None else str(done.listed)
        print_json(told | {"skipped": len(done.loaded.skipped), "listed": listed, "named": done.named, "blank": done.skipped})
        return
    out.print(f"{counted(added.added, 'row')} added to {shortest(done.file)}; {added.known:,} were there already", markup=False)
    if done.skipped:
        out.print(f"  {counted(done.skipped, 'text')} left without a label: label next does not ask again", markup=False)
    for note in skipped:
        out.print(f"  {note}", markup=False)
    if done.listed is not None:
        out.print(f"  listed in {done.listed}", markup=False)
    for row, said, before in added.conflicts[:SHOWN]:
        out.print(f"  not added: {row} says '{said}', but its text is labelled '{before}' already", markup=False)
    if len(added.conflicts) > SHOWN:
        out.print(f"  and {len(added.conflicts) - SHOWN:,} more that contradict what is there", markup=False)
    if not done.named:
        out.print(f"write it into task.yaml once, under data: `more: {done.file.name}`", markup=False)
    out.print(f"next: {command_of(run)}", markup=False)


Least = Annotated[float, typer.Option(min=0, max=1, help="Leave out texts whose label is not more probable than this.")]


@label.command("crowd")
def crowd(
    file: Annotated[Path, typer.Argument(help="One row per text and annotator: CSV, TSV, JSONL or Parquet.")],
    target: Annotated[Path, typer.Option("--out", help="JSON lines to train on; the annotators go to NAME.annotators.json.")],
    method: Annotated[
        Method, typer.Option(help="dawid-skene weighs annotators by how they err; majority counts heads.")
    ] = "dawid-skene",
    least: Least = 0.5,
    text_column: Annotated[str, typer.Option("--text", "--text-column", help="Column of the text.")] = "text",
    annotator_column: Annotated[str, typer.Option("--annotator", help="Column of who labelled it.")] = "annotator",
    label_column: Annotated[str, typer.Option("--label", help="Column of the label.")] = "label",
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Join the labels of several annotators to one per text, and tell how reliable each annotator is.

    Example: refsynth label crowd votes.csv --out train.jsonl
    """
    from refsynth.labels.consensus import join
    from refsynth.labels.crowd import Fields, agree, describe, read_crowd

    _check_target(target, force=force)
    fields = Fields(text_column, annotator_column, label_column)
    read = read_crowd(file, fields=fields, delimiter=delimiter, encoding=encoding)
    consensus = agree(read, method=method)
    joined = join(read.texts, read.labels, read.votes, consensus.posterior, least=least)
    people = describe(read, consensus)
    _write(target, [row._asdict() for row in joined])
    _write_report(target.with_suffix(".annotators.json"), people)
    if as_json:
        print_json({"texts": len(joined), "unclear": read.votes.n - len(joined), "skipped": read.skipped, "annotators": people})
        return
    lines = [
        (line["annotator"], f"{line['votes']:,}", f"{100 * line['accuracy']:.1f}%", _worst(line["confusion"])) for line in people
    ]
    show_rows(("annotator", "votes", "accuracy", "errs most"), lines[:LINES])
    if len(lines) > LINES:
        out.print(f"and {len(lines) - LINES:,} more annotators")
    _tell_written(target, len(joined), read.votes.n, read.skipped, least)


@label.command("weak")
def weak(
    pool: Annotated[Path, typer.Argument(help="Unlabelled texts: CSV, TSV, JSONL, Parquet, or .txt with one a line.")],
    rules: Annotated[
        Path, typer.Option("--rules", help="A YAML file of rules; or a Python file, which is run: name only your own.")
    ],
    target: Annotated[Path, typer.Option("--out", help="JSON lines to train on; the rules' figures go to NAME.rules.json.")],
    least: Least = 0.5,
    text_column: Annotated[str, typer.Option("--text", "--text-column", help="Column of the text.")] = "text",
    label_column: Annotated[str, typer.Option("--label", help="Column of true labels, if some are known.")] = "label",
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Label texts by rules, weighed by how they agree with each other.

    Example: refsynth label weak inbox.csv --rules rules.yaml --out train.jsonl
    """
    from refsynth.core.sections import Columns
    from refsynth.data.rows import iter_rows, readable
    from refsynth.labels.consensus import join
    from refsynth.labels.rules import read_rules
    from refsynth.labels.weak import describe_rules, mark, weigh_rules

    _check_target(target, force=force)
    if rules.suffix.lower() == ".py":
        err.print(f"running {rules}, because you named it: it can do whatever you can", markup=False)
    read = read_rules(rules)
    columns = Columns(text=text_column, label=label_column)
    found = list(iter_rows(pool, columns=columns, delimiter=delimiter, encoding=encoding))
    rows = readable(pool, found, remedy="correct the file, or name the column of the text with --text")
    if not rows:
        raise DataError(f"{pool}: no rows", expected="texts")
    marked = mark(read, [row.text for row in rows])
    weighed = weigh_rules(marked, read.balance)
    joined = join([row.text for row in rows], marked.labels, marked.votes, weighed.posterior, least=least)
    figures = describe_rules(read, marked, weighed, [row.label for row in rows])
    _write(target, [row._asdict() for row in joined])
    told = [{name: _plain(value) for name, value in one._asdict().items()} for one in figures]
    _write_report(target.with_suffix(".rules.json"), told)
    if not read.balance:
        err.print(
            f"the labels are taken to be equally frequent; if they are not, say so under `balance` in {rules.name}", markup=False
        )
    skipped = {"unreadable": len(found) - len(rows)} if len(found) > len(rows) else {}
    if as_json:
        print_json({"texts": len(joined), "unclear": len(rows) - len(joined), "skipped": skipped, "rules": told})
        return
    heads = ("rule", "says", "coverage", "overlap", "conflict", "accuracy, estimated", "measured")
    show_rows(heads, [(one.name, one.labels, *(_share(value) for value in one[2:])) for one in figures])
    _tell_written(target, len(joined), len(rows), skipped, least)


def _plain(value: float | str) -> float | str | None:
    """Return a JSON-ready value: null for what is not known."""
    if isinstance(value, str):
        return value
    return None if value != value else round(value, 4)


def _share(value: float) -> str:
    return "" if value != value else f"{100 * value:.1f}%"


def _worst(confusion: Mapping[str, Mapping[str, float]]) -> str:
    """Return the error that an annotator makes most often."""
    errors = [(share, truth, said) for truth, row in confusion.items() for said, share in row.items() if said != truth]
    share, truth, said = max(errors)
    return f"'{truth}' taken for '{said}' {share:.0%}"


def _check_target(target: Path, *, force: bool) -> None:
    if target.suffix.lower() != ".jsonl":
        raise InputError(f"{target}: cannot be written", expected="a name that ends in .jsonl", remedy="name another with --out")
    if target.exists() and not force:
        raise InputError(f"{target}: is there already", remedy="name another with --out, or write over it with --force")


def _write(target: Path, records: Sequence[Mapping[str, object]]) -> None:
    with writing(target):
        write_jsonl(target, records)


def _write_report(target: Path, value: object) -> None:
    with writing(target):
        write_json(target, value)
    err.print(f"details: {target}", markup=False)


def _tell_written(target: Path, rows: int, texts: int, skipped: Mapping[str, int], least: float) -> None:
    out.print(
        f"{counted(rows, 'row')} in {target}; {counted(texts - rows, 'text')} left out: no label above {least:.0%}", markup=False
    )
    for reason, count in skipped.items():
        out.print(f"  {counted(count, 'row')} {reason}", markup=False)


def _advice(stability: Stability) -> str:
    changed = f"the answer to {stability.changed:.1%} of {stability.n:,} texts"
    last = f"the last labels changed {changed} (kappa {stability.kappas[-1]:.3f})"
    return f"{last}: further labels of this pool would hardly change the model" if stability.stop else last
