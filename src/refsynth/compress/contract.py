"""The contract of a run: how fast, how small, how good. Chooses among forms of a model; knows nothing of how they are made.

Size and latency of a form are known before it is trained, its quality only after. So the search asks for the quality of as few
forms as it can: of those that are small and fast enough from the smallest on, and only where none keeps enough, of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from refsynth.compress.keeping import Interval
from refsynth.core.config import RunConfig


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


class ModelVariant(NamedTuple):
    """A form of the model and what was measured of it; `kept` is None where it was not asked for, or cannot be told.

    The form that ships has the `interval` of what it keeps.
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
    """The form that ships, whether it does what was asked, and all forms with what is known of them.

    `tried` counts the forms that were measured for what they keep, to choose among them. `untold` are those of which that was
    asked and cannot be told: `met` says nothing of it.
    """

    shipped: ModelVariant
    met: bool
    forms: tuple[ModelVariant, ...]
    tried: int = 0
    untold: tuple[str, ...] = ()


def excess(contract: Contract, form: ModelVariant) -> float:
    """Return by what factor a form misses the worst-missed part of the contract; at most 1 if it misses none."""
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
        contract: what is asked for.
        forms: at least one, with size and latency; where two are equally near, the earlier wins.
        quality: measures the share kept by the form of that name, which may take long, or returns None if it cannot be told: such
            a form ships only where it can be told of none. None if nothing can be measured. Then the largest form that is small
            and fast enough ships: the less was cut, the less can be lost.
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


def asked_of(config: RunConfig) -> Contract:
    """Return what the bundle must keep to."""
    return Contract(**config.contract.model_dump())
