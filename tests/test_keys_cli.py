"""`refsynth keys` in an app of its own."""

import json

import pytest
import typer
from typer.testing import CliRunner

from refsynth.cli import keys
from refsynth.core.errors import AccessError, InputError
from refsynth.service.http.auth import KeyChecker

app = typer.Typer()
app.add_typer(keys.keys, name="keys")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("REFSYNTH_KEYS", str(tmp_path / "keys.json"))
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments):
        return CliRunner().invoke(app, ["keys", *arguments])

    return invoke


def test_a_key_is_shown_once_and_works_until_it_is_revoked(run, tmp_path):
    added = run("add", "context", "--days", "90")
    presented = added.stdout.strip()
    checker = KeyChecker(tmp_path / "keys.json")
    assert checker.identify(presented).name == "context"
    listed = run("list")
    assert "context" in listed.stdout
    assert "active" in listed.stdout
    assert presented not in listed.output
    assert run("revoke", "context").exit_code == 0
    with pytest.raises(AccessError, match="revoked"):
        checker.identify(presented)
    assert "revoked" in run("list").stdout


def test_names_are_shown_as_they_are(run):
    run("add", "[red]context[/]")
    assert "[red]context[/]" in run("list").stdout


def test_json(run):
    made = json.loads(run("add", "context", "--scope", "predict", "--rate", "5", "--json").stdout)
    assert (made["name"], made["scopes"], made["rate"], made["state"]) == ("context", ["predict"], 5.0, "active")
    (listed,) = json.loads(run("list", "--json").stdout)["keys"]
    assert listed == {name: value for name, value in made.items() if name != "presented"}
    assert "hash" not in made
    assert json.loads(run("revoke", made["id"], "--json").stdout)["state"] == "revoked"


def test_mistakes(run):
    assert "no keys in" in run("list").stdout
    assert isinstance(run("add", "context", "--scope", "all").exception, InputError)
    assert isinstance(run("revoke", "nobody").exception, InputError)
