"""Compose the proxy: what is opened in which order, closed in reverse, and wired to what."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from aiohttp import web

from pixie_proxy import backends
from pixie_proxy.accounts.declared import FirstAdmin, make_first_admin, sync_declared
from pixie_proxy.accounts.directory import Directory
from pixie_proxy.accounts.erasing import Erasing
from pixie_proxy.accounts.sessions import Sessions
from pixie_proxy.config import Settings
from pixie_proxy.config.doubts import warn_of_doubts
from pixie_proxy.errors import ConfigError, ProxyError, StorageUnavailable
from pixie_proxy.gallery.library import Library
from pixie_proxy.gallery.looking import Looking
from pixie_proxy.gallery.retention import Retention
from pixie_proxy.gallery.shares import Shares
from pixie_proxy.gallery.sharing import LinkSigner
from pixie_proxy.gallery.sweeping import Sweep
from pixie_proxy.gallery.thumbnails import Thumbnails, forget_thumbnails
from pixie_proxy.gallery.upkeep import Upkeep
from pixie_proxy.generation import Generation
from pixie_proxy.generation.billing import Billing
from pixie_proxy.generation.deliveries import Deliveries
from pixie_proxy.generation.keeping import Keeping
from pixie_proxy.generation.notices import Notices
from pixie_proxy.generation.quoting import Quotes
from pixie_proxy.generation.relaying import Relaying
from pixie_proxy.index import Index, ledger
from pixie_proxy.index import settings as stored
from pixie_proxy.metrics import Metrics
from pixie_proxy.pricing import load_prices
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.depth import DepthGauge
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.kept import KeptFiles
from pixie_proxy.spool.presence import Presence
from pixie_proxy.spool.recovery import Recovery
from pixie_proxy.storage import SENTINEL, Storage, StorageRefused, sentinel
from pixie_proxy.storage.awaited import AwaitedStorage
from pixie_proxy.storage.claim import claim_fault
from pixie_proxy.storage.outlook import Outlook
from pixie_proxy.tasks import TaskKeeper
from pixie_proxy.threads import WorkerThreads
from pixie_proxy.upstream.catalog import Catalog
from pixie_proxy.upstream.fetch import ImageFetcher
from pixie_proxy.upstream.measured import MeasuredUpstream
from pixie_proxy.web.attempts import Attempts
from pixie_proxy.web.context import CONTEXT, Context, Tries
from pixie_proxy.web.edge import edge
from pixie_proxy.web.exposition import Collector, OneProcess
from pixie_proxy.web.observe import observe
from pixie_proxy.web.peers import PEERS, Peers
from pixie_proxy.web.routes import build
from pixie_proxy.web.siblings import Siblings

log = logging.getLogger(__name__)

WRITER_THREADS = 16
"""Durable writes at once; each is mostly a wait for the disk."""

READ_LIMIT_S = 5.0
"""How long a read of the index may take: one without an end would keep others waiting, and the log growing."""

LAST_HANDLERS_S = 5.0
"""How long the end waits for handlers whose clients have left: each is about to close its files."""


def create_app(settings: Settings, worker: int | None = None) -> web.Application:
    """Wire the proxy; everything is opened when the application starts and closed in reverse when it stops.

    `worker` is our number where several processes share one socket: it names us in the metrics.
    """
    app = web.Application(
        middlewares=[observe, edge], client_max_size=settings.uploads.max_json_mb * 1_000_000
    )
    app.add_routes(build())
    app[PEERS] = Peers(settings.server.trusted_proxies)

    async def life(app: web.Application) -> AsyncIterator[None]:
        async with open_context(settings, worker) as context:
            app[CONTEXT] = context
            yield

    app.cleanup_ctx.append(life)
    return app


@asynccontextmanager
async def open_context(settings: Settings, worker: int | None = None) -> AsyncIterator[Context]:
    """Open everything that handlers work with. Raises ConfigError with the remedy."""
    warn_of_doubts(settings)
    backends.prepare_data_dir(settings)
    prices = load_prices(settings.models.own_prices)
    catalog = Catalog(settings.models, frozenset(prices.models()))
    metrics = Metrics(catalog.known())
    writers = WorkerThreads(WRITER_THREADS, "durable")
    tasks = TaskKeeper()  # calls: a drain waits for them
    homing = TaskKeeper()  # what is durable, and on its way to storage: the next start takes it up
    background = TaskKeeper()  # what runs until the end
    handlers = TaskKeeper()  # those whose clients may have left
    async with AsyncExitStack() as closing:
        closing.push_async_callback(asyncio.to_thread, writers.close)
        data_dir = settings.server.data_dir
        spool = Spool(
            data_dir / "spool",
            writers,
            marks=[] if backends.is_postgres(settings) else [data_dir / backends.INDEX_FILE],
            max_bytes=settings.server.spool_max_bytes,
        )
        storage = backends.open_storage(settings, writers, spool.disk)
        disks = [spool.disk] if storage.disk is None else [spool.disk, storage.disk]
        upstream = MeasuredUpstream(backends.open_upstream(settings), metrics)
        closing.push_async_callback(upstream.close)
        index = await backends.open_index(settings, spool.disk, read_limit_s=READ_LIMIT_S)
        closing.push_async_callback(index.close)
        closing.push_async_callback(_close_spool, spool, index)
        closing.push_async_callback(storage.close)
        storage = await _claim_storage(index, storage)
        spool.open()
        depth = DepthGauge(spool.root, spool)
        if spool.max_bytes is not None:
            await asyncio.to_thread(depth.measure)  # it may be full of what an earlier process left
        secret = await _link_secret(index)
        links = LinkSigner(secret, settings.link_base(settings.server.port))
        directory = await _open_directory(settings, index)
        looking = Looking()
        finisher = Finisher(index, storage, metrics.call_ended, looking.call_ended)
        billing = Billing(prices)
        quotes = Quotes(catalog, prices)
        keeping = Keeping(finisher, tasks, homing, settings.gallery.visibility)
        relaying = Relaying(
            settings=settings,
            upstream=upstream,
            fetcher=ImageFetcher(settings.upstream.base_url),
            catalog=catalog,
            billing=billing,
            keeping=keeping,
            links=links,
        )
        kept = KeptFiles(storage, spool, spans_hosts=index.spans_hosts)
        presence = Presence(index, spool)
        await presence.begin()
        closing.push_async_callback(presence.end)
        deliveries = Deliveries(index, tasks, spool, presence)
        await deliveries.sweep()  # before any retry comes to look for what died with its process
        generation = Generation(
            index=index,
            spool=spool,
            kept=kept,
            disks=disks,
            quotes=quotes,
            notices=Notices(prices, metrics),
            billing=billing,
            keeping=keeping,
            relaying=relaying,
            deliveries=deliveries,
            tasks=tasks,
            threads=writers,
            metrics=metrics,
        )
        thumbnails_dir = data_dir / "thumbnails"
        forget = partial(forget_thumbnails, thumbnails_dir)
        upkeep = Upkeep(index, storage, background, forget, spool.holds, presence.may_hold_elsewhere)
        erasing = Erasing(index, spool.partials, upkeep.nudge)
        library = Library(index, kept, links, upkeep, settings.gallery.retention_days)
        thumbnails = Thumbnails(thumbnails_dir, index, library, background)
        closing.push_async_callback(thumbnails.close)
        closing.push_async_callback(deliveries.close)
        closing.push_async_callback(homing.close)
        closing.push_async_callback(tasks.close)
        closing.push_async_callback(background.close)
        closing.push_async_callback(handlers.close)
        closing.push_async_callback(handlers.drain, LAST_HANDLERS_S)
        for disk in disks:
            disk.on_back += [finisher.nudge, upkeep.nudge]
            background.spawn(disk.run(), f"watch {disk.name}")
        outlook = Outlook(storage, background)
        outlook.on_back += [finisher.nudge, upkeep.nudge]
        if spool.max_bytes is not None:
            background.spawn(depth.watch(), "spool depth")
        background.spawn(directory.watch(), "directory")
        background.spawn(metrics.watch_loop(), "loop lag")
        background.spawn(Recovery(spool, index, storage, finisher, writers, presence).run(), "recovery")
        background.spawn(presence.run(), "heartbeat")
        background.spawn(upkeep.run(), "upkeep")
        background.spawn(looking.run(library, thumbnails, min(settings.gallery.thumbnail_px)), "looking")
        background.spawn(Sweep(thumbnails_dir, index).run(), "sweeping")
        background.spawn(erasing.run(), "erasing")
        background.spawn(deliveries.run(), "deliveries")
        background.spawn(spool.partials.run(), "partial images")
        collector: Collector = OneProcess(metrics)
        if worker is not None:
            collector = siblings = Siblings(spool, metrics, worker)
            background.spawn(siblings.run(), "siblings")
        retention = Retention(index, storage, upkeep, settings.gallery, metrics.retention_held)
        background.spawn(retention.run(), "retention")
        yield Context(
            settings=settings,
            index=index,
            directory=directory,
            sessions=Sessions(index, directory),
            erasing=erasing,
            generation=generation,
            library=library,
            links=links,
            shares=Shares(index, secret, handlers),
            thumbnails=thumbnails,
            catalog=catalog,
            prices=prices,
            quotes=quotes,
            spool=spool,
            depth=depth,
            handlers=handlers,
            disks=disks,
            outlook=outlook,
            metrics=metrics,
            attempts=Attempts(index, "sign-in", secret),
            tries=Tries(Attempts(index, "link", secret), Attempts(index, "password", secret)),
            collector=collector,
        )
        if left := len(tasks):
            log.error("stopping with calls still running", extra={"calls": left})
        if left := len(homing):
            log.warning(
                "stopping with calls in the spool: the next start brings them home", extra={"calls": left}
            )


async def _close_spool(spool: Spool, index: Index) -> None:
    """Give our part of the spool back, but for what the next start has to settle."""
    spool.close(keeps_folder=await _has_open_calls(index, spool))


async def _has_open_calls(index: Index, spool: Spool) -> bool:
    """Tell whether calls end unsettled. Our folder in the spool is what makes the next start settle them."""
    try:
        return bool(await index.read(lambda tx: ledger.open_calls(tx, spool.process)))
    except ProxyError:
        return True


async def _open_directory(settings: Settings, index: Index) -> Directory:
    """Bring the users of settings and index together; make the admin of a first start."""
    await sync_declared(index, settings.users)
    admin = await make_first_admin(index, settings.server.data_dir, os.environ.get("PIXIE_ADMIN_KEY"))
    if admin is not None:
        _tell_first_admin(admin)
    directory = Directory(index, settings.limits, settings.team)
    await directory.load()
    return directory


def _tell_first_admin(admin: FirstAdmin) -> None:
    where = f"its key is in {admin.path}" if admin.path else "its key is PIXIE_ADMIN_KEY"
    log.warning("first start: made the user 'admin'; %s", where)


async def _link_secret(index: Index) -> bytes:
    """Read the secret that signs links, made at the first start; all processes of an index share it."""
    made = secrets.token_hex(32)
    return bytes.fromhex(await index.write(lambda tx: stored.put_if_absent(tx, "link_secret", made)))


async def _claim_storage(index: Index, storage: Storage) -> Storage:
    """See that index and storage belong together. An unmounted folder must stop us, not empty the gallery.

    A bucket that the index knows and that is away must not: give one that is looked at as soon as it is back.
    """
    known = await index.read(lambda tx: stored.get(tx, "storage_id"))
    try:
        found = await sentinel(storage)
        # A start that dies between the two puts leaves this word in the index, and the next one goes on. It is read
        # after the file: another host that starts for the first time has written it before.
        begun = await index.read(lambda tx: stored.get(tx, "storage_id_begun"))
        if known is None and found in {None, begun}:
            made = await index.write(
                lambda tx: stored.put_if_absent(tx, "storage_id_begun", secrets.token_hex(16))
            )
            await storage.put(SENTINEL, made.encode() + b"\n")
            await index.write(lambda tx: stored.put(tx, "storage_id", made))
            log.warning("new storage: index and storage are both empty and belong together from now on")
        elif (fault := claim_fault(known, found)) is not None:
            raise ConfigError(f"{fault[0]}: {fault[1]}. Nothing was changed")
        elif storage.disk is None and found is not None:
            # The same bytes once more: a key that may only read must not be found out by the first paid image.
            await storage.put(SENTINEL, found.encode() + b"\n")
    except StorageRefused as exc:
        raise ConfigError(f"storage.s3: {exc.message} Remedy: {exc.remedy}. Nothing was changed") from None
    except StorageUnavailable as exc:
        if known is None or storage.disk is not None:
            raise
        log.warning("storage is away: the spool does without it", extra={"reason": exc.message})
        return AwaitedStorage(storage, known)
    return storage
