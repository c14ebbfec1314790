"""The contract of a run: how fast, how small, how good. Chooses among forms of a model; knows nothing of how they are made.

Size and latency of a form are known before it is trained, its quality only afterwards. So the search measures the quality of as
few forms as possible: first those that are small and fast enough, from the smallest up, and the others only if none keeps enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from refsynth.compress.keeping import Interval
from refsynth.core.config import RunConfig


class Contract(NamedTuple):
    """The demands on a bundle; None for no demand.

    Attributes:
        p50_ms: the largest median latency of one text at a time on this machine, in ms.
        size_mb: the largest size of the bundle, in MB (10^6 bytes).
        keep: the smallest share of the macro-F1 of the model as it was trained.
    """

    p50_ms: float | None = None
    size_mb: float | None = None
    keep: float | None = None

    def __str__(self) -> str:
        units = {"p50_ms": "p50 at most {:g} ms", "size_mb": "at most {:g} MB", "keep": "keeps at least {:.1%}"}
        return ", ".join(units[name].format(value) for name, value in self._asdict().items() if value is not None)


class ModelVariant(NamedTuple):
    """A form of the model and its measurements.

    `kept` is the share of macro-F1 that it keeps; None if that was not needed or could not be measured. The form that ships has
    its `interval`.
    """

    name: str
    size_mb: float
    p50_ms: float
    kept: float | None = None
    interval: Interval | None = None

    def __str__(self) -> str:
        kept = "" if self.kept is None else f", keeps {self.kept:.2%}" + (f" {self.interval}" if self.interval else "")
        return f"{self.name}: p50 {self.p50_ms:.2f} ms, {self.size_mb:.1f} MB{kept}"


class ContractOutcome(NamedTuple):
    """The result of the search.

    Attributes:
        shipped: the form that ships.
        met: whether it meets the contract; this ignores the demand `keep` for forms in `untold`.
        forms: all forms with their measurements.
        tried: the number of forms whose kept share was measured to choose among them.
        untold: names of the forms whose kept share was needed but could not be measured.
    """

    shipped: ModelVariant
    met: bool
    forms: tuple[ModelVariant, ...]
    tried: int = 0
    untold: tuple[str, ...] = ()


def excess(contract: Contract, form: ModelVariant) -> float:
    """Return the largest factor by which a form misses a demand of the contract; at most 1 if it misses none."""
    ratios = [
        form.p50_ms / contract.p50_ms if contract.p50_ms is not None else 0.0,
        form.size_mb / contract.size_mb if contract.size_mb is not None else 0.0,
    ]
    if contract.keep is not None and form.kept is not None:
        ratios.append(contract.keep / form.kept if form.kept > 0 else float("inf"))
    return max(ratios)


def search(contract: Contract, forms: Sequence[ModelVariant], quality: Callable[[str], float | None] | None) -> ContractOutcome:
    """Return the smallest form that meets the contract, or else the one that misses it by the smallest factor.

    Args:
        contract: the demands.
        forms: at least one, with size and latency; of two equally near forms the earlier wins.
        quality: measures the share kept by the form of that name, which may take long. It returns None if the share cannot be
            measured; such a form ships only if no form can be measured. Pass None if there is nothing to measure on: then the
            largest form that is small and fast enough ships, since it has lost least.
    """
    known = {form.name: form for form in forms}
    fitting = sorted((form for form in forms if excess(contract, form) <= 1), key=lambda form: form.size_mb)
    others = sorted((form for form in forms if excess(contract, form) > 1), key=lambda form: excess(contract, form))
    if quality is None or contract.keep is None:
        nearest = (fitting[::-1] or others)[0]
        untold = () if contract.keep is None else tuple(known)
        return ContractOutcome(nearest, excess(contract, nearest) <= 1, tuple(forms), untold=untold)
    best: ModelVariant | None = None
    unknown: list[str] = []
    for form in [*fitting, *others]:
        if best is not None and excess(contract, best) <= max(1.0, excess(contract, form)):
            break
        kept = quality(form.name)
        if kept is None:
            unknown.append(form.name)
            continue
        known[form.name] = form._replace(kept=kept)
        if best is None or excess(contract, known[form.name]) < excess(contract, best):
            best = known[form.name]
    nearest = best or (fitting[::-1] or others)[0]
    tried = sum(form.kept is not None for form in known.values())
    return ContractOutcome(nearest, excess(contract, nearest) <= 1, tuple(known.values()), tried, tuple(unknown))


def contract_of(config: RunConfig) -> Contract:
    """Return the contract of a run."""
    return Contract(**config.contract.model_dump())
