"""What handlers work with, under one typed key of the application."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from pixie_proxy.admission.uploads import UploadSlots

if TYPE_CHECKING:
    from pixie_proxy.accounts.directory import Directory
    from pixie_proxy.accounts.erasing import Erasing
    from pixie_proxy.accounts.sessions import Session, Sessions
    from pixie_proxy.config import Settings
    from pixie_proxy.disk.watch import Disk
    from pixie_proxy.gallery.library import Library
    from pixie_proxy.gallery.shares import Shares
    from pixie_proxy.gallery.sharing import LinkSigner
    from pixie_proxy.gallery.thumbnails import Thumbnails
    from pixie_proxy.generation import Generation
    from pixie_proxy.generation.quoting import Quotes
    from pixie_proxy.index import Index
    from pixie_proxy.metrics import Metrics, Outcome
    from pixie_proxy.pricing import Prices
    from pixie_proxy.records import User
    from pixie_proxy.spool.area import Spool
    from pixie_proxy.spool.depth import DepthGauge
    from pixie_proxy.storage.outlook import Outlook
    from pixie_proxy.tasks import TaskKeeper
    from pixie_proxy.upstream.catalog import Catalog
    from pixie_proxy.web.attempts import Attempts
    from pixie_proxy.web.exposition import Collector


class Tries(NamedTuple):
    """How often wrong passwords may be given: for one link from everywhere, and from one address for all links."""

    by_link: Attempts
    by_address: Attempts


@dataclass(slots=True, kw_only=True)
class Context:
    """The rooms that handlers talk to."""

    settings: Settings
    index: Index
    directory: Directory
    sessions: Sessions
    erasing: Erasing
    generation: Generation
    library: Library
    links: LinkSigner
    shares: Shares
    thumbnails: Thumbnails
    catalog: Catalog
    prices: Prices
    quotes: Quotes
    spool: Spool
    depth: DepthGauge
    handlers: TaskKeeper
    disks: Sequence[Disk]
    outlook: Outlook
    metrics: Metrics
    attempts: Attempts
    """Of keys, at the sign-in page."""
    tries: Tries
    collector: Collector
    """Who tells all numbers: those of the workers beside us, too."""
    uploads: UploadSlots = field(default_factory=UploadSlots)
    started: float = field(default_factory=time.time)
    openapi: bytes | None = None
    """The description of all addresses, once somebody has asked for it."""
    is_leaving: bool = False
    """Whether each answer is the last of its connection: others take the next ones."""


CONTEXT: web.AppKey[Context] = web.AppKey("context")
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
STREAMING: web.RequestKey[bool] = web.RequestKey("streaming", bool)
"""Set once an answer has begun: from then on an error can only break it."""

BEGAN: web.RequestKey[float] = web.RequestKey("began", float)
"""When the answer began, by the clock of `time.perf_counter`; unset while it is not written piece by piece."""

MODEL: web.RequestKey[str | None] = web.RequestKey("model")
"""Set once a paid call was read: the model that it names."""

FAULT: web.RequestKey[tuple[Outcome, str]] = web.RequestKey("fault")
"""Set where a request does not end well: how it does, and the reason in one word."""

USER: web.RequestKey[User] = web.RequestKey("user")
SESSION: web.RequestKey[Session] = web.RequestKey("session")
"""Set where somebody is signed in with a browser."""

FIELDS: web.RequestKey[dict[str, str]] = web.RequestKey("fields")
"""The fields of a page's form, once they were read."""


def context_of(request: web.Request) -> Context:
    """Give the rooms to a handler."""
    return request.app[CONTEXT]
