"""`refsynth bench`: the benchmarks, resumable cell by cell."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refsynth.cli.once import Commands
from refsynth.cli.screen import err, out, print_json
from refsynth.models.quiet import quiet

if TYPE_CHECKING:
    from benchmarks.suite import Suite

bench = Commands(no_args_is_help=True, help="Benchmarks. Each measured cell is appended to a file, so a long bench resumes.")

Data = Annotated[Path, typer.Option("--data", help="Folder of data sets: NAME/train.jsonl, NAME/test.jsonl, NAME/labels.json.")]
Results = Annotated[Path, typer.Option("--results", help="Folder that measured cells are appended to.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Seeds 0 to N-1.")]
Quick = Annotated[bool, typer.Option("--quick", help="The same checks on less, in under ten minutes.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Only = Annotated[str | None, typer.Option("--sets", help="Comma-separated data sets, instead of all of the bench.")]

RESULTS = Path("benchmarks/results")


SUITES = {
    "fewshot": (
        "fewshot:FEWSHOT",
        5,
        "Accuracy with 8 labels per class: TF-IDF, frozen encoder, full fine-tuning, SetFit, and this project's arms.",
    ),
    "chinese": ("fewshot:CHINESE", 3, "Accuracy on Chinese texts with 8 labels per class, on the multilingual encoder."),
    "names": (
        "names:NAMES",
        3,
        "Accuracy from label names and descriptions alone, against the majority class and the reference's own answers.",
    ),
    "prompting": (
        "prompting:PROMPTING",
        3,
        "The reference as a classifier: zero- and few-shot, both ways of asking, each calibration, a searched prompt.",
    ),
    "influence": (
        "influence:INFLUENCE",
        5,
        "Influence scores against training again without each draft, and drafts chosen by them, on frozen embeddings.",
    ),
    "active": (
        "active:ACTIVE",
        5,
        "Labels that each strategy of active learning needs for 90% of the accuracy with all labels, against random ones.",
    ),
    "crowds": (
        "crowds:CROWD",
        5,
        "Annotators and rules with known errors: how well they are recovered, and labels against those of a majority vote.",
    ),
    "reinforce": (
        "reinforce:REINFORCE",
        3,
        "A generator trained by reinforcement against an untrained one, shuffled rewards and random search over prompts.",
    ),
    "loop": (
        "loop:LOOP",
        5,
        "What ships after rounds of drafts against SetFit and real rows alone, and after a generator that lies about its labels.",
    ),
    "peft": (
        "peft:PEFT",
        3,
        "Ways to fine-tune with 64 labels per class: accuracy, weights that move, step time, peak memory, size.",
    ),
    "selection": (
        "selection:SELECTION",
        5,
        "What each part of the choice of drafts is worth: deduplication, agreement, likelihood, influence, diversity, weights, "
        "soft and smoothed targets.",
    ),
}
"""Benches of accuracy: where the suite is, how many seeds it is to have, what it measures."""


def _add_suite(name: str, place: str, usual: int, about: str) -> None:
    def command(
        data: Data,
        results: Results = RESULTS,
        seeds: Seeds = usual,
        quick: Quick = False,
        as_json: Json = False,
        sets: Only = None,
    ) -> None:
        module, _, constant = place.partition(":")
        suite = getattr(import_module(f"benchmarks.{module}"), constant)  # late: it imports what trains
        _suite(suite, data, results, seeds, quick=quick, as_json=as_json, sets=sets)

    bench.command(name, help=f"{about}\n\nExample: refsynth bench {name} --data ../data")(command)


for _name, (_place, _seeds, _about) in SUITES.items():
    _add_suite(_name, _place, _seeds, _about)


SIDES = {
    "scale": "Wall time and peak memory of whole runs: 2, 27 and 77 classes, 250 to 4,000 drafts.",
    "trainer": "Fine-tuning against the trainer of transformers at its defaults: the same network, rows, epochs and rates.",
    "drafting": "Accepted drafts per second against transformers.generate with the same model and prompts.",
    "cascade": "A static student and a certified cascade against the int8 model: speed, macro-F1, 200 calibrations, a shift.",
    "serve-core": "The engine against torch, ONNX Runtime, sentence-transformers, optimum, SetFit, model2vec: speed, memory.",
    "distill": "What int8, fewer layers, words and heads, a static student and a cascade keep of a fine-tuned model's macro-F1.",
    "contract": "Ten contracts, easy to impossible: met by what ships, measured again, or refused with the nearest form.",
    "quantize": "The int8 encoder against torch and ONNX Runtime's quantiser: speed, size, labels that change with the batch.",
}
"""Benches of two sides or of runs, each a module with `measure` and `outcome`, and what they measure."""


def _add_sides(name: str, about: str) -> None:
    def command(data: Data, results: Results = RESULTS, quick: Quick = False, as_json: Json = False) -> None:
        import refsynth

        module = import_module(f"benchmarks.{name.replace('-', '_')}")  # late: it imports what trains
        with quiet():
            cells = module.measure(data, results, version=refsynth.__version__, quick=quick, say=_say)
        _show(module.outcome(cells), as_json=as_json)

    bench.command(name, help=f"{about}\n\nExample: refsynth bench {name} --data ../data")(command)


for _name, _about in SIDES.items():
    _add_sides(_name, _about)


@bench.command("kinds")
def kinds(
    data: Data,
    results: Results = RESULTS,
    seeds: Seeds = 3,
    quick: Quick = False,
    as_json: Json = False,
    sets: Only = None,
) -> None:
    """Sets of labels, pairs of texts and labelled words, at 500 rows and in full: what ships against plain systems.

    Example: refsynth bench kinds --data ../data --sets nlupp_banking
    """
    import refsynth
    from benchmarks.kinds import measure, outcome

    only, seeds, version = None if sets is None else tuple(sets.split(",")), 1 if quick else seeds, refsynth.__version__
    with quiet():
        measured = measure(data, results, seeds=seeds, sets=only, quick=quick, version=version, say=_say)
    _show(outcome(measured), as_json=as_json)


@bench.command("evidence")
def evidence(
    data: Data,
    results: Results = RESULTS,
    seeds: Seeds = 20,
    quick: Quick = False,
    as_json: Json = False,
    sets: Only = None,
) -> None:
    """What runs say of themselves, over many small ones: interval, confidence, threshold, verdict on drafts that cannot help.

    Example: refsynth bench evidence --data ../data --sets snips
    """
    import refsynth
    from benchmarks.evidence import measure, outcome

    only, version = None if sets is None else tuple(sets.split(",")), refsynth.__version__
    with quiet():
        measured = measure(data, results, seeds=seeds, sets=only, quick=quick, version=version, say=_say)
    _show(outcome(measured), as_json=as_json)


@bench.command("serve")
def serve(
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="What is served; left out, a bundle of the built-in tickets is made.")
    ] = None,
    only: Annotated[str | None, typer.Option("--only", help="Comma-separated parts, instead of all.")] = None,
    long: Annotated[bool, typer.Option("--long", help="The full counts: hours.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure what this version has measured already.")] = False,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """The server under load, faults and attack: peers, identity, overload, hoard, siege, kills, soak, fuzz, privacy.

    Loopback only.

    Example: refsynth bench serve --only peers,overload
    """
    import refsynth
    from benchmarks.serve.plan import LONG, SHORT
    from benchmarks.serve.suite import chosen, measure, outcome

    parts, size = chosen(only), LONG if long else SHORT
    served = None if bundle is None else bundle.resolve()
    cells = measure(results, bundle=served, parts=parts, size=size, again=again, version=refsynth.__version__, say=_say)
    _show(outcome(cells, parts), as_json=as_json)


def _suite(suite: Suite, data: Path, results: Path, seeds: int, *, quick: bool, as_json: bool, sets: str | None) -> None:
    only = None if sets is None else tuple(sets.split(","))
    with quiet():
        cells = suite.measure(data, results, seeds=1 if quick else seeds, sets=only, quick=quick, say=_say)
    _show(suite.outcome(cells), as_json=as_json)


def _show(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    from benchmarks.cells import spread  # late: it imports scipy

    out.print(result["table"], markup=False)
    for check in result["checks"]:
        about = spread(check) + spread(check.get("by_seed", {}))
        bound = f"at most {check['limit']:g}" if "limit" in check else f"at least {check['floor']:g}, aim {check['aim']:g}"
        told = f"{check['value']:.4g} {check['unit']}{about} ({bound})"
        out.print(f"{'ok' if check['ok'] else 'MISSED':6} {check['name']}: {told}", markup=False)


def _say(line: str) -> None:
    err.print(line, markup=False)
