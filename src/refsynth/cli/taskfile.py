"""The task.yaml that `refsynth init` writes from what it finds in a file. A comment explains each line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from refsynth.cli.screen import command
from refsynth.core.errors import ConfigError
from refsynth.core.kinds import TASK_KINDS, KindName
from refsynth.core.sections import parts_of
from refsynth.core.yamlfile import dump_yaml
from refsynth.data.sniff import Sniffed

_NO_DATA = """\
# data:                   # no labeled rows yet: only the descriptions above are used
#   train: FILE           # add labeled rows here; even a few help
"""
_HEAD = """\
# A refsynth task. Run it with: {command}
task: {kind:<19} # {unit}
language: {language:<15} # {hint}: picks the encoder and the text rules
# Say in a sentence what each label means. The prompts for drafts show it, so a good description pays, for example
#   lost_card: the customer reports a lost or stolen card
labels:                   # name: what it means, in plain words
"""
_TAIL = """\
reference: embedded       # the language model that writes drafts; or {endpoint: "http://127.0.0.1:8080/v1", model: NAME}
                          # or {folder: PATH}
synthesis:                # how drafts are written
  drafts: 600             # drafts to ask for, over all labels; 0 turns synthesis off
  shots: 4                # your own rows that one prompt shows
learners: [LEARNERS]  # the gate chooses among these, with and without drafts
gate:                     # how it is decided whether drafts help
  folds: 4                # parts of your rows, each held out once
# compress:
#   tiers: static         # a much faster student without a transformer; or cascade: the model answers if the student is unsure
seed: 0                   # the same seed gives the same result
"""


def document_of(
    target: Path,
    names: Sequence[str],
    *,
    from_file: Path | None,
    test: Path | None,
    look: Sniffed | None,
    pair: str | None,
    language: str,
    forced: Mapping[str, Any],
) -> str:
    """Return the text of a task.yaml; `forced` holds the keys of `data` that the user set."""
    hint = "found from the texts; or en, zh, ..." if language == "auto" else "of the texts; or zh, de, ..., or auto"
    kind = kind_of(look, pair)
    head = _HEAD.format(command=run_command(target), kind=kind, unit=TASK_KINDS[kind].doc, language=language, hint=hint)
    labels = "".join(indent(_yaml({name: _in_words(name)}), "  ") + "\n" for name in names)
    data = _data_lines(target.parent, from_file=from_file, test=test, look=look, pair=pair)
    comment = "of all files; without this line it is detected for each file"
    forced_lines = "".join(_line({key: value}, comment) + "\n" for key, value in forced.items())
    return head + labels + data + forced_lines + _TAIL.replace("LEARNERS", ", ".join(TASK_KINDS[kind].learners))


def run_command(target: Path) -> str:
    """Return the command that runs a task."""
    return command("run", target, "--out", Path("runs", target.parent.resolve().name))


def kind_of(look: Sniffed | None, pair: str | None) -> KindName:
    """Return the kind of task that a file is for; `pair` is the name of the column of second texts.

    Raises:
        ConfigError: the file would be of two kinds at once.
    """
    if look is not None and look.spans:
        return "tokens"
    several = look is not None and look.separator is not None
    if several and pair is not None:
        raise ConfigError(f"--pair-column {pair}: pairs have one label each", expected="one label in a row")
    return "multilabel" if several else "classify" if pair is None else "pairs"


def _data_lines(folder: Path, *, from_file: Path | None, test: Path | None, look: Sniffed | None, pair: str | None) -> str:
    if from_file is None and test is None:
        return _NO_DATA
    lines = ["data:                     # your files; relative paths start at this file's folder"]
    if from_file is not None:
        more = from_file.with_name(f"{from_file.stem}.more.jsonl")
        lines += [
            _line({"train": _relative(from_file, folder)}, "labeled rows to learn from"),
            _line({"more": _relative(more, folder)}, "further rows, e.g. of refsynth label add; need not exist yet"),
        ]
    if test is not None:
        lines.append(_line({"test": _relative(test, folder)}, "labeled rows to measure on, at the end"))
    else:
        lines.append("  # test: FILE            # optional: labeled rows to measure on, at the end")
    if kind_of(look, pair) == "classify":
        lines.append("  # none: FILE            # optional: texts that none of the labels fits, or a list of some")
    if look is not None:
        lines += _column_lines(look, pair)
        if look.separator:
            lines.append(_line({"separator": look.separator}, "between the labels in a cell; JSON lists need none"))
    return "\n".join(lines) + "\n"


def _column_lines(look: Sniffed, pair: str | None) -> list[str]:
    others = [name for name in look.unused if name != look.id_column]
    example = _yaml({"text": [*others[:1], look.text_column]}, flow=True).removeprefix("text: ")
    hint = "" if pair or look.spans or not others else f"# or several, which make one text: {example}"
    lines = ["  columns:                # which column holds what"]
    lines.append(f"    {_column('text', look.text_column, look):<21} {hint}".rstrip())
    if pair is not None:
        lines.append(f"    {_yaml({'pair': pair})}")
    if look.label_column:
        lines.append(f"    {_column('label', look.label_column, look)}")
    if look.id_column and look.id_column != "id":
        lines.append(f"    {_yaml({'id': look.id_column}):<21} # your own name of a row, to find it again")
    span_keys = {"tags": list(look.tags), "offsets": look.offsets}
    return [*lines, *(f"    {_yaml({key: value}, flow=True)}" for key, value in span_keys.items() if value)]


def _line(pair: Mapping[str, Any], comment: str) -> str:
    """Return the line of a key under `data`, with its comment."""
    return f"  {_yaml(pair):<23} # {comment}"


def _column(key: str, name: str, look: Sniffed) -> str:
    """Return the line of a column. It has a list if the name joins several columns of the file."""
    parts = parts_of(name)
    if len(parts) == 1 or {*parts} - {*look.columns}:
        return _yaml({key: name})
    return _yaml({key: list(parts)}, flow=True)


def _yaml(pair: Mapping[str, Any], *, flow: bool = False) -> str:
    """Return one `key: value` line, quoted where YAML needs it; with `flow`, lists stay on the line."""
    dumped = dump_yaml(dict(pair), width=10_000, default_flow_style=flow).strip()
    return dumped[1:-1] if flow else dumped


def _relative(path: Path, folder: Path) -> str:
    """Return the path relative to the folder, or the absolute path if they share nothing but the root."""
    path, folder = path.resolve(), folder.resolve()
    shared = Path(os.path.commonpath([path, folder]))
    return str(path) if shared == Path(path.anchor) else os.path.relpath(path, folder)


def _in_words(name: str) -> str:
    """Return `card arrival` for card_arrival, card-arrival and CardArrival."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").replace("-", " ").split()) or name
