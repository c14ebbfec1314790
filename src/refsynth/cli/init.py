"""`refsynth init`: write a task.yaml to edit, from a labelled file or from label names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Annotated

import typer
import yaml

from refsynth.cli.screen import command, out
from refsynth.core.config import LEARNERS, RunConfig
from refsynth.core.errors import ConfigError, InputError, counted
from refsynth.core.run import write_atomic
from refsynth.core.sections import Columns
from refsynth.core.types import TaskKind
from refsynth.data.account import SkippedRow, describe_skipped, write_skipped
from refsynth.data.io import Loaded, read_examples
from refsynth.data.labels import check_separator
from refsynth.data.sniff import WORDS_REMEDY, Sniffed, sniff, sniff_tagged

_NO_DATA = """\
# data:                   # no labelled rows yet: the descriptions above are all there is
#   train: FILE           # add some here, even a few help
"""
UNITS: Mapping[TaskKind, str] = {
    "classify": "one label for each text",
    "pairs": "one label for each pair of texts",
    "multilabel": "any number of labels for each text",
    "tokens": "labels of words in each text",
}

_DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

_HEAD = """\
# A refsynth task. Run it with: {command}
task: {kind:<19} # {unit}
language: auto            # found from the texts; or en, zh, ...: picks the encoder and the text rules
# Each label with what it means. The descriptions are shown to the writer of the drafts: a sentence each pays, for example
#   lost_card: the customer reports a lost or stolen card
labels:                   # name: what it means, in plain words
"""
_TAIL = """\
reference: embedded       # who writes the drafts; or {endpoint: "http://127.0.0.1:8080/v1", model: NAME} or {folder: PATH}
synthesis:                # how they are written
  drafts: 600             # how many to ask for, over all labels; 0 turns synthesis off
  shots: 4                # your own rows that one prompt shows
learners: [LEARNERS]  # the gate chooses among these, with and without drafts
gate:                     # how it is decided whether drafts help
  folds: 4                # parts of your rows, each held out once
