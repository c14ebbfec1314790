"""`refsynth explain`: which parts of a text speak for a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from refsynth.cli.opening import Bundle, open_bundle
from refsynth.cli.screen import Json, out, print_json
from refsynth.core.errors import InputError, nearest
from refsynth.core.pair import DIVIDER, split_pair

if TYPE_CHECKING:
    from refsynth.bundle import Model


def explain(
    bundle: Bundle,
    text: Annotated[str, Argument(help="The text to explain.")],
    label: Annotated[str | None, Option(help="The label to explain; default: the most probable label.")] = None,
    top: Annotated[int, Option(min=1, help="How many parts to show, strongest first.")] = 20,
    as_json: Json = False,
) -> None:
    """Show which parts of a text speak for a label.

    For a static tier and for TF-IDF the values are additive. With `base` and `rest` they sum to log p(label) minus the mean of
    log p over all labels; for a multi-label bundle, to log p(label) - log(1 - p(label)).

    For an encoder each value is how much p(label) falls without that part. For token classification p(label) is the probability
    that the label occurs anywhere in the text.

    Example: refsynth explain runs/tickets "where is my parcel?"
    """
    why = explained(open_bundle(bundle, threads=0), text, label, top=top)
    if as_json:
        print_json(why)
        return
    out.print(f"{why['label']}  {why['probability']:.3f}  ({why['method']}, {why['tier']})", markup=False)
    for part in why["parts"]:
        out.print(f"{part['value']:+8.3f}  {part['text']}", markup=False)
    out.print(f"{why['base']:+8.3f}  base\n{why['rest']:+8.3f}  rest", markup=False)


def explained(model: Model, text: str, label: str | None, *, top: int) -> dict[str, Any]:
    """Return the explanation as JSON-ready values.

    Raises:
        InputError: the model has no such label, the text has no words, or the model takes pairs and the text is not a pair.
    """
    from refsynth.data.empty import missing_in
    from refsynth.data.labels import as_label
    from refsynth.service.http.explain import of_spans, of_terms, spans, strongest, without

    if model.manifest.pairs and split_pair(text) is None:
        raise InputError("found one text, and the bundle labels pairs", expected=f"two texts with {DIVIDER} between them")
    if label is not None:
        if (known := model.manifest.known.find(as_label(label) or "")) is None:
            raise InputError(f"--label {label}: the model has no such label", remedy=nearest(label, model.labels) or "")
        label = known
    if why := missing_in(text, pairs=model.manifest.pairs):
        raise InputError(f"the text: {why}", expected="a text with words")
    (answer,) = model.predict([text])
    label = label or answer.likeliest
    whole, contributions = answer.probabilities[label], model.contributions(text, label)
    if contributions is None:
        places = spans(text)
        variants = [without(text, place) for place in places]  # an empty one is predicted like any other
        left = [one.probabilities[label] for one in model.predictions(variants, model.answer(variants))]
        method, base, parts = "occlusion", 0.0, of_spans(text, places, whole, left)
    else:
        method, base, parts = "contributions", contributions.base, of_terms(contributions)
    shown, other = strongest(parts, top)
    head = {"label": label, "probability": whole, "tier": answer.tier, "method": method, "base": base}
    return {**head, "parts": [part.model_dump(exclude_none=True) for part in shown], "rest": other}
