"""Write the pages of `docs/reference` that say what the code says: configuration, command line, learners, Python.

python docs/generate.py            # write them
python docs/generate.py --check    # change nothing; exit with 3 where one differs from the code
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from enum import EnumType
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

import refsynth
from refsynth.bundle.spec import TIERS
from refsynth.cli.app import app
from refsynth.core import config, drafting, sections
from refsynth.core.kinds import TASK_KINDS
from refsynth.core.learners import LEARNERS
from refsynth.core.references import REFERENCES
from refsynth.core.scorers import SCORERS
from refsynth.core.sections import Section
from refsynth.models.encoders import ENCODERS

FOLDER = Path(__file__).parent / "reference"

NOTE = "<!-- Written by docs/generate.py from the code: change it there, then run `make reference`. -->"

SECTIONS: Mapping[str, type[Section]] = {
    "": config.RunConfig,
    "data": sections.DataConfig,
    "data.columns": sections.Columns,
    "reference: {endpoint: ...}": drafting.EndpointReference,
    "reference: {folder: ...}": drafting.FolderReference,
    "synthesis": drafting.SynthesisConfig,
    "synthesis.augment: [{translate: apertium}]": drafting.ApertiumTranslation,
    "synthesis.augment: [{translate: ctranslate2}]": drafting.Seq2SeqTranslation,
    "filter": drafting.FilterConfig,
    "reinforce": drafting.ReinforceConfig,
    "selftrain": sections.SelftrainConfig,
    "pretrain": sections.PretrainConfig,
    "training": sections.TrainingConfig,
    "search": sections.SearchConfig,
    "ensemble": sections.EnsembleConfig,
    "prompting": sections.PromptingConfig,
    "gate": sections.GateConfig,
    "unsure": sections.UnsureConfig,
    "compress": sections.CompressConfig,
    "contract": sections.ContractConfig,
}
"""The sections of task.yaml by their keys, in the order of a run."""

BOUNDS: Mapping[str, str] = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "min_length": "at least {} long"}
"""Constraints of pydantic and how the page writes them."""

PLAIN: Mapping[Any, str] = {str: "text", int: "integer", float: "number", bool: "true, false", Path: "path"}
"""Types of values, as somebody who writes YAML calls them."""


def pages() -> dict[str, str]:
    """Return the generated pages by their file names."""
    return {
        "configuration.md": configuration(),
        "command-line.md": command_line(),
        "learners.md": learners(),
        "components.md": components(),
        "python.md": python(),
    }


def configuration() -> str:
    """Return the page of all keys of task.yaml."""
    parts = [
        "# Every key of task.yaml",
        NOTE,
        "A task is one YAML file. `refsynth init` writes it with the keys that you are likely to change. A section that you "
        "leave out takes its defaults. An unknown key is an error that names the nearest known key. On the command line, "
        "`refsynth run --set synthesis.drafts=4000` overrides one value.",
        "The labels `yes`, `no`, `on` and `off` need quotes, because YAML reads them as true and false.",
    ]
    for key, section in SECTIONS.items():
        about = linked(textwrap.dedent(section.__doc__ or "").strip())
        parts += [f"## {key or 'The whole file'}", about, "\n".join(_rows(key, section))]
    return "\n\n".join(parts) + "\n"


def _rows(key: str, section: type[Section]) -> Iterator[str]:
    yield "| key | values | default | meaning |"
    yield "|---|---|---|---|"
    documented = doc_of_fields(section)
    prefix = {"": ""}.get(key, re.sub(r": \[.*", "[]", re.sub(r": \{.*", "", key)) + ".")
    for name, field in section.model_fields.items():
        yield f"| `{prefix}{name}` | {values_of(field)} | {default_of(field)} | {cell(linked(documented[name]))} |"


def doc_of_fields(section: type[Section]) -> dict[str, str]:
    """Return what stands below each field of a section, of its bases too."""
    found: dict[str, str] = {}
    for each in reversed(section.__mro__):
        if not issubclass(each, Section):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                found[field.target.id] = str(ast.literal_eval(below.value))
    return found


def values_of(field: FieldInfo) -> str:
    """Return which values a key takes, with its bounds."""
    bounds = [
        words.format(f"{bound:,}" if isinstance(bound, int) else bound)
        for each in field.metadata
        for name, words in BOUNDS.items()
        if (bound := getattr(each, name, None)) is not None and (name, bound) != ("min_length", 1)
    ]
    return ", ".join([cell(named(field.annotation)), *bounds])


def named(annotation: Any) -> str:
    """Return a type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return named(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(named(each) for each in inner if each is not type(None)))
    if origin is tuple:
        return f"list of {named(inner[0])}"
    if origin is dict:
        return f"mapping of names to {named(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    return PLAIN[annotation]