# compress:
#   tiers: static         # a student without a transformer, much faster; or cascade: the model where it is unsure
seed: 0                   # the same seed gives the same result
"""


def init(
    directory: Annotated[Path, typer.Argument(help="Folder for task.yaml; made if it is not there.", metavar="DIR")],
    from_file: Annotated[Path | None, typer.Option("--from", help="Labelled rows: CSV, TSV, JSONL or Parquet.")] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="The labels, with commas between: a,b,c.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text; guessed if left out.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label; guessed if left out.")] = None,
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
    look, loaded = None, None
    names_of_tags = [name.strip() for name in (tags or "").split(",") if name.strip()]
    if from_file is not None:
        known = {"text_column": text_column, "label_column": label_column, "delimiter": delimiter, "encoding": encoding}
        other = separator is not None or pair_column is not None
        look = None if other else sniff_tagged(from_file, **known, asked=words, tags=names_of_tags)
        look = look or sniff(from_file, **known, separator=separator)
        loaded = read_examples(
            from_file,
            labels=named or list(look.labels),
            columns=Columns(
                text=look.text_column,
                label=look.label_column or "label",
                pair=pair_column,
                tags=tuple(names_of_tags),
                offsets=look.offsets,
            ),
            spans="marked" if look.spans else "none",
            least_labels=1 if look.spans else 2,
            delimiter=look.delimiter or None,
            encoding=look.encoding,
            separator=look.separator,
            skip_bad=True,  # a first look; the run stops at them
        )
    names = named or list(look.labels if look else ())
    forced = {key: value for key, value in (("encoding", encoding), ("delimiter", delimiter)) if value and from_file}
    of_words = {"tags": names_of_tags, "offsets": look.offsets} if look is not None and look.spans else {}
    document = _document(
        target, names, from_file=from_file, test=test, look=look, pair=pair_column, forced=forced, of_words=of_words
    )
    RunConfig.parse(yaml.safe_load(document), where=str(target))
    conflicts = [row for row in loaded.skipped if row.reason == "conflict"] if loaded else []
    _write(target, document, conflicts)
    if from_file is not None and look is not None and loaded is not None:
        _tell(from_file, look, loaded, directory / "conflicts.csv")
    _say(f"wrote {target} - describe the labels there, it pays")
    _say(f"next: {_run(target)}")


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


def _document(
    target: Path,
    names: Sequence[str],
    *,
    from_file: Path | None,
    test: Path | None,
    look: Sniffed | None,
    pair: str | None,
    forced: Mapping[str, str],
    of_words: Mapping[str, object],
) -> str:
    kind = _kind(look, pair)
    unit = UNITS[kind]
    head = _HEAD.format(command=_run(target), kind=kind, unit=unit)
    tail = _TAIL.replace("LEARNERS", ", ".join(LEARNERS[kind]))
    labels = "".join(indent(_yaml({name: _in_words(name)}), "  ") + "\n" for name in names)
    data = _data_lines(target.parent, from_file=from_file, test=test, look=look, pair=pair, of_words=of_words)
    ours = "of all files; without this line each file's own is found"
    of_all = [f"  {_yaml({key: value}):<23} # {ours}\n" for key, value in forced.items()]
    return head + labels + data + "".join(of_all) + tail


def _run(target: Path) -> str:
    """Return the command that runs a task."""
    return command("run", target, "--out", Path("runs", target.parent.resolve().name))


def _kind(look: Sniffed | None, pair: str | None) -> TaskKind:
    if look is not None and look.spans:
        return "tokens"
    several = look is not None and look.separator is not None
    if several and pair is not None:
        raise ConfigError(f"--pair-column {pair}: pairs have one label each", expected="one label in a row")
    return "multilabel" if several else "classify" if pair is None else "pairs"


def _data_lines(
    folder: Path,
    *,
    from_file: Path | None,
    test: Path | None,
    look: Sniffed | None,
    pair: str | None,
    of_words: Mapping[str, object],
) -> str:
    if from_file is None and test is None:
        return _NO_DATA
    lines = ["data:                     # your files; relative paths start at this file's folder"]
    if from_file is not None:
        lines.append(f"  {_yaml({'train': _relative(from_file, folder)}):<23} # labelled rows to learn from")
        more = from_file.with_name(f"{from_file.stem}.more.jsonl")
        lines.append(
            f"  {_yaml({'more': _relative(more, folder)}):<23} # further rows, e.g. of refsynth label add; need not be there yet"
        )
    if test is not None:
        lines.append(f"  {_yaml({'test': _relative(test, folder)}):<23} # labelled rows to measure on, at the end")
    else:
        lines.append("  # test: FILE            # optional: labelled rows to measure on, at the end")
    if look is not None:
        lines.append("  columns:                # which column holds what")
        lines.append(f"    {_yaml({'text': look.text_column})}")
        if pair is not None:
            lines.append(f"    {_yaml({'pair': pair})}")
        if look.label_column:
            lines.append(f"    {_yaml({'label': look.label_column})}")
        lines += [f"    {_yaml({key: value}, flow=True)}" for key, value in of_words.items() if value]
        if look.separator:
            lines.append(f"  {_yaml({'separator': look.separator}):<23} # between the labels in a cell; JSON lists need none")
    return "\n".join(lines) + "\n"


def _yaml(pair: Mapping[str, object], *, flow: bool | None = False) -> str:
    """Return one `key: value` line, quoted where YAML would take it for something else."""
    dumped = str(yaml.safe_dump(dict(pair), allow_unicode=True, width=10_000, default_flow_style=flow)).strip()
    return dumped[1:-1] if flow else dumped


def _relative(path: Path, folder: Path) -> str:
    """Return the path as seen from the folder, unless they have nothing but the root in common."""
    path, folder = path.resolve(), folder.resolve()
    shared = Path(os.path.commonpath([path, folder]))
    return str(path) if shared == Path(path.anchor) else os.path.relpath(path, folder)


def _in_words(name: str) -> str:
    """Return `card arrival` for card_arrival, card-arrival and CardArrival."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").split()) or name


def _tell(path: Path, look: Sniffed, loaded: Loaded, listed: Path) -> None:
    delimiter = f"{_DELIMITER_NAMES.get(loaded.delimiter, repr(loaded.delimiter))}, " if loaded.delimiter else ""
    kind = "" if loaded.format == "csv" else f"{loaded.format}, "
    _say(
        f"{path}: {counted(loaded.rows, 'row')}, {kind}{loaded.encoding}, {delimiter}"
        f"columns {look.text_column} (text), {look.label_column or look.text_column} (label)"
    )
    sizes = loaded.counts.values()
    spread = f"{counted(min(sizes), 'row')} each" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)} rows each"
    dropped = describe_skipped([row for row in loaded.skipped if row.reason != "conflict"])
    _say("  " + "; ".join([f"{counted(len(loaded.counts), 'label')}, {spread}", *dropped]))
    for note in loaded.notes:
        if note.startswith("not read: "):
            _say(f"  {note}")
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
