"""`refsynth init`: write a task.yaml to edit, from a labeled file or from label names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from typer import Argument, Option

from refsynth.cli.screen import out
from refsynth.cli.taskfile import document_of, kind_of, run_command
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError, InputError, counted
from refsynth.core.files import write_atomic
from refsynth.core.kinds import TASK_KINDS, KindName
from refsynth.core.sections import Columns, FileFormat, Quoting
from refsynth.data.account import SkippedRow, describe_skipped, write_skipped
from refsynth.data.io import LoadedRows, read_examples
from refsynth.data.labels import check_separator, describe_variants, variants
from refsynth.data.sniff import Sniffed, sniff, sniff_tagged
from refsynth.data.table import refuse_idle
from refsynth.data.unclear import WORDS_REMEDY

_DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


def init(
    directory: Annotated[Path, Argument(help="Folder for task.yaml; created if it does not exist.", metavar="DIR")],
    from_file: Annotated[Path | None, Option("--from", help="Labeled rows: CSV, TSV, JSONL, Parquet or Excel.")] = None,
    labels: Annotated[str | None, Option("--labels", help="The labels, separated by commas: a,b,c.")] = None,
    text_column: Annotated[str | None, Option(help='Text column, or several: "Subject + Message"; default: guessed.')] = None,
    label_column: Annotated[str | None, Option(help='Label column, or yes/no columns: "a + b"; default: guessed.')] = None,
    pair_column: Annotated[str | None, Option(help="Column of a second text, for a task about pairs of texts.")] = None,
    separator: Annotated[str | None, Option(help="Separator of labels in a cell, for a multi-label task.")] = None,
    words: Annotated[bool, Option("--words", help="Labels are marked in the text: [Ann Lee](person).")] = False,
    tags: Annotated[str | None, Option(help="Names of tags that the file has as numbers, in order: O,B-person,I-person.")] = None,
    delimiter: Annotated[str | None, Option(help="Field delimiter of a CSV file; default: detected.")] = None,
    encoding: Annotated[str | None, Option(help="Text encoding of the file; default: detected.")] = None,
    quoting: Annotated[
        Quoting | None, Option(help="Quoting of a CSV file; none: quotes are plain characters. Default: detected.")
    ] = None,
    sheet: Annotated[str | None, Option(help="Sheet of a workbook; default: the first that is not hidden.")] = None,
    merge: Annotated[bool, Option("--merge", help="Join labels that differ only in case, spaces or Unicode form.")] = False,
    language: Annotated[str | None, Option(help="Language of the texts: en, de, zh, ...; default: found from them.")] = None,
    test: Annotated[Path | None, Option(help="Labeled rows that only the final evaluation reads.")] = None,
    force: Annotated[bool, Option("--force", help="Overwrite an existing task.yaml.")] = False,
) -> None:
    """Write a task.yaml to edit, from a labeled file or from label names.

    Examples: refsynth init my-task --from tickets.csv, or refsynth init my-task --labels billing,delivery
    """
    check_separator(separator)
    target = directory / "task.yaml"
    named = _label_names(labels)
    if from_file is None and named is None:
        raise InputError("neither a file nor labels given", remedy="refsynth init DIR --from FILE, or --labels a,b,c")
    if target.exists() and not force:
        raise InputError(f"{target}: exists already", remedy="--force overwrites it")
    if test is not None and not test.is_file():  # it is not opened: nothing but the final evaluation may depend on test rows
        raise InputError(f"{test}: no such file", expected="labeled rows, for --test")
    if pair_column is not None and from_file is None:
        raise InputError(f"--pair-column {pair_column}: needs a file", remedy="name it: refsynth init DIR --from FILE")
    if words and (from_file is None or separator is not None or pair_column is not None):
        raise InputError(
            "--words: needs a file, and does not go with --separator or --pair-column",
            remedy="refsynth init DIR --from FILE --words",
        )
    look, loaded, names = None, None, named or []
    how: FileFormat = {"delimiter": delimiter, "encoding": encoding, "quoting": quoting, "sheet": sheet}
    tag_names = [name.strip() for name in (tags or "").split(",") if name.strip()]
    if from_file is not None:
        columns: dict[str, Any] = {"text_column": text_column, "label_column": label_column}
        if separator is None and pair_column is None:
            look = sniff_tagged(from_file, **columns, **how, tagged=words, tags=tag_names)
        look = look or sniff(from_file, **columns, pair_column=pair_column, **how, separator=separator)
        refuse_idle(from_file, look.format, **how)
        _check_options(look, pair_column, tag_names)
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
            skip_bad=True,  # this is a first look; `refsynth run` stops at bad rows
            **how,
        )
    forced = {key: value for key, value in how.items() if value and from_file} | ({"merge": True} if merge else {})
    task_language = language or ("auto" if from_file else "en")
    document = document_of(
        target, names, from_file=from_file, test=test, look=look, pair=pair_column, language=task_language, forced=forced
    )
    RunConfig.parse(yaml.safe_load(document), where=str(target))
    conflicts = [row for row in loaded.skipped if row.reason == "conflict"] if loaded else []
    _write(target, document, conflicts)
    if from_file is not None and look is not None and loaded is not None:
        _print_findings(from_file, look, loaded, directory / "conflicts.csv", kind_of(look, pair_column))
    _print(f"wrote {target} - describe the labels there, it pays")
    if language is None and from_file is None:
        _print("language: en, since there are no texts to find it from; change it there, or name it with --language")
    _print(f"next: {run_command(target)}")


def _check_options(look: Sniffed, pair: str | None, tags: Sequence[str]) -> None:
    """Refuse options that do not fit the file."""
    kind_of(look, pair)  # raises if the file would be of two kinds at once
    if look.text_column == pair:
        raise InputError(
            f"--pair-column {pair}: no other column holds a text", remedy="name the column of the first text with --text-column"
        )
    if tags and not look.spans:
        raise InputError("--tags: the file has no tags of words", remedy="leave --tags out")


def _merged(labels: Mapping[str, int]) -> list[str]:
    """Return the labels, with only the most frequent one of each group of spellings that may mean the same."""
    left_out = {name for group in variants(labels) for name in group if name != max(group, key=lambda name: labels[name])}
    return [name for name in labels if name not in left_out]


def _label_names(labels: str | None) -> list[str] | None:
    if labels is None:
        return None
    names = [name.strip() for name in labels.replace("，", ",").split(",") if name.strip()]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError(
            f"--labels {labels}: found {len(set(names))} different labels among {len(names)}", expected="at least two, none twice"
        )
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


def _print_findings(path: Path, look: Sniffed, loaded: LoadedRows, listed: Path, kind: KindName) -> None:
    delimiter = f"{_DELIMITER_NAMES.get(loaded.delimiter, repr(loaded.delimiter))}, " if loaded.delimiter else ""
    form = "" if loaded.format == "csv" else f"{loaded.format}, "
    _print(
        f"{path}: {counted(loaded.rows, 'row')}, {form}{loaded.encoding}, {delimiter}"
        f"columns {look.text_column} (text), {look.label_column or look.text_column} (label)"
    )
    _print(f"  task: {kind}, {TASK_KINDS[kind].doc}: {look.why}")
    if look.unused:
        _print(f"  columns not used: {', '.join(look.unused[:12])}{', ...' if len(look.unused) > 12 else ''}")
    if look.id_column:
        _print(f"  row ids: {look.id_column}")
    sizes = loaded.counts.values()
    spread = f"{counted(min(sizes), 'row')} each" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)} rows each"
    dropped = describe_skipped([row for row in loaded.skipped if row.reason != "conflict"])
    _print("  " + "; ".join([f"{counted(len(loaded.counts), 'label')}, {spread}", *dropped]))
    for note in dict.fromkeys((*look.notes, *filter(None, (describe_variants(loaded.counts),)))):
        _print(f"  note: {note}")
    if look.offsets:
        _print(f"  offsets of spans count {look.offsets}, not characters: see columns.offsets in task.yaml")
    if look.marked:
        _print(f"  {WORDS_REMEDY} and --force")
    bad = [row for row in loaded.skipped if row.reason in ("malformed", "unknown label")]
    if bad:
        _print(f"  row {bad[0].row}: {bad[0].detail} - fix such rows, or run with --skip-bad-rows")
    if loaded.conflicts:
        count, rows = len(loaded.conflicts), [str(row) for text in loaded.conflicts for row in text]
        carry = "1 text carries two labels" if count == 1 else f"{count} texts carry more than one label each"
        shown = ", ".join(rows[:6]) + (", ..." if len(rows) > 6 else "")
        _print(f"  {carry} (rows {shown}): left out, listed in {listed}")


def _print(line: str) -> None:
    out.print(line, markup=False)
