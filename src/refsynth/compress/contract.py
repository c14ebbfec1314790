"""The contract of a run: how fast, how small, how good. Chooses among forms of a model; knows nothing of how they are made.

Size and latency of a form are known before it is trained, its quality only after. So the search asks for the quality of as few
forms as it can: of those that are small and fast enough from the smallest on, and only where none keeps enough, of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Contract(NamedTuple):
    """What is asked for, as far as it is not None.

    `p50_ms` is the median latency of one text at a time on this machine, in ms; `size_mb` the size of the bundle in MB (10^6
    bytes); `keep` the least share of the macro-F1 of the model as it was trained.
    """

    p50_ms: float | None = None
    size_mb: float | None = None
    keep: float | None = None

    def __str__(self) -> str:
        units = {"p50_ms": "p50 at most {:g} ms", "size_mb": "at most {:g} MB", "keep": "keeps at least {:.1%}"}
        return ", ".join(units[name].format(value) for name, value in self._asdict().items() if value is not None)


class Form(NamedTuple):
    """A form of the model and what was measured of it; `kept` is None where it was not asked for, or cannot be told."""

    name: str
    size_mb: float
    p50_ms: float
    kept: float | None = None

    def __str__(self) -> str:
        kept = "" if self.kept is None else f", keeps {self.kept:.2%}"
        return f"{self.name}: p50 {self.p50_ms:.2f} ms, {self.size_mb:.1f} MB{kept}"


class Outcome(NamedTuple):
    """The form that ships, whether it does what was asked, and all forms with what is known of them."""

    shipped: Form
    met: bool
    forms: tuple[Form, ...]


def excess(contract: Contract, form: Form) -> float:
    """Return by what factor a form misses the worst-missed part of the contract; at most 1 if it misses none."""
    ratios = [
        form.p50_ms / contract.p50_ms if contract.p50_ms is not None else 0.0,
        form.size_mb / contract.size_mb if contract.size_mb is not None else 0.0,
    ]
    if contract.keep is not None and form.kept is not None:
        ratios.append(contract.keep / form.kept if form.kept > 0 else float("inf"))
    return max(ratios)


def search(contract: Contract, forms: Sequence[Form], quality: Callable[[str], float] | None) -> Outcome:
    """Return the smallest form that meets the contract, or else the one that misses it by the smallest factor.

    Args:
        contract: what is asked for.
        forms: at least one, with size and latency; where two are equally near, the earlier wins.
        quality: measures the share kept by the form of that name, which may take long; None if nothing can be measured. Then
            the largest form that is small and fast enough ships: the less was cut, the less can be lost.
    """
    known = {form.name: form for form in forms}
    fitting = sorted((form for form in forms if excess(contract, form) <= 1), key=lambda form: form.size_mb)
    others = sorted((form for form in forms if excess(contract, form) > 1), key=lambda form: excess(contract, form))
    measured = quality is not None and contract.keep is not None
    nearest: Form | None = None
    for form in [*(fitting if measured else fitting[::-1]), *others]:
        if nearest is not None and excess(contract, nearest) <= max(1.0, excess(contract, form)):
            break
        if quality is not None and contract.keep is not None:
            form = known[form.name] = form._replace(kept=quality(form.name))
        if nearest is None or excess(contract, form) < excess(contract, nearest):
            nearest = form
    assert nearest is not None
    return Outcome(nearest, excess(contract, nearest) <= 1, tuple(known.values()))