def default_of(field: FieldInfo) -> str:
    """Return a default as YAML writes it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        return ""
    if value is None:
        return "none"
    if value == {}:
        return "`{}`"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    if value == "":
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def linked(text: str) -> str:
    """Return a text whose mentions of pages are links, from a page of the reference."""
    return re.sub(r"\bdocs/([\w/-]+/)?([\w-]+\.md)", r"[\2](../\1\2)", text)


def cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def command_line() -> str:
    """Return the page of all commands."""
    root = typer.main.get_command(app)
    parts = [
        "# Every command",
        NOTE,
        "All commands write results to standard output, and progress and errors to standard error. "
        "The option `--debug`, before the command, shows the traceback of an error.",
        "| exit code | meaning |\n|---|---|\n| 0 | done |\n"
        "| 2 | the input is wrong: the message names file, row and remedy |\n"
        "| 3 | a gate or a contract said no |\n"
        "| 4 | a model or an extra is missing: the message has the line that installs it |\n"
        "| 130 | interrupted; what was done is kept |",
    ]
    for path, command in walk(root, "refsynth"):
        parts += [f"## {path}", *_command(path, command)]
    return "\n\n".join(parts) + "\n"


def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, with its words."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from walk(inner, f"{path} {name}")
    else:
        yield path, command


def _command(path: str, command: Any) -> Iterator[str]:
    about = inspect.cleandoc(command.help or "").replace("\f", "\n")
    words = [_usage(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
    options = [
        parameter for parameter in command.params if parameter.param_type_name == "option" and "--help" not in parameter.opts
    ]
    yield "```text\n" + " ".join([path, *(["[OPTIONS]"] if options else []), *words]) + "\n```"
    yield escaped(about)
    shown = [(_usage(each), each) for each in command.params if each.param_type_name == "argument"]
    shown += [(_option(each), each) for each in options]
    if shown:
        yield "\n".join(
            ["| argument or option | default | meaning |", "|---|---|---|"]
            + [f"| `{name}` | {_usual(each)} | {cell(escaped(getattr(each, 'help', None) or ''))} |" for name, each in shown]
        )


def escaped(text: str) -> str:
    """Return a help text as Markdown: what looks like a tag or a link is none."""
    return re.sub(r"\[(?=[^\]]*\]\()", r"\\[", re.sub(r"<(?=\w)", "&lt;", text))


def _usage(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return names
    kind = option.type_descriptor.annotation
    known = get_args(kind) if get_origin(kind) is Literal else [each.value for each in kind] if isinstance(kind, EnumType) else []
    choices = "\\|".join(map(str, known))
    return f"{names} {option.metavar or choices or PLAIN.get(kind, kind.__name__).upper()}"


def _usual(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value == () or callable(value):
        return ""
    return cell(f"`{value}`") if value != "" else ""


def learners() -> str:
    """Return the page of all learners."""
    rows = [
        f"| `{name}` | {spec.title} | {cell(linked(spec.doc))} | {spec.ships or 'none: compared only'} | "
        f"{', '.join(f'`{kind}`' for kind, each in TASK_KINDS.items() if each.labels not in spec.unfit)} |"
        for name, spec in LEARNERS.items()
    ]
    usual = [f"| `{kind}` | {', '.join(f'`{name}`' for name in spec.learners)} |" for kind, spec in TASK_KINDS.items()]
    parts = [
        "# Every learner",
        NOTE,
        "A name below may stand under `learners` in task.yaml. The gate compares all learners that you name on held-out rows. "
        "They stand in the order of preference: an earlier one ships unless a later one is better by more than two standard "
        "errors. "
        "[Training methods](../how-to/training.md) says how each of them is trained and what it costs.",
        "\n".join(
            ["| learner | in the report | what is fitted | in the bundle | kinds of tasks |", "|---|---|---|---|---|", *rows]
        ),
        "## Defaults",
        "\n".join(["| task | learners |", "|---|---|", *usual]),
        "## A learner of your own",
        "Another package can add a learner by an entry point of the group `refsynth.learners`, whose value is a "
        "`refsynth.core.learners.LearnerSpec`. Its name may then stand in task.yaml like those above.",
    ]
    return "\n\n".join(parts) + "\n"


OWN_LEARNER = """\
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from refsynth.bundle import TierSpec
from refsynth.bundle.packing import PackedTier
from refsynth.core.learners import LearnerSpec
from refsynth.models.predict import LinearHead


