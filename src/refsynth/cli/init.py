"""`refsynth init`: write a task.yaml to edit, from a labelled file or from label names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypedDict

import typer
import yaml

from refsynth.cli.screen import out
from refsynth.cli.taskfile import document_of, kind_of, run_of
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, InputError, counted
from refsynth.core.kinds import TASK_KINDS, KindName
from refsynth.core.run import write_atomic
from refsynth.core.sections import Columns, FileFormat, Quoting
from refsynth.data.account import SkippedRow, describe_skipped, write_skipped
from refsynth.data.io import LoadedRows, read_examples
from refsynth.data.labels import check_separator, describe_variants, variants
from refsynth.data.sniff import Sniffed, sniff, sniff_tagged
from refsynth.data.table import refuse_idle
from refsynth.data.unclear import WORDS_REMEDY

_DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def init(
    directory: Annotated[Path, typer.Argument(help="Folder for task.yaml; made if it is not there.", metavar="DIR")],
    from_file: Annotated[Path | None, typer.Option("--from", help="Labelled rows: CSV, TSV, JSONL, Parquet or Excel.")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="The labels, with commas between: a,b,c.")] = None,
    text_column: Annotated[
        str | None, typer.Option(help='Column of the text, or several: "Subject + Message"; guessed if left out.')
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help='Column of the label, or several of yes and no: "a + b"; guessed if left out.')
    ] = None,
    pair_column: Annotated[str | None, typer.Option(help="Column of a second text: the task is then about pairs.")] = None,
    separator: Annotated[
        str | None, typer.Option(help="What stands between the labels in a cell: a text then has any number of them.")
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Labels are of words, as in [Ann Lee](person); noticed in CoNLL files and lists.")
    ] = False,
    tags: Annotated[
        str | None, typer.Option(help="What tags that are numbers stand for, in their order: O,B-person,I-person.")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Of a CSV file; detected if left out.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of the file; detected if left out.")] = None,
    quoting: Annotated[Quoting | None, typer.Option(help="Of a CSV file; none: quotes are characters, a line is a row.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of a workbook; the first if left out.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Labels that differ only in case, spaces or Unicode form are one.")
    ] = False,
    language: Annotated[
        str | None, typer.Option(help="Of the texts: en, de, zh, ...; found from them if left out, and en where there are none.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Labelled rows that only the final evaluation reads.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a task.yaml that is there.")] = False,
) -> None:
    """Write a task.yaml to edit, from a labelled file or from label names.

    Examples: refsynth init my-task --from tickets.csv, or refsynth init my-task --labels billing,delivery
    """
    check_separator(separator)
    target = directory / "task.yaml"
    named = _split(labels)
    if from_file is None and named is None:
        raise InputError("neither a file nor labels given", remedy="refsynth init DIR --from FILE, or --labels a,b,c")
    if target.exists() and not force:
        raise InputError(f"{target}: is there already", remedy="--force writes over it")
    if test is not None and not test.is_file():  # not opened here: nothing that is asked for may depend on it
        raise InputError(f"{test}: no such file", expected="labelled rows, for --test")
    if pair_column is not None and from_file is None:
        raise InputError(f"--pair-column {pair_column}: without a file", remedy="name it: refsynth init DIR --from FILE")
    if words and (from_file is None or separator is not None or pair_column is not None):
        raise InputError(
            "--words: labels of words are read from a file, and of single texts", remedy="refsynth init DIR --from FILE --words"
        )
    look, loaded, names = None, None, named or []
    how: FileFormat = {"delimiter": delimiter, "encoding": encoding, "quoting": quoting, "sheet": sheet}
    of_numbers = [name.strip() for name in (tags or "").split(",") if name.strip()]
    if from_file is not None:
        other = separator is not None or pair_column is not None
        columns: _Named = {"text_column": text_column, "label_column": label_column}
        look = None if other else sniff_tagged(from_file, **columns, **how, tagged=words, tags=of_numbers)
        look = look or sniff(from_file, **columns, pair_column=pair_column, **how, separator=separator)
        refuse_idle(from_file, look.format, **how)
        _check(look, pair_column, of_numbers)
        names = named or (_merged(look.labels) if merge else list(look.labels))
        loaded = read_examples(
            from_file,
            labels=names,
            columns=Columns(
                text=look.text_column,
                label=look.label_column or "label",
                pair=pair_column,
                tags=look.tags,
                offsets=look.offsets,
                id=look.id_column,
            ),
            spans="marked" if look.spans else "none",
            least_labels=1 if look.spans else 2,
            separator=look.separator,
            merge=merge,
            skip_bad=True,  # a first look; the run stops at them
            **how,
        )
    forced = {key: value for key, value in how.items() if value and from_file} | ({"merge": True} if merge else {})
    spoken = language or ("auto" if from_file else "en")
    document = document_of(
        target, names, from_file=from_file, test=test, look=look, pair=pair_column, language=spoken, forced=forced
    )
    RunConfig.parse(yaml.safe_load(document), where=str(target))
    conflicts = [row for row in loaded.skipped if row.reason == "conflict"] if loaded else []
    _write(target, document, conflicts)
    if from_file is not None and look is not None and loaded is not None:
        _tell(from_file, look, loaded, directory / "conflicts.csv", kind_of(look, pair_column))
    _say(f"wrote {target} - describe the labels there, it pays")
    if language is None and from_file is None:
        _say("language: en, as nothing says another; write the texts' own there, or name it with --language")
    _say(f"next: {run_of(target)}")


class _Named(TypedDict):
    text_column: str | None
    label_column: str | None


def _check(look: Sniffed, pair: str | None, tags: Sequence[str]) -> None:
    """Refuse options that the file does not bear out."""
    kind_of(look, pair)  # refuses two kinds at once
    if look.text_column == pair:
        raise InputError(
            f"--pair-column {pair}: no other column holds a text", remedy="name that of the first text with --text-column"
        )
    if tags and not look.spans:
        raise InputError("--tags: there are no tags of words that they could name", remedy="leave --tags out")


def _merged(labels: Mapping[str, int]) -> list[str]:
    """Return of labels that may be meant as one the most frequent, and all others."""
    left_out = {name for group in variants(labels) for name in group if name != max(group, key=lambda each: labels[each])}
    return [name for name in labels if name not in left_out]


def _split(labels: str | None) -> list[str] | None:
    if labels is None:
        return None
    names = [name.strip() for name in labels.replace("，", ",").split(",") if name.strip()]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"--labels {labels}: {len(set(names))} different of {len(names)}", expected="at least two, none twice")
    return names


def _write(target: Path, document: str, conflicts: Sequence[SkippedRow]) -> None:
    listed = target.with_name("conflicts.csv")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if conflicts:
            write_skipped(listed, conflicts)
        else:
            listed.unlink(missing_ok=True)
        write_atomic(target, document.encode())
    except OSError as error:
        raise InputError(f"{target.parent}: cannot be written ({error.strerror})", remedy="name another folder") from error


def _tell(path: Path, look: Sniffed, loaded: LoadedRows, listed: Path, kind: KindName) -> None:
    delimiter = f"{_DELIMITER_NAMES.get(loaded.delimiter, repr(loaded.delimiter))}, " if loaded.delimiter else ""
    form = "" if loaded.format == "csv" else f"{loaded.format}, "
    _say(
        f"{path}: {counted(loaded.rows, 'row')}, {form}{loaded.encoding}, {delimiter}"
        f"columns {look.text_column} (text), {look.label_column or look.text_column} (label)"
    )
    _say(f"  task: {kind}, {TASK_KINDS[kind].doc}: {look.why}")
    if look.unused:
        _say(f"  not taken: {', '.join(look.unused[:12])}{', ...' if len(look.unused) > 12 else ''}")
    if look.id_column:
        _say(f"  to find rows again: {look.id_column}")
    sizes = loaded.counts.values()
    spread = f"{counted(min(sizes), 'row')} each" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)} rows each"
    dropped = describe_skipped([row for row in loaded.skipped if row.reason != "conflict"])
    _say("  " + "; ".join([f"{counted(len(loaded.counts), 'label')}, {spread}", *dropped]))
    for note in dict.fromkeys((*look.notes, *filter(None, (describe_variants(loaded.counts),)))):
        _say(f"  note: {note}")
    if look.offsets:
        _say(f"  places of spans count {look.offsets} here, not characters: columns.offsets in task.yaml")
    if look.marked:
        _say(f"  {WORDS_REMEDY} and --force")
    bad = [row for row in loaded.skipped if row.reason in ("malformed", "unknown label")]
    if bad:
        _say(f"  row {bad[0].row}: {bad[0].detail} - fix such rows, or run with --skip-bad-rows")
    if loaded.conflicts:
        count, rows = len(loaded.conflicts), [str(row) for text in loaded.conflicts for row in text]
        carry = "1 text carries two labels" if count == 1 else f"{count} texts carry more than one label each"
        shown = ", ".join(rows[:6]) + (", ..." if len(rows) > 6 else "")
        _say(f"  {carry} (rows {shown}): kept out, listed in {listed}")


def _say(line: str) -> None:
    out.print(line, markup=False)
