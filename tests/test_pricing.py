"""Prices: the published figures come out of the formula, and nothing is ever billed too low or as a float."""

from __future__ import annotations

from datetime import date

import pytest

from pixie_proxy.errors import ConfigError
from pixie_proxy.pricing import (
    DEAREST_SIZE,
    MAX_TOKENS,
    Prices,
    Rates,
    cost_micros,
    load_prices,
    parse_size,
    size_fault,
    usage_from_json,
)
from pixie_proxy.records import Usage

PRICES = load_prices({})
FLARE, TWO = "gpt-image-2.5-flare", "gpt-image-2"


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
    assert PRICES.ceiling_micros(TWO, size, quality, n, inputs, partials) == micros


def test_ceiling_of_a_prompt_and_of_other_families() -> None:
    """Prompts count a token a character; tables have a dearest cell; unknown models have no ceiling."""
    assert PRICES.ceiling_micros(TWO, "1024x1024", "low", prompt_characters=1000) == 196 * 30 + 5000
    assert PRICES.ceiling_micros("gpt-image-1.5", None, None) == 6240 * 32
    assert PRICES.ceiling_micros("gpt-image-1.5", "1024x1024", None) == 4160 * 32
    assert PRICES.ceiling_micros("gpt-image-1.5", "4096x4096", "low") == 408 * 32
    assert PRICES.ceiling_micros("dall-e-3", "1024x1024", "low") is None


@pytest.mark.parametrize("model", PRICES.models())
def test_no_answer_costs_more_than_its_ceiling(model: str) -> None:
    """For every size and quality that has a count, the bill stays within the hold."""
    rates = PRICES.rates(model)
    assert rates is not None
    open_ceiling = PRICES.ceiling_micros(model, None, None)
    for size in ("1024x1024", "1536x1024", "2048x2048", "2880x2880", "3840x2160"):
        for quality in ("low", "medium", "high", "xhigh", "max"):
            tokens = PRICES.output_tokens(model, size, quality)
            if tokens is not None:
                ceiling = PRICES.ceiling_micros(model, size, quality)
                assert ceiling is not None
                assert open_ceiling is not None
                assert cost_micros(Usage(image_out=tokens), rates, 1) <= ceiling <= open_ceiling


def test_the_operators_prices_win() -> None:
    """An override changes what it names, for snapshots too; a price an image ignores tokens."""
    prices = load_prices({TWO: {"image_out": 60}, "flux": {"usd_per_image": 0.04}, "house": dict.fromkeys(
        ("text_in", "image_in", "image_out"), 0.15
    )})  # fmt: skip
    two, flux, house = (prices.rates(name) for name in ("gpt-image-2-2026-04-21", "flux", "house"))
    assert two
    assert (two.image_out, two.image_in) == (60_000_000, 8_000_000)
    assert flux
    assert cost_micros(Usage(image_out=10**6), flux, 3) == 120_000
    assert prices.ceiling_micros("flux", None, None, 3) == 120_000
    assert house
    assert house.text_in == 150_000
    assert prices.ceiling_micros("house", "1024x1024", "low") == -(-784 * 150_000 // 10**6)
    assert {"flux", "house"} < set(prices.models())


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ({"usd_per_image": -1}, "models.prices.flux.usd_per_image"),
        ({"usd_per_image": float("nan")}, "models.prices.flux.usd_per_image"),
        ({"usd_per_image": float("inf")}, "models.prices.flux.usd_per_image"),
        ({"usd_per_image": 1, "text_in": 1}, "stands alone"),
        ({"text_in": 1}, "needs usd_per_image, or image_in, image_out"),
        ({"usd": 1}, "models.prices.flux.usd: unknown price"),
        ({}, "needs usd_per_image"),
    ],
)
def test_bad_overrides_stop_the_start(override: dict[str, float], problem: str) -> None:
    """Each problem names its path."""
    with pytest.raises(ConfigError, match=problem.replace(".", r"\.")):
        load_prices({"flux": override})


def test_prices_are_integers() -> None:
    """No rate is a float, so no bill can be."""
    prices: Prices = load_prices({"flux": {"usd_per_image": 0.1 + 0.2}})
    flux = prices.rates("flux")
    assert flux
    assert flux.image_micros == 300_001
    assert type(flux.image_micros) is int
