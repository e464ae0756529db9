"""Prices: the published figures come out of the formula, and nothing is ever billed too low or as a float."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from pixie_proxy.errors import ConfigError
from pixie_proxy.pricing import (
    DEAREST_SIZE,
    MAX_TOKENS,
    Prices,
    Rates,
    Usage,
    Wanted,
    author_usage,
    cost_micros,
    load_prices,
    parse_size,
    size_fault,
    usage_from_json,
)

PRICES = load_prices({})
TODAY = date(2026, 11, 21)
FLARE, TWO = "gpt-image-2.5-flare", "gpt-image-2"


def ceiling(
    model: str, size: str | None, quality: str | None, prices: Prices = PRICES, **more: Any
) -> int | None:
    """Give what a request holds; None where it has no price."""
    found = prices.ceiling(Wanted(model=model, size=size, quality=quality, **more), TODAY)
    return found.micros if found.is_priced else None


@pytest.mark.parametrize(
    ("size", "low", "medium", "high", "xhigh", "most"),
    [
        ("1024x1024", 196, 439, 1756, 3122, 7024),
        ("1024x1536", 158, 343, 1372, 2459, 5488),
        ("1536x1024", 158, 343, 1372, 2459, 5488),
        ("2048x2048", 397, 892, 3568, 6343, 14272),
        ("2048x1152", 157, 367, 1413, 2511, 5650),
        ("1152x2048", 157, 367, 1413, 2511, 5650),
        ("3840x2160", 371, 865, 3336, 5930, 13342),
    ],
)
def test_output_tokens_match_the_published_table(
    size: str, low: int, medium: int, high: int, xhigh: int, most: int
) -> None:
    """2.5 has five qualities; 2's three are 2.5's low, high and max. Landscape and portrait are alike."""
    qualities = ("low", "medium", "high", "xhigh", "max")
    assert [PRICES.output_tokens(FLARE, size, one) for one in qualities] == [low, medium, high, xhigh, most]
    assert [PRICES.output_tokens(TWO, size, one) for one in ("low", "medium", "high")] == [low, high, most]
    assert PRICES.output_tokens("gpt-image-2.5-sunburst-2026-09-08", size, "high") == high


def test_output_tokens_of_1_5_come_from_its_table() -> None:
    """The three sizes of 1.x are fixed; no other size has a count."""
    counts = [PRICES.output_tokens("gpt-image-1.5", "1024x1536", one) for one in ("low", "medium", "high")]
    assert counts == [408, 1584, 6240]
    assert PRICES.output_tokens("chatgpt-image-latest", "1536x1024", "high") == 6208
    assert PRICES.output_tokens("gpt-image-1.5", "2048x2048", "high") is None


@pytest.mark.parametrize(
    ("model", "size", "quality"),
    [
        (TWO, "auto", "low"),
        (TWO, "1024x1024", "auto"),
        (TWO, "1024x1024", "xhigh"),
        (TWO, "1000x1000", "low"),
        ("dall-e-3", "1024x1024", "low"),
    ],
)
def test_open_questions_have_no_token_count(model: str, size: str, quality: str) -> None:
    """Auto, illegal and unknown values are not guessed."""
    assert PRICES.output_tokens(model, size, quality) is None


@pytest.mark.parametrize(
    ("size", "is_legal"),
    [
        ("1024x640", True),
        ("1024x624", False),
        ("3840x2160", True),
        ("3856x2160", False),
        ("2880x2880", True),
        ("2896x2880", False),
        ("3072x1024", True),
        ("3088x1024", False),
        ("1025x1024", False),
    ],
)
def test_size_rules_from_both_sides(size: str, is_legal: bool) -> None:
    """Multiples of 16, longest edge 3840, ratio 3:1, 655,360 to 8,294,400 pixels."""
    edges = parse_size(size)
    assert edges is not None
    assert (size_fault(*edges) is None) == is_legal


def test_the_dearest_size_is_the_dearest() -> None:
    """No legal size takes more tokens than the one that holds are made with."""
    edges = range(16, 3841, 16)
    legal = [(w, h) for w in edges for h in range(16, w + 1, 16) if w % 64 == 0 and size_fault(w, h) is None]
    most = max(PRICES.output_tokens(TWO, f"{w}x{h}", "high") or 0 for w, h in legal)
    assert most <= (PRICES.output_tokens(TWO, DEAREST_SIZE, "high") or 0)


def test_every_live_model_has_rates_and_the_dead_ones_have_none() -> None:
    """The list is the price page's; a model that is not on it is not free, it is unknown."""
    for model in PRICES.models():
        rates = PRICES.rates(model)
        assert rates is not None
        assert rates.text_in > 0
        assert rates.image_in > 0
        assert rates.image_out > 0
    assert PRICES.rates(TWO) == Rates(
        text_in=5_000_000,
        cached_text_in=1_250_000,
        image_in=8_000_000,
        cached_image_in=2_000_000,
        image_out=30_000_000,
    )
    assert PRICES.rates("gpt-image-2-2026-04-21") == PRICES.rates(TWO)
    assert PRICES.rates("dall-e-3") is None
    assert PRICES.rates("gpt-image-1") is None
    assert PRICES.shutdown_date("gpt-image-1.5-2025-12-16") == date(2026, 12, 1)
    assert PRICES.shutdown_date(TWO) is None


