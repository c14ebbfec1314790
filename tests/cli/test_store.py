"""`refsynth models` and `refsynth doctor` in an app of their own, on a small made-up catalog."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from refsynth.cli import doctor, models
from refsynth.core import machine
from refsynth.core.errors import ModelError
from refsynth.core.files import write_json
from refsynth.core.hashes import file_digest
from refsynth.core.machine import instructions
from refsynth.models import catalog
from refsynth.models.catalog import CATALOG
from refsynth.models.manifest import LAYOUT, MANIFEST
from refsynth.models.store import ModelStore

app = typer.Typer()
app.add_typer(models.models, name="models")
app.command("doctor")(doctor.doctor)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with a ready `minilm` of a few bytes; the cache is empty."""
    monkeypatch.setenv("REFSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REFSYNTH_MODELS", raising=False)
    folder = tmp_path / "shelf" / "minilm"
    folder.mkdir(parents=True)
    for name in CATALOG["minilm"].files:
        (folder / name).write_text(f"content of {name}")
    files = {
        name: {"sha256": file_digest(folder / name), "bytes": (folder / name).stat().st_size} for name in CATALOG["minilm"].files
    }
    write_json(folder / MANIFEST, {"name": "minilm", "layout": LAYOUT, "source": "test", "files": files})
    known = replace(CATALOG["minilm"], ready={name: file["sha256"] for name, file in files.items()})
    monkeypatch.setattr(catalog, "CATALOG", {**CATALOG, "minilm": known})
    return folder.parent


def run(*arguments):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}, catch_exceptions=True)


def test_list_and_fetch(shelf):
    assert json.loads(run("models", "list", "--json").stdout)["models"][0]["ready"] is False
    answer = run("models", "fetch", "minilm", "--from", str(shelf))
    assert answer.exit_code == 0 and "minilm: ready" in answer.stderr
    records = {record["name"]: record for record in json.loads(run("models", "list", "--json").stdout)["models"]}
    assert records["minilm"]["ready"] and not records["e5"]["ready"] and set(records) == set(CATALOG)
    assert records["minilm"]["licence"] == "Apache-2.0" and records["minilm"]["source"] == "test"
    table = run("models", "list").stdout
    assert all(name in table for name in CATALOG) and "refsynth models fetch" in table


def test_verify(shelf):
    assert isinstance(run("models", "verify").exception, ModelError)  # nothing there
    run("models", "fetch", "minilm", "--from", str(shelf))
    assert "minilm: every file" in run("models", "verify").stdout
    assert (
        json.loads(run("models", "verify", "minilm", "--json").stdout)["models"][0]["hash"] == ModelStore().status("minilm").hash
    )
    path = ModelStore().path("minilm") / "config.json"
    path.write_text(path.read_text().upper())
    assert "changed since it was stored" in str(run("models", "verify").exception)
    assert "refsynth models fetch e5" in str(run("models", "verify", "e5").exception)


def test_unknown_model(shelf):
    answer = run("models", "fetch", "smollm")
    assert isinstance(answer.exception, ModelError) and "did you mean 'smollm2'" in str(answer.exception)


def test_doctor(shelf):
    report = json.loads(run("doctor", "--json").stdout)
    assert report["models"] == dict.fromkeys(CATALOG, False) and report["network"] == "not used"
    assert report["machine"]["cores"] >= 1 and report["machine"]["memory_gb"] > 0 and report["free_gb"] > 0
    assert report["extras"]["train"]["torch"] and "refsynth" not in report["extras"]["dev"]
    text = run("doctor").stdout
    assert "missing: refsynth models fetch e5" in text and "extra     train" in text and str(shelf.parent) in text


def test_doctor_names_what_is_missing(shelf, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "ctranslate2" else "1.0")
    assert json.loads(run("doctor", "--json").stdout)["extras"]["train"]["ctranslate2"] is None
    assert "missing ctranslate2: pip install 'refsynth[train]'" in run("doctor").stdout


def test_processor_flags(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n")
    assert instructions(tmp_path / "cpuinfo") == ["avx512_vnni", "avx2"]
    assert instructions(tmp_path / "none") == []


def test_a_machine_is_known_by_its_fastest_integers(monkeypatch):
    monkeypatch.setattr(machine, "instructions", lambda: ["avx512_bf16", "avx2", "avx512_vnni"])
    assert " avx512_vnni, " in machine.describe_machine()
    monkeypatch.setattr(machine, "instructions", list)
    assert re.fullmatch(r"\w+, \d+ cores, Python 3[.\d]+", machine.describe_machine())
