"""What a call costs: rates, the tokens of a picture, the bill of an answer and the ceiling of a request.

Everything is an integer: rates are micros (USD × 10⁶) per million tokens, costs are micros, and every
call is rounded up once. The figures, their source and the day they were read are in `pricing.yaml`.
"""

from pixie_proxy.pricing.listing import load_prices
from pixie_proxy.pricing.prices import Ceiling, Prices, Wanted
from pixie_proxy.pricing.rates import MILLION, Rates, cost_micros, micros_up, weight
from pixie_proxy.pricing.tokens import DEAREST_SIZE, PARTIAL_IMAGE_TOKENS, Family, parse_size, size_fault
from pixie_proxy.pricing.usage import MAX_TOKENS, Usage, author_usage, usage_from_json

__all__ = [
    "DEAREST_SIZE",
    "MAX_TOKENS",
    "MILLION",
    "PARTIAL_IMAGE_TOKENS",
    "Ceiling",
    "Family",
    "Prices",
    "Rates",
    "Usage",
    "Wanted",
    "author_usage",
    "cost_micros",
    "load_prices",
    "micros_up",
    "parse_size",
    "size_fault",
    "usage_from_json",
    "weight",
]
