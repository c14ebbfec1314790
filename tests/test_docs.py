"""The documentation says what is true: commands parse, keys exist, files are there."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from benchmarks.__main__ import app as benches
from refsynth.cli.app import app
from refsynth.core import config, drafting, errors, sections
from refsynth.core.intervals import INTERVALS
from refsynth.core.learners import LEARNERS
from refsynth.core.references import REFERENCES
from refsynth.core.scorers import SCORERS
from refsynth.models.encoders import ENCODERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
SECTIONS = {
    config.RunConfig: "",
    sections.DataConfig: "data.",
    sections.Columns: "data.columns.",
    drafting.SynthesisConfig: "synthesis.",
    drafting.ApertiumTranslation: "synthesis.augment[].",
    drafting.Seq2SeqTranslation: "synthesis.augment[].",
    drafting.FilterConfig: "filter.",
    drafting.ReinforceConfig: "reinforce.",
    sections.SelftrainConfig: "selftrain.",
    sections.PretrainConfig: "pretrain.",
    sections.TrainingConfig: "training.",
    sections.SearchConfig: "search.",
    sections.EnsembleConfig: "ensemble.",
    sections.PromptingConfig: "prompting.",
    sections.GateConfig: "gate.",
    sections.UnsureConfig: "unsure.",
    sections.CompressConfig: "compress.",
    sections.ContractConfig: "contract.",
}


@pytest.mark.parametrize(("model", "prefix"), SECTIONS.items())
def test_every_key_is_explained(model, prefix):
    text = (ROOT / "docs" / "config.md").read_text("utf-8")
    missing = [name for name in model.model_fields if f"| `{prefix}{name}` |" not in text]
    assert missing == []


READS = {"text": "the draft", "reference": "it with the reference", "rows": "it with the real rows, in each fold"}


def rows_of_scorers():
    """Return the rows of the table of scorers, as their specs say it."""
    for name, spec in SCORERS.items():
        number = {"share": "share left out", "bound": {"higher": "least", "lower": "most"}[spec.better]}[spec.holds]
        yield f"| `{name}` | `{spec.setting}`: {number} | {READS[spec.reads]} | {spec.doc} |"


def rows_of_references():
    """Return the rows of the table of references, as their specs say it."""
    for spec in REFERENCES.values():
        needs = [f"`refsynth[{extra}]`" for extra in spec.extras] + [f"the model `{name}`" for name in spec.models]
        needs += ["the network"] * spec.network
        scores = ("the server says" if spec.check else "yes") if spec.scores else "no"
        said = (", ".join(needs) or "nothing", ", ".join(spec.languages) or "any", scores, "yes" if spec.training else "no")
        yield f"| `{spec.written}` | {' | '.join(said)} | {spec.doc} |"


def rows_of_encoders():
    """Return the rows of the table of encoders, as their specs say it."""
    for name, spec in ENCODERS.items():
        yield f"| `{name}` | {', '.join(spec.languages) or 'any other'} | {spec.max_tokens} | {spec.doc} |"


@pytest.mark.parametrize("rows", [rows_of_scorers, rows_of_references, rows_of_encoders])
def test_the_tables_of_components_say_what_their_specs_say(rows):
    text = (ROOT / "docs" / "config.md").read_text("utf-8")
    assert "\n".join(rows()) in text, "\n".join(rows())  # to be written there


def test_every_learner_is_explained():
    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    assert [name for name in LEARNERS if f"| `{name}` |" not in text] == []


def shown_commands(start="refsynth"):
    """Yield the commands that begin so, in blocks and in lines."""
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(each for name in ("docs", "design") for each in (ROOT / name).glob("*.md")),
    ):
        text = path.read_text("utf-8")
        if path.parent.name == "design" and start == "refsynth":
            continue  # notes of decisions name commands of their day
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield from re.findall(rf"^(?:\.venv/bin/)?({start} .*?)(?: *#.*)?$", block, re.MULTILINE)
        yield from re.findall(rf"`({start} [^`]+)`", text)


def is_command(words, app, line):
    """Check that a program has the command and its options."""
    command = typer.main.get_command(app)
    while words and words[0] != "--help" and hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
    assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("line", sorted(set(shown_commands())))
def test_every_shown_command_is_one(line):
    is_command(shlex.split(line.split(">")[0])[1:], app, line)


@pytest.mark.parametrize("line", sorted(set(shown_commands("make bench"))))
def test_every_shown_bench_is_one(line):
    """Make writes the command that it would run; the shell's other words say what it was given."""
    given = dict(word.split("=") for word in shlex.split(line)[2:])
    printed = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "--old-file=.venv/.installed", *shlex.split(line)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = shlex.split(printed.replace("\\\n", " ").strip().splitlines()[-1])
    assert words[1:3] == ["-m", "benchmarks"]
    is_command(words[3:], benches, line)
    values = {
        "NAME": given.get("NAME", "--help"),
        "DATA": given.get("DATA"),
        "SEEDS": given.get("SEEDS"),
        "ONLY": given.get("ONLY"),
    }
    assert {value for value in values.values() if value} <= set(words)
    flags = {"QUICK": "--quick", "AGAIN": "--again", "JSON": "--json"}
    assert {flag for name, flag in flags.items() if name in given} == {*flags.values()} & {*words}
    assert set(given) <= {*values, *flags}, line


@pytest.mark.parametrize("line", sorted(set(shown_commands("python -m benchmarks"))))
def test_every_shown_program_of_the_benchmarks_is_one(line):
    is_command(shlex.split(line)[3:], benches, line)


@pytest.mark.parametrize("line", sorted(set(shown_commands(r"python -m benchmarks\.\S+"))))
def test_every_shown_script_is_there(line):
    assert importlib.util.find_spec(shlex.split(line)[2]) is not None


def test_every_make_target_that_is_shown_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = set(re.findall(r"^make ([a-z]+)", README + (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE))
    assert shown <= targets


def test_every_error_is_in_the_tree():
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(classes) > 5
    for each in classes:
        assert each.__name__ in (errors.__doc__ or "")
        assert each.__doc__


def test_the_method_of_intervals_is_that_of_the_code():
    assert INTERVALS in " ".join((ROOT / "docs" / "tasks.md").read_text("utf-8").split())
