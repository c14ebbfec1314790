"""The documentation says what is true: commands parse, keys exist, files are there."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from benchmarks.__main__ import app as benches
from docs import generate
from refsynth.cli.app import app
from refsynth.core import config, drafting, errors, sections
from refsynth.core.intervals import INTERVALS
from refsynth.core.sections import Section

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(each for name in ("docs", "design") for each in (ROOT / name).rglob("*.md")),
)


@pytest.mark.parametrize("name", generate.pages())
def test_pages_that_come_from_the_code_are_what_the_code_says(name):
    assert (ROOT / "docs" / "reference" / name).read_text("utf-8") == generate.pages()[name], "run `make reference`"


def test_every_section_and_key_is_on_the_page_of_keys():
    there = {each for module in (config, drafting, sections) for each in vars(module).values() if isinstance(each, type)}
    assert {each for each in there if issubclass(each, Section)} - {Section} == set(generate.SECTIONS.values())
    for section in generate.SECTIONS.values():
        assert set(section.model_fields) <= set(generate.doc_of_fields(section))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_page_and_a_heading_that_are_there(page):
    text = page.read_text("utf-8")
    for target in re.findall(
        r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    ):
        if target.startswith(("http:", "https:")):
            continue
        place, _, heading = target.partition("#")
        there = page.parent / place if place else page
        assert there.exists(), target
        assert not heading or heading in headings(there), target


def headings(page):
    """The anchors of a page, as GitHub and the site make them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_every_page_is_reached_from_the_navigation():
    listed = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in listed] == []


def shown_commands(start="refsynth"):
    """Yield the commands that begin so, in blocks and in lines."""
    for path in PAGES:
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
    assert INTERVALS in " ".join((ROOT / "docs" / "explanation" / "statistics.md").read_text("utf-8").split())
