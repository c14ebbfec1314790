"""The task.yaml that `refsynth init` writes: every line explained there, from what a file seems to hold."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from refsynth.cli.screen import command
from refsynth.core.errors import ConfigError
from refsynth.core.kinds import TASK_KINDS, KindName
from refsynth.core.sections import parts_of
from refsynth.data.sniff import Sniffed

_NO_DATA = """\
# data:                   # no labelled rows yet: the descriptions above are all there is
#   train: FILE           # add some here, even a few help
"""
_HEAD = """\
# A refsynth task. Run it with: {command}
task: {kind:<19} # {unit}
language: {language:<15} # {told}: picks the encoder and the text rules
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
    """Return the text of a task.yaml; `forced` has the keys of `data` that the user named."""
    told = "found from the texts; or en, zh, ..." if language == "auto" else "of the texts; or zh, de, ..., or auto"
    kind = kind_of(look, pair)
    unit = TASK_KINDS[kind].doc
    head = _HEAD.format(command=run_of(target), kind=kind, unit=unit, language=language, told=told)
    tail = _TAIL.replace("LEARNERS", ", ".join(TASK_KINDS[kind].learners))
    labels = "".join(indent(_yaml({name: _in_words(name)}), "  ") + "\n" for name in names)
    data = _data_lines(target.parent, from_file=from_file, test=test, look=look, pair=pair)
    ours = "of all files; without this line each file's own is found"
    of_all = [f"  {_yaml({key: value}):<23} # {ours}\n" for key, value in forced.items()]
    return head + labels + data + "".join(of_all) + tail


def run_of(target: Path) -> str:
    """Return the command that runs a task."""
    return command("run", target, "--out", Path("runs", target.parent.resolve().name))


def kind_of(look: Sniffed | None, pair: str | None) -> KindName:
    """Return the kind of task that a file is for; `pair` names the column of second texts.

    Raises:
        ConfigError: it would be two kinds at once.
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
        lines.append(f"  {_yaml({'train': _relative(from_file, folder)}):<23} # labelled rows to learn from")
        more = from_file.with_name(f"{from_file.stem}.more.jsonl")
        lines.append(
            f"  {_yaml({'more': _relative(more, folder)}):<23} # further rows, e.g. of refsynth label add; need not be there yet"
        )
    if test is not None:
        lines.append(f"  {_yaml({'test': _relative(test, folder)}):<23} # labelled rows to measure on, at the end")
    else:
        lines.append("  # test: FILE            # optional: labelled rows to measure on, at the end")
    if kind_of(look, pair) == "classify":
        lines.append("  # none: FILE            # optional: texts that none of the labels fits, or a list of some")
    if look is not None:
        lines.append("  columns:                # which column holds what")
        others = [name for name in look.unused if name != look.id_column]
        several = _yaml({"text": [*others[:1], look.text_column]}, flow=True).removeprefix("text: ")
        hint = "" if pair or look.spans or not others else f"# or several, which make one text: {several}"
        lines.append(f"    {_column('text', look.text_column, look):<21} {hint}".rstrip())
        if pair is not None:
            lines.append(f"    {_yaml({'pair': pair})}")
        if look.label_column:
            lines.append(f"    {_column('label', look.label_column, look)}")
        if look.id_column and look.id_column != "id":
            lines.append(f"    {_yaml({'id': look.id_column}):<21} # what you call a row, to find it again")
        of_words = {"tags": list(look.tags), "offsets": look.offsets}
        lines += [f"    {_yaml({key: value}, flow=True)}" for key, value in of_words.items() if value]
        if look.separator:
            lines.append(f"  {_yaml({'separator': look.separator}):<23} # between the labels in a cell; JSON lists need none")
    return "\n".join(lines) + "\n"


def _column(key: str, name: str, look: Sniffed) -> str:
    """Return the line of a column, or of the columns that one is made of."""
    parts = parts_of(name)
    if len(parts) == 1 or {*parts} - {*look.columns}:
        return _yaml({key: name})
    return _yaml({key: list(parts)}, flow=True)


def _yaml(pair: Mapping[str, Any], *, flow: bool = False) -> str:
    """Return one `key: value` line, quoted where YAML would take it for something else; lists stand in it with `flow`."""
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
