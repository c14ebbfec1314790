"""An option given twice is refused: one of its values would be lost."""

import pytest
from typer.testing import CliRunner

from refsynth.cli.app import app

TWICE = [
    (["init", "t", "--from", "a.csv", "--text-column", "Subject", "--text-column", "Message"], '"Subject + Message"'),
    (["predict", "b", "a.csv", "--text", "a", "--text-column", "b"], "given 2 times"),
    (["run", "t.yaml", "--out", "a", "--out=b"], "given 2 times"),
    (["label", "next", "a.csv", "--run", "r", "-n", "3", "-n", "4"], "given 2 times"),
    (["serve", "b", "--port", "1", "--port", "2", "--port", "3"], "given 3 times"),
]


@pytest.mark.parametrize(("args", "said"), TWICE)
def test_an_option_given_twice_is_refused(args, said):
    done = CliRunner().invoke(app, args, env={"COLUMNS": "200"})
    assert done.exit_code == 2 and said in done.output


@pytest.mark.parametrize(
    "args", [["run", "none.yaml", "--out", "a", "--set", "seed=1", "--set", "seed=2"], ["doctor", "--json", "--json"]]
)
def test_what_may_be_repeated_may_be(args):
    assert "times" not in CliRunner().invoke(app, args).output
