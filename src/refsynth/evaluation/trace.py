"""Provenance: the prompt, seed rows and reference of a draft, and the drafts that a seed row led to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refsynth.core.errors import InputError
from refsynth.core.files import read_jsonl


def trace_row(run: Path, row: str) -> dict[str, Any]:
    """Return the provenance of a draft, or a seed row and the drafts whose prompts showed it.

    Raises:
        InputError: the run has no drafts yet, or no row with that id.
    """
    steps = run / "steps"
    if not (steps / "rows" / "examples.jsonl").is_file():
        raise InputError(f"{run}: not a run folder with finished steps", remedy="refsynth run TASK.yaml --out RUN")
    seeds = {record["id"]: record for record in read_jsonl(steps / "rows" / "examples.jsonl")}
    drafts = _drafts(steps)
    if row in seeds:
        saw = [
            draft["id"]
            for draft in drafts.values()
            if row in [*draft["provenance"]["shown"], *draft["provenance"].get("rewarded_by", ())]
        ]
        used = [name for name in saw if drafts[name].get("dropped") is None]
        return {**seeds[row], "kind": "seed row", "drafts that saw it": len(saw), "of these kept": used}
    if row not in drafts:
        raise InputError(
            f"{run}: no row '{row}'",
            expected=f"row-N, or one of {len(drafts)} drafts",
            remedy="ids are in steps/select/drafts.jsonl",
        )
    draft = drafts[row]
    origin = draft["provenance"]
    if row.startswith("pool-"):
        return {**draft, "kind": "text of the pool, labeled by a model of the rows below", "provenance": list(origin["shown"])}
    prompts = {record["prompt"]: record for record in read_jsonl(steps / "drafts" / "prompts.jsonl")}
    return {
        "id": row,
        "kind": "draft",
        "label": draft["label"],
        "text": draft["text"],
        "dropped": draft.get("dropped"),
        "scores": draft.get("scores", {}),
        "reference": origin["reference"],
        "sampling seed": origin["seed"],
        "prompt": prompts[origin["prompt"]]["text"],
        "seed rows shown": [f"{name}: {seeds[name]['text']}" for name in origin["shown"]],
        **({"likelihoods": draft["likelihoods"]} if "likelihoods" in draft else {}),
    }


def _drafts(steps: Path) -> dict[str, dict[str, Any]]:
    """Return the drafts of the run by id, from the latest finished step."""
    for step in ("select", "screen", "drafts"):
        if (path := steps / step / "drafts.jsonl").is_file():
            return {record["id"]: record for record in read_jsonl(path)}
    return {}
