"""Settings that are good, and will not do what somebody may expect of them: told at a start, and by `pixie doctor`."""

from __future__ import annotations

import logging

from pixie_proxy.config.sections import Settings

log = logging.getLogger(__name__)


def warn_of_doubts(settings: Settings) -> None:
    """Say that links lead nowhere where nobody told us our address."""
    host = settings.server.host
    if settings.server.public_url is None and host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        log.warning("links will start with http://%s: set server.public_url to where people reach us", host)
