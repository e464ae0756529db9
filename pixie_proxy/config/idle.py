"""Settings that are good, and will not do what somebody may expect of them: told at a start, and by `pixie doctor`."""

from __future__ import annotations

import logging

from pixie_proxy.config.sections import Settings

log = logging.getLogger(__name__)


def warn_of_idle_settings(settings: Settings) -> None:
    """Say which settings have no effect yet: a budget that is silently ignored is worse than none."""
    users = [user.limits for user in settings.users if user.limits]
    if any(
        limits.usd_per_day is not None or limits.usd_per_month is not None
        for limits in [settings.limits, *users]
    ):
        log.warning(
            "limits.usd_per_day and limits.usd_per_month have no effect in this version: nobody has a budget"
        )
    if settings.gallery.allow_public or settings.gallery.retention_days is not None:
        log.warning("gallery.allow_public and gallery.retention_days have no effect in this version")
    if settings.server.trusted_proxies:
        log.warning("server.trusted_proxies has no effect in this version: no X-Forwarded-For is believed")
    host = settings.server.host
    if settings.server.public_url is None and host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        log.warning("links will start with http://%s: set server.public_url to where people reach us", host)