@pytest.mark.parametrize(
    ("usage", "micros"),
    [
        (Usage(), 0),
        (Usage(text_in=1), 5),
        (Usage(text_in=100, image_in=1000, image_out=7024), 500 + 8000 + 210_720),
        (Usage(text_out=10), 300),
    ],
)
def test_cost_adds_up_by_kind(usage: Usage, micros: int) -> None:
    """Each kind has its own price; text output without one costs what image output does."""
    rates = PRICES.rates(TWO)
    assert rates is not None
    assert cost_micros(usage, rates, 1) == micros


def test_cost_is_rounded_up_once() -> None:
    """A tenth of a micro is a whole one, and two of them are still one."""
    rates = Rates(text_in=100_000, image_in=100_000)
    assert cost_micros(Usage(text_in=1), rates, 1) == 1
    assert cost_micros(Usage(text_in=1, image_in=1), rates, 1) == 1
    assert cost_micros(Usage(text_in=10, image_in=1), rates, 1) == 2


def test_official_prices_per_image() -> None:
    """OpenAI's own prices for gpt-image-2 and 1.5, to the digits it shows."""
    for model, quality, usd in (
        (TWO, "low", 0.006),
        (TWO, "high", 0.211),
        ("gpt-image-1.5", "medium", 0.034),
    ):
        rates, tokens = PRICES.rates(model), PRICES.output_tokens(model, "1024x1024", quality)
        assert rates
        assert tokens
        assert round(cost_micros(Usage(image_out=tokens), rates, 1) / 1e6, 3) == usd


@pytest.mark.parametrize(
    ("obj", "usage"),
    [
        (
            {
                "input_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens": 196,
                "output_tokens_details": {"text_tokens": 6, "image_tokens": 190},
            },
            Usage(text_in=10, image_in=40, text_out=6, image_out=190),
        ),
        ({"input_tokens": 50, "output_tokens": 196}, Usage(image_in=50, image_out=196)),
        (
            {"input_tokens": 50, "input_tokens_details": {"text_tokens": 10}, "output_tokens": 1},
            Usage(text_in=10, image_in=40, image_out=1),
        ),
        (
            {
                "input_tokens": 5,
                "input_tokens_details": {"text_tokens": 4, "image_tokens": 9},
                "output_tokens": 1,
            },
            Usage(text_in=4, image_in=9, image_out=1),
        ),
        (
            {"input_tokens_details": {"text_tokens": 4, "image_tokens": 9}, "output_tokens": 0},
            Usage(text_in=4, image_in=9),
        ),
    ],
)
def test_usage_is_read_so_that_nothing_is_billed_too_low(obj: object, usage: Usage) -> None:
    """What the details leave open is image tokens; where they contradict the total, the larger counts."""
    assert usage_from_json(obj) == usage


@pytest.mark.parametrize(
    "obj",
    [
        None,
        [],
        "free",
        {},
        {"input_tokens": 5},
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": MAX_TOKENS},
        {"input_tokens": True, "output_tokens": 1},
        {"input_tokens": 1.0, "output_tokens": 1},
        {"input_tokens": "1", "output_tokens": 1},
        {"input_tokens": 1, "input_tokens_details": [], "output_tokens": 1},
        {"input_tokens": 1, "input_tokens_details": {"text_tokens": -5}, "output_tokens": 1},
    ],
)
def test_bogus_usage_is_no_usage(obj: object) -> None:
    """A report that can't be true is not a bill of zero."""
    assert usage_from_json(obj) is None


