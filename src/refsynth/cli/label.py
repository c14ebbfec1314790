"""`refsynth label`: choose texts to label, add the answers, join the labels of several annotators, label by rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from refsynth.cli.files import short_path, writing
from refsynth.cli.once import Commands
from refsynth.cli.opening import Delimiter, Encoding
from refsynth.cli.screen import Json, command, err, out, print_json
from refsynth.cli.table import show_rows
from refsynth.cli.watch import Printer
from refsynth.cli.worth import worth
from refsynth.core.errors import DataError, InputError, counted
from refsynth.core.files import write_json, write_jsonl
from refsynth.labels.active import StrategyName
from refsynth.labels.crowd import Method

if TYPE_CHECKING:
    from refsynth.labels.consensus import CombinedLabel
    from refsynth.labels.next import Stability

label = Commands(
    no_args_is_help=True,
    help="Labels at low cost: choose texts, add labels, join annotators, apply rules.",
)

label.command("worth")(worth)

Run = Annotated[Path, Option("--run", help="The folder of a finished run.")]
TaskText = Annotated[str | None, Option("--text", "--text-column", help="Column of the text; default: the task's.")]
Force = Annotated[bool, Option("--force", help="Overwrite the file that --out names.")]

SHOWN = 10  # conflicts that are printed, at most
LINES = 40  # annotators that are printed, at most


@label.command("next")
def next_(
    pool: Annotated[Path, Argument(help="Unlabeled texts: CSV, TSV, JSONL, Parquet, Excel, .txt; or a table of predict --out.")],
    run: Run,
    n: Annotated[int, Option("-n", min=1, help="How many texts to label.")] = 20,
    strategy: Annotated[StrategyName, Option(help="How texts are chosen.")] = "hybrid",
    file: Annotated[Path | None, Option("--out", help="A new .csv, .tsv, .xlsx or .jsonl file; default: in RUN/label.")] = None,
    text_column: TaskText = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    seed: Annotated[int | None, Option("--seed", help="Seed of the choice; default: the task's.")] = None,
    again: Annotated[bool, Option("--again", help="Also ask for texts that came back without a label before.")] = False,
    as_json: Json = False,
) -> None:
    """Choose the texts whose labels would improve a run's model most, and write them to a file to fill in.

    The file keeps all columns except those that hold a model's answers. Of a file that predict --out wrote, only rows on which
    the model is unsure are chosen, if there are any. Texts that fit none of the model's labels come last.

    Example: refsynth label next inbox.csv --run runs/tickets -n 20 --out to-label.csv
    """
    from refsynth.labels.next import ask_next
    from refsynth.pipeline.reopen import reopened

    with reopened(run, (), Printer(), grown=True) as begun:
        chosen = ask_next(
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
        labels, task_text = begun.job.task.labels, begun.job.task.config.data.columns.text
    if as_json:
        stable = chosen.stability._asdict() if chosen.stability else None
        print_json(chosen._asdict() | {"stability": stable, "labels": labels})
        return
    left = f"{chosen.labeled:,} are labeled already"
    for count, why in ((chosen.sure, "that the model is sure of"), (chosen.skipped, "left without a label before")):
        left += f", {count:,} {why}" if count else ""
    left += f"; {counted(chosen.repeated, 'repeated text')} left out" if chosen.repeated else ""
    unread = f"; {counted(chosen.unreadable, 'row')} cannot be read" if chosen.unreadable else ""
    err.print(f"{chosen.rows:,} of {chosen.pool:,} texts ({left}{unread})", markup=False)
    if chosen.strange:
        err.print(
            f"{chosen.strange:,} of them are marked as none of these and come last. "
            "Texts that no label fits can go into the file that task.yaml names under data.none",
            markup=False,
        )
    if chosen.certain:
        err.print("the model is unsure of none of them, so these are chosen from all", markup=False)
    if chosen.stability:
        err.print(_advice(chosen.stability), markup=False)
    out.print(f"labels: {', '.join(labels)}", markup=False)
    out.print(f"fill in the labels: {chosen.file}   (rows that you leave empty are not asked for again)", markup=False)
    column = () if chosen.text == task_text else ("--text", chosen.text)
    out.print(f"next: {command('label', 'add', chosen.file, '--run', run, *column)}", markup=False)


@label.command("add")
def add(
    file: Annotated[Path, Argument(help="A filled-in file of `label next`, or any file with the task's columns.")],
    run: Run,
    text_column: TaskText = None,
    label_column: Annotated[
        str | None, Option("--label", "--label-column", help="Column of the label; default: the task's.")
    ] = None,
    skip_bad: Annotated[bool, Option("--skip-bad-rows", help="Leave unusable rows out and list them.")] = False,
    as_json: Json = False,
) -> None:
    """Add labeled rows to those that the next run learns from. Adding the same rows again changes nothing.

    Example: refsynth label add to-label.csv --run runs/tickets
    """
    from refsynth.core.record import command_of
    from refsynth.data.account import describe_skipped
    from refsynth.labels.more import add_labels

    done = add_labels(run, file, skip_bad=skip_bad, text=text_column, label=label_column)
    # Rows that a form of `label next` left empty are counted on their own line.
    left_out = [row for row in done.loaded.skipped if not (done.skipped and row.reason == "no label")]
    added = done.added
    if as_json:
        print_json(
            {
                "file": str(done.file),
                "added": added.added,
                "known": added.known,
                "conflicts": [conflict._asdict() for conflict in added.conflicts],
                "skipped": len(done.loaded.skipped),
                "listed": None if done.listed is None else str(done.listed),
                "named": done.named,
                "blank": done.skipped,
            }
        )
        return
    out.print(f"{counted(added.added, 'row')} added to {short_path(done.file)}; {added.known:,} were there already", markup=False)
    if done.skipped:
        out.print(f"  {counted(done.skipped, 'text')} left without a label: label next does not ask again", markup=False)
    for note in describe_skipped(left_out):
        out.print(f"  {note}", markup=False)
    if done.listed is not None:
        out.print(f"  listed in {done.listed}", markup=False)
    for row, new, old in added.conflicts[:SHOWN]:
        out.print(f"  not added: {row} has the label '{new}', but the same text is labeled '{old}' already", markup=False)
    if len(added.conflicts) > SHOWN:
        out.print(f"  and {len(added.conflicts) - SHOWN:,} more conflicts with the rows that are there", markup=False)
    if not done.named:
        out.print(f"write it into task.yaml once, under data: `more: {done.file.name}`", markup=False)
    out.print(f"next: {command_of(run)}", markup=False)


Least = Annotated[float, Option(min=0, max=1, help="Leave out texts whose label has at most this probability.")]


@label.command("crowd")
def crowd(
    file: Annotated[Path, Argument(help="One row per text and annotator: CSV, TSV, JSONL or Parquet.")],
    target: Annotated[Path, Option("--out", help="JSON lines to train on; NAME.annotators.json gets figures of annotators.")],
    method: Annotated[Method, Option(help="dawid-skene weighs annotators by errors; majority counts votes.")] = "dawid-skene",
    least: Least = 0.5,
    text_column: Annotated[str, Option("--text", "--text-column", help="Column of the text.")] = "text",
    annotator_column: Annotated[str, Option("--annotator", help="Column of the annotator.")] = "annotator",
    label_column: Annotated[str, Option("--label", help="Column of the label.")] = "label",
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Join the labels of several annotators to one per text, and report how reliable each annotator is.

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
    _write(target, joined, target.with_suffix(".annotators.json"), people)
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
    pool: Annotated[Path, Argument(help="Unlabeled texts: CSV, TSV, JSONL, Parquet, or .txt with one per line.")],
    rules: Annotated[Path, Option("--rules", help="A YAML file of rules, or a Python file of your own, which is run.")],
    target: Annotated[Path, Option("--out", help="JSON lines to train on; NAME.rules.json gets figures of the rules.")],
    least: Least = 0.5,
    text_column: Annotated[str, Option("--text", "--text-column", help="Column of the text.")] = "text",
    label_column: Annotated[str, Option("--label", help="Column of true labels, if some are known.")] = "label",
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Label texts by rules, weighted by how they agree with each other.

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
    read_rows = list(iter_rows(pool, columns=columns, delimiter=delimiter, encoding=encoding))
    rows = readable(pool, read_rows, remedy="correct the file, or name the column of the text with --text")
    if not rows:
        raise DataError(f"{pool}: no rows", expected="texts")
    marked = mark(read, [row.text for row in rows])
    weighed = weigh_rules(marked, read.balance)
    joined = join([row.text for row in rows], marked.labels, marked.votes, weighed.posterior, least=least)
    figures = describe_rules(read, marked, weighed, [row.label for row in rows])
    records = [{name: _plain(value) for name, value in one._asdict().items()} for one in figures]
    _write(target, joined, target.with_suffix(".rules.json"), records)
    if not read.balance:
        err.print(f"the labels are assumed to be equally frequent; if they are not, set `balance` in {rules.name}", markup=False)
    skipped = {"unreadable": len(read_rows) - len(rows)} if len(read_rows) > len(rows) else {}
    if as_json:
        print_json({"texts": len(joined), "unclear": len(rows) - len(joined), "skipped": skipped, "rules": records})
        return
    heads = ("rule", "says", "coverage", "overlap", "conflict", "accuracy, estimated", "measured")
    show_rows(heads, [(one.name, one.labels, *(_share(value) for value in one[2:])) for one in figures])
    _tell_written(target, len(joined), len(rows), skipped, least)


def _plain(value: float | str) -> float | str | None:
    """Return a JSON-ready value: null for NaN, which stands for an unknown figure."""
    if isinstance(value, str):
        return value
    return None if value != value else round(value, 4)


def _share(value: float) -> str:
    return "" if value != value else f"{100 * value:.1f}%"


def _worst(confusion: Mapping[str, Mapping[str, float]]) -> str:
    """Return the error that an annotator makes most often."""
    errors = [(share, truth, given) for truth, row in confusion.items() for given, share in row.items() if given != truth]
    share, truth, given = max(errors)
    return f"'{truth}' taken for '{given}' {share:.0%}"


def _check_target(target: Path, *, force: bool) -> None:
    if target.suffix.lower() != ".jsonl":
        raise InputError(f"{target}: cannot be written", expected="a name that ends in .jsonl", remedy="name another with --out")
    if target.exists() and not force:
        raise InputError(f"{target}: exists already", remedy="name another with --out, or overwrite it with --force")


def _write(target: Path, rows: Sequence[CombinedLabel], details: Path, figures: object) -> None:
    with writing(target):
        write_jsonl(target, [row._asdict() for row in rows])
    with writing(details):
        write_json(details, figures)
    err.print(f"details: {details}", markup=False)


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
