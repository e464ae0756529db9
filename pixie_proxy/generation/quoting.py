"""What a request is sent as, and what that may cost: what is priced is what is forwarded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pixie_proxy.errors import UnpricedModel
from pixie_proxy.pricing import Ceiling, Prices, Wanted
from pixie_proxy.records import to_datetime
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.relay.translation import translate
from pixie_proxy.upstream.catalog import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A request as `model` is sent it. `said` are the headers that tell its client what was changed."""

    asked: ImageRequest
    model: str
    wanted: Wanted
    ceiling: Ceiling
    said: dict[str, str]

    def refusal(self) -> UnpricedModel | None:
        """Give the answer to somebody with a budget, if this has no price: it would count as free."""
        name = self.ceiling.unpriced
        if name is None:
            return None
        is_author = name != self.model
        what = f"model '{name}'" if name else "model that is to write the SVG is not named, so it"
        message = (
            f"The {what} has no price here, and you have a budget: nobody could say what is left of it. "
            "The admin can set one (models.prices). Nothing was sent or charged."
        )
        return UnpricedModel(message, param="svg" if is_author else "model")


class Quotes:
    """Quotes requests."""

    def __init__(self, catalog: Catalog, prices: Prices) -> None:
        """Quote by the operator's choice of models and the price list."""
        self._catalog = catalog
        self._prices = prices

    def quote(self, asked: ImageRequest, at_us: int, key_models: Collection[str] = ()) -> Quote:
        """Say what a request is sent as, and price it at the rates of that moment. Raises ModelNotAllowed.

        `key_models` are those that the caller's key is for.
        """
        model = self._catalog.resolve(asked.model, key_models)
        asked, said = translate(asked, model, self._prices)
        wanted = wanted_of(asked, model)
        ceiling = self._prices.ceiling(wanted, to_datetime(at_us).date())
        return Quote(asked=asked, model=model, wanted=wanted, ceiling=ceiling, said=said)


def wanted_of(asked: ImageRequest, model: str) -> Wanted:
    """Give what of a request its price depends on."""
    size, quality, output_format = [asked.fields.get(name) for name in ("size", "quality", "output_format")]
    return Wanted(
        model=model,
        size=size if isinstance(size, str) else None,
        quality=quality if isinstance(quality, str) else None,
        output_format=output_format if isinstance(output_format, str | None) else "?",
        n=asked.n,
        inputs=asked.inputs,
        partial_images=asked.partial_images,
        prompt_bytes=len((asked.prompt or "").encode("utf-8", "surrogatepass")),
        svg_author=asked.svg_author,
    )
