"""Settings that are good, and will not do what somebody may expect of them: told at a start, and by `pixie doctor`."""

from __future__ import annotations

import logging

from pixie_proxy.config.sections import Settings

log = logging.getLogger(__name__)


def warn_of_idle_settings(settings: Settings) -> None:
    """Say which settings have no effect yet: one that is silently ignored is worse than none."""
    if settings.gallery.allow_public:
        log.warning("gallery.allow_public has no effect in this version")
    host = settings.server.host
    if settings.server.public_url is None and host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        log.warning("links will start with http://%s: set server.public_url to where people reach us", host)