@dataclass(frozen=True)
class NearestLength:
    kind: ClassVar[str] = "lengths"  # the name of its tier
    labels: tuple[str, ...]
    head: LinearHead

    def logits(self, texts):
        return self.head.logits(np.array([[len(text) / 100] for text in texts]))


class LengthLearner:
    def __init__(self, context):
        self.labels = context.labels

    def fit(self, train, dev, *, seed):
        means = np.array([np.mean([len(row.text) for row in train if row.label == label]) for label in self.labels]) / 100
        return NearestLength(self.labels, LinearHead(2 * means[None], -(means**2)))


def pack_tier(predictor, folder):
    return PackedTier("lengths", predictor.head.tensors(), files={})


def open_tier(opening, variant):
    return NearestLength(opening.labels, opening.head)


ABOUT = "the mean length of the texts of each label"
LEARNER = LearnerSpec("lengths", "lengths", "my_package:LengthLearner", ABOUT, "the means", reads="text", small=True)
TIER = TierSpec("lengths", "lengths", ABOUT, "my_package:open_tier", "my_package:pack_tier", files=())
"""
"""A learner whose predictor has a tier of its own; a test runs it."""

READS: Mapping[str, str] = {
    "text": "the draft",
    "reference": "the draft, with the reference",
    "rows": "the draft and the real rows",
}
"""What a scorer reads, in words."""


def components() -> str:
    """Return the page of kinds of tasks, references, scorers, encoders and tiers."""
    kinds = [f"| `{name}` | {spec.doc} | {spec.gives} |" for name, spec in TASK_KINDS.items()]
    encoders = [
        f"| `{name}` | {', '.join(spec.languages) or 'any other'} | {spec.max_tokens} | {spec.doc} |"
        for name, spec in ENCODERS.items()
    ]
    parts = [
        "# Kinds of tasks, references, scorers, encoders, tiers",
        NOTE,
        "## Kinds of tasks",
        "The key `task`. [Tasks](../how-to/tasks.md) has an example of each.",
        "\n".join(["| task | a row has | a model gives |", "|---|---|---|", *kinds]),
        "## References",
        "The key `reference` says who writes the drafts: a name, or a section of its own.",
        "\n".join(
            [
                "| reference | needs | languages | tells how likely a text is | can be trained | what it is |",
                "|---|---|---|---|---|---|",
                *_references(),
            ]
        ),
        "## Scorers",
        "The section `filter` says which drafts stay. The scorers are asked in this order, each about the drafts that are left. "
        "A draft that cannot be scored stays.",
        "\n".join(["| scorer | key and number | reads | what it says of a draft |", "|---|---|---|---|", *_scorers()]),
        "## Encoders",
        "The language of the texts decides which encoder trained models start from.",
        "\n".join(["| encoder | language | tokens at once, at most | what it is |", "|---|---|---|---|", *encoders]),
        "## Tiers",
        "What a bundle can hold, one or several, in order of asking. [The bundle](../explanation/bundle.md) says how.",
        "\n".join(["| tier | its own files | labels are of | what it is |", "|---|---|---|---|", *_tiers()]),
        "## Components of your own",
        "Another package can add a component by an entry point whose value is a spec: `refsynth.core.kinds.KindSpec` in the "
        "group `refsynth.kinds`, `refsynth.core.references.ReferenceSpec` in `refsynth.references`, "
        "`refsynth.core.scorers.ScorerSpec` in `refsynth.scorers`, `refsynth.core.learners.LearnerSpec` in `refsynth.learners`. "
        "Its name may then stand in task.yaml like those above. Its code counts among what the steps of a run depend on: other "
        "code makes them again. A model of its own ships when its predictor has a `kind`, and a `refsynth.bundle.TierSpec` of "
        "that name is in the group `refsynth.tiers`: it says what opens and packs it. Without a "
        "tier, such a learner is only compared, and each later step of a run fits it again, with the same rows and seed.",
        "This learner, with a model of its own, is the module `my_package`:",
        f"```python\n{OWN_LEARNER}```",
        "Its `pyproject.toml` names both:",
        '```toml\n[project.entry-points."refsynth.learners"]\nlengths = "my_package:LEARNER"\n\n'
        '[project.entry-points."refsynth.tiers"]\nlengths = "my_package:TIER"\n```',
        "A notebook can add a component for its own process instead: "
        "`refsynth.core.learners.LEARNERS.register(my_package.LEARNER)` and `refsynth.bundle.TIERS.register(my_package.TIER)`. "
        "The module must be importable. A server, or another process that reads the bundle, needs the entry point.",
    ]
    return "\n\n".join(parts) + "\n"


def _tiers() -> Iterator[str]:
    for name, spec in TIERS.items():
        files = ", ".join(f"`{file}`" for file in spec.files)
        yield f"| `{name}` | {files} | {'words' if spec.words else 'texts'} | {spec.doc} |"


def _references() -> Iterator[str]:
    for spec in REFERENCES.values():
        needs = [f"`refsynth[{extra}]`" for extra in spec.extras] + [f"the model `{name}`" for name in spec.models]
        needs += ["the network"] * spec.network
        scores = ("the server says" if spec.check else "yes") if spec.scores else "no"
        said = (", ".join(needs) or "nothing", ", ".join(spec.languages) or "any", scores, "yes" if spec.training else "no")
        yield f"| `{spec.written}` | {' | '.join(said)} | {spec.doc} |"


def _scorers() -> Iterator[str]:
    for name, spec in SCORERS.items():
        number = {"share": "share left out", "bound": {"higher": "least", "lower": "most"}[spec.better]}[spec.holds]
        yield f"| `{name}` | `{spec.setting}`: {number} | {READS[spec.reads]} | {spec.doc} |"


def python() -> str:
    """Return the page of the Python interface: mkdocstrings fills it in from docstrings."""
    names = [name for name in refsynth.__all__ if not name.startswith("_")]
    parts = [
        "# Python",
        NOTE,
        "Everything that `import refsynth` offers. The import loads no torch. `TextClassifier` and `run` need the extra `train`, "
        "`Client` the extra `client`; the rest works with the base install.",
        *(f"::: refsynth.{name}" for name in names),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the pages, or check them."""
    stale = [name for name, text in pages().items() if not _is(FOLDER / name, text)]
    for name in stale:
        if "--check" in sys.argv:
            sys.stderr.write(f"docs/reference/{name} differs from the code; run `make reference`\n")
        else:
            (FOLDER / name).write_text(pages()[name], "utf-8")
            sys.stdout.write(f"docs/reference/{name}: written\n")
    sys.exit(3 if stale and "--check" in sys.argv else 0)


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text("utf-8") == text


if __name__ == "__main__":
    main()
