"""The operator hears of models that need a hand, once a day and model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pixie_proxy.config import ModelSettings
from pixie_proxy.generation.notices import Notices
from pixie_proxy.generation.quoting import Quotes
from pixie_proxy.metrics import Metrics
from pixie_proxy.pricing import load_prices
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.upstream.catalog import Catalog
from tests.support.calls import a_call

PRICES = load_prices({})
ENDS, UNPRICED = "a model in use is about to be shut down, or was", "a model in use has no price"


class Operator:
    """Calls models at times of its own, and reads the log."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._quotes = Quotes(Catalog(ModelSettings(aliases={}), frozenset(PRICES.models())), PRICES)
        self.metrics = Metrics(PRICES.models())
        self._notices = Notices(PRICES, self.metrics)

    def hears(self, model: str, at: datetime) -> list[str]:
        """Say what the log has of one call."""
        self._caplog.clear()
        body = f'{{"prompt": "a cat", "model": "{model}"}}'.encode()
        asked = ImageRequest.from_json("generation", body, allow_file_id=False)
        at_us = int(at.timestamp() * 1_000_000)
        self._notices.admitted(a_call(model=model, created_us=at_us), self._quotes.quote(asked, at_us))
        return [record.message for record in self._caplog.records]


@pytest.mark.parametrize(
    ("at", "messages"),
    [
        (datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC), []),
        (datetime(2026, 11, 1, tzinfo=UTC), [ENDS]),
        (datetime(2026, 12, 1, tzinfo=UTC), [ENDS]),
        (datetime(2027, 6, 1, tzinfo=UTC), [ENDS]),
    ],
)
def test_a_shutdown_is_told_thirty_days_before(
    caplog: pytest.LogCaptureFixture, at: datetime, messages: list[str]
) -> None:
    """gpt-image-1.5 answers until 1 December 2026; a model without such a day is no news."""
    operator = Operator(caplog)
    assert operator.hears("gpt-image-1.5", at) == messages
    assert operator.hears("gpt-image-2", at) == []


def test_each_model_is_told_once_a_day(caplog: pytest.LogCaptureFixture) -> None:
    """Not a line a call; the next day again. Calls without a price are all counted."""
    operator, noon = Operator(caplog), datetime(2026, 11, 21, 12, tzinfo=UTC)
    for model, messages in {
        "gpt-image-1.5": [ENDS],
        "flux": [UNPRICED],
        "dall-e-3": [UNPRICED, ENDS],
    }.items():
        assert operator.hears(model, noon) == messages
        assert operator.hears(model, noon + timedelta(hours=11)) == []
        assert operator.hears(model, noon + timedelta(days=1)) == messages
        assert operator.hears(model, noon) == messages  # a clock that was set back is a new day
        operator.hears(model, noon)
    assert operator.metrics.unpriced_calls.value("other") == 2 * 5