@pytest.mark.parametrize(
    ("size", "quality", "n", "inputs", "partials", "micros"),
    [
        ("1024x1024", "low", 1, 0, 0, 196 * 30),
        ("1024x1024", "low", 4, 0, 0, 4 * 196 * 30),
        ("1024x1024", "low", 1, 0, 3, 496 * 30),
        ("1024x1024", "low", 1, 2, 0, 196 * 30 + 2 * 6821 * 8),
        ("1024x1024", None, 1, 0, 0, 7024 * 30),
        ("1024x1024", "auto", 1, 0, 0, 7024 * 30),
        ("1024x1024", "ultra", 1, 0, 0, 7024 * 30),
        ("auto", "low", 1, 0, 0, 659 * 30),
        (None, None, 1, 0, 0, 23719 * 30),
        ("5000x5000", "low", 1, 0, 0, 659 * 30),
    ],
)
def test_ceiling(
    size: str | None, quality: str | None, n: int, inputs: int, partials: int, micros: int
) -> None:
    """A hold takes what is not said at its dearest legal value."""
    assert ceiling(TWO, size, quality, n=n, inputs=inputs, partial_images=partials) == micros


def test_ceiling_of_a_prompt_and_of_other_families() -> None:
    """Prompts count a token a character; tables have a dearest cell; unknown models have no ceiling."""
    assert ceiling(TWO, "1024x1024", "low", prompt_bytes=1000) == 196 * 30 + 5000
    assert ceiling("gpt-image-1.5", None, None) == 6240 * 32
    assert ceiling("gpt-image-1.5", "1024x1024", None) == 4160 * 32
    assert ceiling("gpt-image-1.5", "4096x4096", "low") == 408 * 32
    assert ceiling("dall-e-3", "1024x1024", "low") is None


@pytest.mark.parametrize("model", PRICES.models())
def test_no_answer_costs_more_than_its_ceiling(model: str) -> None:
    """For every size and quality that has a count, the bill stays within the hold."""
    rates = PRICES.rates(model)
    assert rates is not None
    dearest = ceiling(model, None, None)
    for size in ("1024x1024", "1536x1024", "2048x2048", "2880x2880", "3840x2160"):
        for quality in ("low", "medium", "high", "xhigh", "max"):
            tokens = PRICES.output_tokens(model, size, quality)
            if tokens is not None:
                held = ceiling(model, size, quality)
                assert held is not None
                assert dearest is not None
                assert cost_micros(Usage(image_out=tokens), rates, 1) <= held <= dearest


