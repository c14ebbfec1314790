"""A step is made again when the code that it runs has changed, and not when its words have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from refsynth.core.code import closure_of, code_of, source_of

FILES = {
    "__init__.py": "",
    "steps.py": '''
"""Makes a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mine import apart, deep
from . import beside

if TYPE_CHECKING:
    from mine.checked import Checked
if not TYPE_CHECKING:
    from mine import unchecked


def make(out):
    """Write the step."""
    from mine.late import text  # in a function

    (out / "made").write_text(text() + deep.middle.more())
''',
    "late.py": """
def text():
    return "text"
""",
    "deep/__init__.py": "from mine.deep import middle\n",
    "deep/middle.py": """
from ..below import LEAST


def more():
    return str(LEAST)
""",
    "below.py": "LEAST = 3\n",
    "beside.py": "x = 1\n",
    "apart.py": "import mine.behind\n",
    "behind.py": "x = 1\n",
    "checked.py": "Checked = int\n",
    "given.py": "x = 1\n",
    "unchecked.py": "x = 1\n",
    "other.py": "x = 1\n",
}

SCRIPT = """
import sys
from pathlib import Path
from refsynth.core.run import RunFolder
from refsynth.core.step import StepSpec
from mine.steps import make

def told(out):
    print("made")
    make(out)

told.__module__ = make.__module__
spec = StepSpec("one", code=("mine.given",), excluded=("mine.apart",))
RunFolder(Path(sys.argv[1])).step(spec, told, config={})
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text, "utf-8")
    return tmp_path


def made(package: Path) -> bool:
    """Run the step in a new process, and tell whether it was made."""
    command = [sys.executable, "-B", "-c", SCRIPT, str(package / "run")]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=True)
    return "made" in done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("late.py", '"text"', '"texts"'),
        ("steps.py", "+ deep", "* 2 + deep"),
        ("below.py", "3", "4"),
        ("beside.py", "1", "2"),
        ("deep/__init__.py", "import middle", "import middle as middle, middle as other"),
        ("given.py", "1", "2"),
        ("unchecked.py", "1", "2"),
    ],
)
def test_an_old_folder_is_not_used_by_new_code(package: Path, file: str, old: str, new: str) -> None:
    assert made(package)
    assert not made(package)
    path = package / "mine" / file
    assert path.read_text("utf-8").count(old) == 1
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    assert made(package)
    assert not made(package)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("steps.py", "Write the step.", "Write it."),
        ("steps.py", "Makes a step.", "Makes one step.\n\nNow with two paragraphs."),
        ("steps.py", "# in a function", "# here"),
        ("late.py", "def text", "# A comment.\n\n\ndef text"),
        ("late.py", '    return "text"', '    """Return it."""\n    return (\n        "text"\n    )'),
        ("below.py", "3\n", '3\n"""The least."""\n'),
        ("checked.py", "int", "str"),
        ("apart.py", "import mine.behind", "x = 1"),
        ("behind.py", "1", "2"),
        ("other.py", "1", "2"),
    ],
)
def test_words_and_code_that_it_does_not_run_leave_it(package: Path, file: str, old: str, new: str) -> None:
    assert made(package)
    path = package / "mine" / file
    assert path.read_text("utf-8").count(old) == 1
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    assert not made(package)


def test_a_closure_ends_where_it_is_told_to() -> None:
    assert "refsynth.core.step" in closure_of("refsynth.core.run")
    assert closure_of("refsynth.core.run", excluded=("refsynth.core.step",)).isdisjoint({"refsynth.core.step"})
    assert closure_of("refsynth.core.run", excluded=("refsynth",)) == frozenset()
    assert code_of("refsynth.core.run") != code_of("refsynth.core.run", excluded=("refsynth.core.step",))


def test_a_module_without_a_source_counts_by_its_name() -> None:
    assert source_of("no_such_package.module").hash == source_of("sys").hash == ""
    assert code_of("no_such_package.module") != code_of("no_such_package.other")


def test_only_modules_of_its_own_package_are_followed() -> None:
    assert all(name.partition(".")[0] == "refsynth" for name in closure_of("refsynth.compress.shrink"))


def test_the_package_finds_its_names_late_and_so_pulls_nothing_in() -> None:
    """`import refsynth`, for its version, is no import of all that it offers."""
    assert "refsynth.pipeline.flow" not in closure_of("refsynth.bundle.card")
