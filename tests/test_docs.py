"""The documentation says what is true: commands parse, keys exist, files are there."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from refsynth.cli.app import app
from refsynth.core import config, drafting, errors, sections
from refsynth.core.intervals import INTERVALS

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


def test_every_learner_is_explained():
    text = (ROOT / "docs" / "training.md").read_text("utf-8")
    assert [name for name in sections.LearnerName.__args__ if f"| `{name}` |" not in text] == []


def shown_commands():
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text("utf-8")
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield from re.findall(r"^(?:\.venv/bin/)?(refsynth .*?)(?: *#.*)?$", block, re.MULTILINE)
        yield from re.findall(r"`(refsynth [^`]+)`", text)


@pytest.mark.parametrize("line", sorted(set(shown_commands())))
def test_every_shown_command_is_one(line):
    words = shlex.split(line.split(">")[0])[1:]
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, line


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