def test_the_operators_prices_win() -> None:
    """An override counts for snapshots too; a price an image ignores tokens."""
    tokens = {"text_in": 5, "image_in": 8}
    prices = load_prices(
        {
            TWO: [{**tokens, "image_out": 60}],
            "flux": [{"usd_per_image": 0.04}],
            "house": [dict.fromkeys(("text_in", "image_in", "image_out"), 0.15)],
            "bounded": [{**tokens, "image_out": 60, "ceiling_usd": 0.1}],
        }
    )
    two, flux, house = (prices.rates(name) for name in ("gpt-image-2-2026-04-21", "flux", "house"))
    assert two
    assert (two.image_out, two.image_in) == (60_000_000, 8_000_000)
    assert flux
    assert cost_micros(Usage(image_out=10**6), flux, 3) == 120_000
    assert ceiling("flux", None, None, prices, n=3) == 120_000
    assert house
    assert house.text_in == 150_000
    assert ceiling("house", "1024x1024", "low", prices) == -(-23719 * 150_000 // 10**6)
    assert ceiling("bounded", "1024x1024", "low", prices, n=2, prompt_bytes=100) == 2 * (100_000 + 500)
    assert {"flux", "house"} < set(prices.models())


@pytest.mark.parametrize(
    "periods",
    [
        [{"text_in": 1, "text_out": 1, "ceiling_usd": 1}],
        [{"usd_per_image": 1}, {"since": TODAY, "text_in": 1, "text_out": 1, "ceiling_usd": 1}],
    ],
)
def test_an_image_model_has_a_price_of_images(periods: list[dict[str, Any]]) -> None:
    """Under a text model's price its images would be free; the start stops, and names the path."""
    with pytest.raises(ConfigError, match=r"models\.prices\.gpt-image-2"):
        load_prices({TWO: periods})


def test_prices_are_integers() -> None:
    """No rate is a float, so no bill can be."""
    flux = load_prices({"flux": [{"usd_per_image": 0.1 + 0.2}]}).rates("flux")
    assert flux
    assert flux.image_micros == 300_001
    assert type(flux.image_micros) is int


TWO_PERIODS = """
models:
  gpt-image-2:
    family: "2"
    rates:
      - {text_in: 5, image_in: 8, image_out: 30}
      - {since: 2027-01-01, text_in: 10, image_in: 16, image_out: 60}
    snapshots: [gpt-image-2-2026-04-21]
retired: {}
families:
  "2": {input_image_tokens: 6821, usual_input_tokens: 1457, factors: {low: 16, medium: 48, high: 96}}
"""


@pytest.mark.parametrize(("on", "image_out"), [(date(2026, 12, 31), 30), (date(2027, 1, 1), 60)])
def test_a_price_counts_from_its_day_on(on: date, image_out: int) -> None:
    """On the last day of a period its own rates are the price, on the next day the new ones; for holds too."""
    prices = load_prices({}, TWO_PERIODS)
    wanted = Wanted(model="gpt-image-2-2026-04-21", size="1024x1024", quality="low")
    rates = prices.rates(wanted.model, on)
    assert rates
    assert rates.image_out == image_out * 1_000_000
    assert prices.ceiling(wanted, on).micros == 196 * image_out
    assert prices.estimate_micros(wanted, on) == 196 * image_out


@pytest.mark.parametrize(
    ("on", "micros"),
    [
        (date(2026, 11, 30), 196 * 30),
        (date(2026, 12, 1), 40_000),
        (date(2027, 1, 1), 40_000),
        (date(2027, 6, 1), 50_000),
    ],
)
def test_the_operators_price_may_begin_later(on: date, micros: int) -> None:
    """Until its day the list's own price stands; from then on it goes over whatever the list says, also later."""
    own = [
        {"usd_per_image": 0.05, "since": date(2027, 6, 1)},
        {"usd_per_image": 0.04, "since": date(2026, 12, 1)},
    ]
    prices = load_prices({TWO: own}, TWO_PERIODS)
    assert prices.ceiling(Wanted(model=TWO, size="1024x1024", quality="low"), on).micros == micros


def test_a_price_that_has_not_begun_is_none() -> None:
    """Before its first period a model is unpriced, not free."""
    prices = load_prices({"flux": [{"usd_per_image": 0.04, "since": date(2027, 1, 1)}]})
    assert prices.rates("flux", TODAY) is None
    assert not prices.ceiling(Wanted(model="flux"), TODAY).is_priced


@pytest.mark.parametrize(
    ("model", "size", "quality", "open_fields"),
    [
        (TWO, None, None, ("size", "quality")),
        (TWO, "auto", "low", ("size",)),
        (TWO, "1024x1024", "auto", ("quality",)),
        (TWO, "1024x1024", "xhigh", ("quality",)),
        (TWO, "1024x1024", "high", ()),
        ("gpt-image-1.5", "2048x2048", "high", ("size",)),
        ("gpt-image-2.6-flare", None, None, ()),
        ("flux", None, None, ()),
    ],
)
def test_a_ceiling_says_what_would_lower_it(
    model: str, size: str | None, quality: str | None, open_fields: tuple[str, ...]
) -> None:
    """Naming helps only where a count is published; then the hint says what to name, and naming it does help."""
    prices = load_prices({"flux": [{"usd_per_image": 0.04}]})
    found = prices.ceiling(Wanted(model=model, size=size, quality=quality), TODAY)
    assert found.open_fields == open_fields
    assert bool(found.hint) == bool(open_fields)
    assert all(name in found.hint for name in open_fields)
    if open_fields:
        named = Wanted(model=model, size="1024x1024", quality="low")
        assert prices.ceiling(named, TODAY).micros < found.micros


@pytest.mark.parametrize("model", ["gpt-image-2.6-sunburst", "gpt-image-2.6-flare"])
def test_a_model_without_a_published_table_holds_its_ceiling(model: str) -> None:
    """Whatever size and quality say: nobody knows how many tokens they take. An estimate may be given all the same."""
    assert ceiling(model, "1024x1024", "low") == ceiling(model, None, None) == 720_000
    wanted = Wanted(model=model, size="1024x1024", quality="low", n=2)
    assert PRICES.estimate_micros(wanted, TODAY) == 2 * 781 * 30


@pytest.mark.parametrize("output_format", ["gif", "avif", "?"])
def test_a_format_whose_tokens_nobody_knows_holds_the_dearest_picture(output_format: str) -> None:
    """A GIF's frames lie on a sheet, which may be as large as a picture can be."""
    assert ceiling(TWO, "1024x1024", "low", output_format=output_format) == 23719 * 30
    wanted = Wanted(model=TWO, size="1024x1024", quality="low", output_format=output_format)
    assert PRICES.estimate_micros(wanted, TODAY) is None


def test_an_svg_holds_its_authors_ceiling_too() -> None:
    """The text model that writes it has a price of its own; one without makes the whole request unpriced."""
    prices = load_prices({"gpt-5.5": [{"text_in": 2, "text_out": 16, "ceiling_usd": 0.5}]})
    wanted = Wanted(model=TWO, size="1024x1024", quality="low", output_format="svg", svg_author="gpt-5.5")
    assert prices.ceiling(wanted, TODAY).micros == 23719 * 30 + 500_000
    assert not prices.ceiling(replace(wanted, svg_author=""), TODAY).is_priced
    assert prices.estimate_micros(wanted, TODAY) is None
    assert "gpt-5.5" not in prices.models()


@pytest.mark.parametrize(
    ("wanted", "micros"),
    [
        (Wanted(model=TWO, size="1024x1024", quality="low", prompt_bytes=40), 196 * 30 + 10 * 5),
        (Wanted(model=TWO, size="1024x1024", quality="low", n=3, partial_images=2), 3 * (196 + 200) * 30),
        (Wanted(model=TWO, size="1024x1024", quality="low", inputs=1), 196 * 30 + 1457 * 8),
        (Wanted(model=TWO, size="auto", quality="low"), None),
        (Wanted(model="dall-e-3", size="1024x1024", quality="low"), None),
    ],
)
def test_an_estimate_is_what_is_likely(wanted: Wanted, micros: int | None) -> None:
    """It is no higher than the hold, and nothing where size or quality are open."""
    assert PRICES.estimate_micros(wanted, TODAY) == micros
    if micros is not None:
        assert micros <= PRICES.ceiling(wanted, TODAY).micros


@pytest.mark.parametrize(
    ("cached", "expected"),
    [
        ({"cached_tokens": 0}, (0, 0)),
        ({"cached_tokens": 60}, (60, 0)),
        ({"cached_tokens": 130}, (100, 30)),
        ({"cached_tokens": 30, "cached_tokens_details": {"text_tokens": 10, "image_tokens": 20}}, (10, 20)),
        ({"cached_tokens": 301}, (0, 0)),
        ({"cached_tokens": -1}, (0, 0)),
        ({"cached_tokens": "all"}, (0, 0)),
        ({"cached_tokens": 30, "cached_tokens_details": {"text_tokens": 30, "image_tokens": 20}}, (0, 0)),
        ({"cached_tokens": 250, "cached_tokens_details": {"text_tokens": 50, "image_tokens": 201}}, (0, 0)),
        ({"cached_tokens": 30, "cached_tokens_details": "free"}, (0, 0)),
    ],
)
def test_cached_tokens_are_cheaper_where_the_report_makes_sense(
    cached: dict[str, Any], expected: tuple[int, int]
) -> None:
    """Never more than came in, the smaller discount first; a report that contradicts itself gets no discount."""
    details = {"text_tokens": 100, "image_tokens": 200, **cached}
    usage = usage_from_json({"input_tokens": 300, "input_tokens_details": details, "output_tokens": 196})
    rates = PRICES.rates(TWO)
    assert usage
    assert rates
    text, image = expected
    assert (usage.cached_text_in, usage.cached_image_in) == expected
    full = 100 * 5 + 200 * 8 + 196 * 30
    assert cost_micros(usage, rates, 1) == -(-(full * 100 - text * 375 - image * 600) // 100)


@pytest.mark.parametrize(
    ("obj", "usage"),
    [
        ({"input_tokens": 900, "output_tokens": 50, "total_tokens": 950}, Usage(text_in=900, text_out=50)),
        (
            {"input_tokens": 900, "output_tokens": 50, "reasoning_tokens": 30, "total_tokens": 980},
            Usage(text_in=900, text_out=80),
        ),
        ({"input_tokens": 9, "output_tokens": 5, "reasoning_tokens": 30}, Usage(text_in=9, text_out=30)),
        ({"input_tokens": 9, "output_tokens": 0}, None),
        ({"input_tokens": -9, "output_tokens": 1}, None),
        ({"input_tokens": 9, "output_tokens": 1, "reasoning_tokens": "30"}, None),
        ({"input_tokens": 9, "output_tokens": 2**63}, None),
        ("free", None),
        (None, None),
    ],
)
def test_the_usage_of_an_svgs_author(obj: object, usage: Usage | None) -> None:
    """Reasoning is counted once, and never left out; what can't be true is no report."""
    assert author_usage(obj) == usage


# What openai-images.md says a model's tokens cost, in cents of a micro: text in, cached, image in, cached, image out.
PRICE_PAGE = {
    "gpt-image-1-mini": (200, 20, 250, 25, 800),
    "gpt-image-1.5": (500, 125, 800, 200, 3200),
    "gpt-image-1.5-2025-12-16": (500, 125, 800, 200, 3200),
    "chatgpt-image-latest": (500, 125, 800, 200, 3200),
    **dict.fromkeys(
        (
            "gpt-image-2",
            "gpt-image-2-2026-04-21",
            "gpt-image-2.5-sunburst",
            "gpt-image-2.5-sunburst-2026-09-08",
            "gpt-image-2.5-flare",
            "gpt-image-2.5-flare-2026-09-08",
            "gpt-image-2.6-sunburst",
            "gpt-image-2.6-flare",
        ),
        (500, 125, 800, 200, 3000),
    ),
}


@pytest.mark.parametrize("model", PRICES.models())
def test_each_kind_of_token_costs_what_the_price_page_says(model: str) -> None:
    """To the micro, alone and all together, rounded up once."""
    rates = PRICES.rates(model)
    assert rates
    text, cached_text, image, cached_image, out = PRICE_PAGE[model]
    for usage, hundredths in (
        (Usage(text_in=777), 777 * text),
        (Usage(text_in=777, cached_text_in=777), 777 * cached_text),
        (Usage(image_in=777), 777 * image),
        (Usage(image_in=777, cached_image_in=777), 777 * cached_image),
        (Usage(image_out=777), 777 * out),
        (
            Usage(text_in=13, image_in=1457, image_out=4160, cached_text_in=3, cached_image_in=57),
            10 * text + 3 * cached_text + 1400 * image + 57 * cached_image + 4160 * out,
        ),
    ):
        assert cost_micros(usage, rates, 1) == -(-hundredths // 100)
    assert set(PRICE_PAGE) == set(PRICES.models())


@pytest.mark.parametrize(
    ("model", "size", "usd"),
    [
        ("gpt-image-1-mini", "1024x1024", "0.005, 0.011, 0.036"),
        ("gpt-image-1-mini", "1536x1024", "0.006, 0.015, 0.052"),
        ("gpt-image-1-mini", "1024x1536", "0.006, 0.015, 0.052"),
        ("gpt-image-1.5", "1024x1024", "0.009, 0.034, 0.133"),
        ("gpt-image-1.5", "1024x1536", "0.013, 0.05, 0.2"),
        ("gpt-image-1.5", "1536x1024", "0.013, 0.05, 0.2"),
        (TWO, "1024x1024", "0.006, 0.053, 0.211"),
        (TWO, "1024x1536", "0.005, 0.041, 0.165"),
        (TWO, "1536x1024", "0.005, 0.041, 0.165"),
    ],
)
def test_official_prices_per_image_of_every_size(model: str, size: str, usd: str) -> None:
    """OpenAI's own prices for low, medium and high, to the digits it shows."""
    for quality, price in zip(("low", "medium", "high"), usd.split(", "), strict=True):
        micros = PRICES.estimate_micros(Wanted(model=model, size=size, quality=quality), TODAY)
        assert micros is not None
        assert round(micros / 1e6, len(price) - 2) == float(price)
