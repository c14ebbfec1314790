"""`refsynth keys` in an app of its own."""

import json
import time

import pytest
import typer
from typer.testing import CliRunner

from refsynth.cli import keys
from refsynth.core.errors import AccessError, InputError
from refsynth.service.http.auth import FileKeyChecker

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
    checker = FileKeyChecker(tmp_path / "keys.json")
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


NUMBERS = ("1e300", "NaN", "Infinity", "-1", '"soon"', "1" + "0" * 400, "[]", "{}")


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", ["created", "expires", "revoked", "rate", "burst"])
def test_a_number_that_cannot_be_meant_is_a_sentence(run, tmp_path, field, number):
    run("add", "shop", "--days", "90")
    told = json.loads((tmp_path / "keys.json").read_text())
    told["keys"][0][field] = "HERE"
    (tmp_path / "keys.json").write_text(json.dumps(told).replace('"HERE"', number))
    for refused in (run("list").exception, run("list", "--json").exception, run("revoke", "shop").exception):
        assert isinstance(refused, InputError) and f"not a file of keys (keys.0.{field}: " in str(refused)
    with pytest.raises(InputError, match="not a file of keys"):
        FileKeyChecker(tmp_path / "keys.json")


@pytest.mark.parametrize(
    "options", [["--days", "1e300"], ["--days", "nan"], ["--rate", "1e300"], ["--rate", "1e-300"], ["--burst", "inf"]]
)
def test_such_a_number_is_not_taken_either(run, options):
    assert isinstance(run("add", "shop", *options).exception, InputError)


def test_a_key_of_three_hundred_years_is_listed(run):
    run("add", "shop", "--days", "110000")
    assert str(time.gmtime(time.time() + 110_000 * 86_400).tm_year) in run("list").stdout


def test_mistakes(run):
    assert "no keys in" in run("list").stdout
    assert isinstance(run("add", "context", "--scope", "all").exception, InputError)
    assert isinstance(run("revoke", "nobody").exception, InputError)
