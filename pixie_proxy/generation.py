"""The use case: one paid call, from admission through the upstream to images that are kept and a ledger that is settled.

`Generation.start` returns as soon as there is something for the client; the call itself runs in a task that outlives the
client, for its images are paid for either way. Knows no HTTP framework.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from pixie_proxy.admission import gate
from pixie_proxy.config import Settings
from pixie_proxy.errors import InternalError, ProxyError, ShuttingDown, UpstreamUnreachable
from pixie_proxy.gallery.sharing import LinkSigner
from pixie_proxy.index import Index
from pixie_proxy.media import sniff
from pixie_proxy.pricing import Prices, cost_micros, usage_from_json
from pixie_proxy.records import CallRecord, Settlement, State, StoredImage, Usage, User, new_id
from pixie_proxy.relay.capture import AnswerBroken, JsonCapture, Skeleton, SseCapture
from pixie_proxy.relay.feed import Feed
from pixie_proxy.relay.pump import ImageIds, Pump
from pixie_proxy.relay.refusal import MAX_ERROR_BYTES, Refusal, judge, outcome_unknown
from pixie_proxy.relay.request import ImageRequest
from pixie_proxy.spool.area import Spool
from pixie_proxy.spool.call import SpooledCall
from pixie_proxy.spool.finish import Finisher
from pixie_proxy.spool.manifest import Manifest
from pixie_proxy.tasks import TaskKeeper
from pixie_proxy.upstream import Upstream, UpstreamCut, UpstreamRequest, UpstreamResponse
from pixie_proxy.upstream.catalog import Catalog
from pixie_proxy.upstream.fetch import FetchRefused, ImageFetcher

log = logging.getLogger(__name__)

KEEP_WAIT_S = 2.0
"""How long a durable answer's end waits for storage and index; what is slower goes on without the client."""

_LONGEST_RESEND_WAIT_S = 20.0
"""A longer `Retry-After` of the upstream's is the client's to wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the client gets: headers and bytes to come. `is_stream`: the bytes are server-sent events."""

    headers: dict[str, str]
    is_stream: bool
    feed: Feed


@dataclass(slots=True, kw_only=True)
class _Job:
    """A call under way."""

    call: CallRecord
    asked: ImageRequest
    owner: User
    feed: Feed
    spooled: SpooledCall
    headers: dict[str, str]
    begun: asyncio.Future[bool]
    image_id: ImageIds
    uploads: Path | None
    upstream_request_id: str | None = None
    flags: tuple[str, ...] = ()

    def open(self, *, is_stream: bool) -> None:
        """Let the client's answer begin."""
        if not self.begun.done():
            self.begun.set_result(is_stream)

    def fail(self, error: ProxyError) -> None:
        """Give the client an error: as the answer if none has begun, else inside it; never as a clean end."""
        if not self.begun.done():
            self.begun.set_exception(error)
            self.begun.exception()  # a client that has left will not fetch it
        elif self.begun.result():
            _, body = error.answer()
            self.feed.put(b"event: error\ndata: " + orjson.dumps({"type": "error", **body}) + b"\n\n")
        self.feed.abort()


class Generation:
    """Runs paid calls."""

    def __init__(
        self,
        *,
        settings: Settings,
        index: Index,
        spool: Spool,
        finisher: Finisher,
        upstream: Upstream,
        fetcher: ImageFetcher,
        catalog: Catalog,
        prices: Prices,
        links: LinkSigner,
        tasks: TaskKeeper,
        threads: Executor,
    ) -> None:
        """Work with what the composition root wired."""
        self._settings = settings
        self._index = index
        self._spool = spool
        self._finisher = finisher
        self._upstream = upstream
        self._fetcher = fetcher
        self._catalog = catalog
        self._prices = prices
        self._links = links
        self._tasks = tasks
        self._threads = threads
        self._adds_url = (
            settings.gallery.add_url
            if settings.gallery.add_url is not None
            else settings.server.public_url is not None
        )
        key = settings.upstream.api_key
        self._secret = key.get_secret_value() if key else ""
        self.is_draining = False

    async def drain(self, timeout_s: float) -> int:
        """Take no new calls and wait for those that run; return how many still do after `timeout_s`."""
        self.is_draining = True
        return await self._tasks.drain(timeout_s)

    def refuse_early(self) -> None:
        """Refuse what can be refused before a body is read. Raises ShuttingDown, StorageFull."""
        if self.is_draining:
            message = "The proxy is shutting down. Nothing was sent upstream; try again."
            raise ShuttingDown(message, headers={"retry-after": "1"})
        with self._spool.room_for(1):
            pass

    async def start(
        self, asked: ImageRequest, owner: User, *, request_id: str, idempotency_key: str | None, uploads: Path | None
    ) -> Answer:
        """Admit a call and run it; return when its answer begins.

        `uploads` is the folder of its input files, which is the call's to delete from here on. Raises ProxyError.
        """
        exits = AsyncExitStack()
        if uploads is not None:
            exits.push_async_callback(asyncio.to_thread, shutil.rmtree, uploads, ignore_errors=True)
        try:
            self.refuse_early()
            exits.enter_context(self._spool.room_for(asked.n))
            job = await self._admit(asked, owner, request_id, idempotency_key, uploads)
        except BaseException:
            await exits.aclose()
            raise
        exits.callback(job.feed.discard)
        self._tasks.spawn(self._run(job, exits), f"call {request_id}")
        is_stream = await asyncio.shield(job.begun)
        return Answer(headers=job.headers, is_stream=is_stream, feed=job.feed)

    async def _admit(
        self,
        asked: ImageRequest,
        owner: User,
        request_id: str,
        idempotency_key: str | None,
        uploads: Path | None,
    ) -> _Job:
        model = self._catalog.resolve(asked.model)
        now_us = time.time_ns() // 1000
        call = CallRecord(
            id=request_id,
            user_id=owner.id,
            key_id=owner.key_id,
            kind=asked.kind,
            requested_model=asked.model,
            model=model,
            prompt=asked.prompt,
            params=asked.params(),
            images_asked=asked.n,
            is_stream=asked.is_stream,
            fingerprint=asked.fingerprint(owner.id, model),
            idempotency_key=idempotency_key,
            hold_micros=self._hold(asked, model),
            process=self._spool.process,
            created_us=now_us,
        )
        admitted = await self._index.write(lambda tx: gate.admit(tx, call, owner.limits, now_us=now_us))
        header = orjson.dumps({"object": "pixie.call", "id": call.id, "owner": owner.name, "prompt": call.prompt})
        return _Job(
            call=call,
            asked=asked,
            owner=owner,
            feed=Feed(self._spool.folder, self._threads),
            spooled=self._spool.call(call.id, header),
            headers=admitted.headers(),
            begun=asyncio.get_running_loop().create_future(),
            image_id=ImageIds(),
            uploads=uploads,
        )

    def _hold(self, asked: ImageRequest, model: str) -> int:
        """Reserve the most that the call can cost; a model without a price holds nothing."""
        size, quality = asked.fields.get("size"), asked.fields.get("quality")
        inputs = len(asked.files) if asked.texts is not None else len(asked.fields.get("images") or ())
        ceiling = self._prices.ceiling_micros(
            model,
            size=size if isinstance(size, str) else None,
            quality=quality if isinstance(quality, str) else None,
            n=asked.n,
            inputs=inputs,
            partial_images=asked.partial_images,
        )
        return ceiling or 0

    async def _run(self, job: _Job, exits: AsyncExitStack) -> None:
        """Run a call to its end, whatever its client does."""
        async with exits:
            try:
                await self._relay(job)
            except ProxyError as exc:
                job.fail(exc)
            except Exception:
                log.exception("a call failed", extra={"request_id": job.call.id})
                await self._settle(job, "unknown", error="internal error")
                job.fail(InternalError())

    async def _relay(self, job: _Job) -> None:
        asked, model = job.asked, job.call.model
        outgoing = asked.to_upstream(job.call.id, model, None if self._catalog.is_gpt_image(model) else "b64_json")
        for attempt in range(self._settings.upstream.max_retries + 1):
            is_last = attempt == self._settings.upstream.max_retries
            wait_s = await self._attempt(job, outgoing, attempt, is_last=is_last)
            if wait_s is None:
                return
            await asyncio.sleep(wait_s)

    async def _attempt(
        self, job: _Job, outgoing: UpstreamRequest, attempt: int, *, is_last: bool
    ) -> float | None:
        """Send the call once. Return how long to wait before it may go again, or None when it has ended."""
        try:
            async with self._upstream.send(outgoing) as response:
                job.upstream_request_id = response.headers.get("x-request-id")
                if job.upstream_request_id:
                    job.headers["x-upstream-request-id"] = job.upstream_request_id
                if response.status == 200:  # noqa: PLR2004
                    await self._answer(job, response)
                    return None
                refusal = await self._judge(job, response)
        except UpstreamUnreachable as exc:
            refusal = Refusal(error=exc, is_definite=True, may_send_again=True)
        except UpstreamCut as exc:
            await self._end_unknown(job, str(exc))
            return None
        wait_s = _backoff_s(attempt) if refusal.retry_after_s is None else refusal.retry_after_s
        if refusal.may_send_again and not is_last and wait_s <= _LONGEST_RESEND_WAIT_S:
            return wait_s
        await self._settle(job, "failed" if refusal.is_definite else "unknown", error=_summary(refusal.error))
        job.fail(refusal.error)
        return None

    async def _judge(self, job: _Job, response: UpstreamResponse) -> Refusal:
        body = bytearray()
        try:
            async for chunk in response.chunks():
                body += chunk
                if len(body) > MAX_ERROR_BYTES:
                    break
        except UpstreamCut:
            body.clear()
        refusal = judge(response.status, response.headers, bytes(body), self._secret, job.call.id)
        if response.status in {401, 403}:
            log.critical("the upstream refused our credentials", extra={"status": response.status})
        return refusal

    async def _answer(self, job: _Job, response: UpstreamResponse) -> None:
        """Relay a 200."""
        is_stream = response.headers.get("content-type", "").partition(";")[0].strip() == "text/event-stream"
        capture = self._capture(job, is_stream=is_stream)
        pump = Pump(
            capture,
            job.spooled,
            job.feed,
            image_id=job.image_id,
            seal=lambda: self._seal_event(job, pump),
            open_answer=lambda: job.open(is_stream=is_stream),
        )
        if is_stream:
            job.open(is_stream=True)
        try:
            await pump.run(response.chunks())
            if isinstance(capture, JsonCapture):
                await self._end_json(job, pump, capture)
            else:
                await self._end_stream(job, pump, capture)
        except (AnswerBroken, UpstreamCut) as exc:
            await self._end_unknown(job, f"{type(exc).__name__}: {exc}", pump)

    def _capture(self, job: _Job, *, is_stream: bool) -> JsonCapture | SseCapture:
        wants = job.asked.response_format
        wants_link = wants == "url" or (wants is None and self._adds_url)

        def link(position: int, mime: str) -> str:
            return self._links.url(job.image_id(position), mime)

        if is_stream:
            return SseCapture(link=link if wants_link else None)
        return JsonCapture(link=link if wants_link else None, url_only=wants == "url")

    async def _end_json(self, job: _Job, pump: Pump, capture: JsonCapture) -> None:
        fields = capture.fields
        items = fields.get("data") if isinstance(fields, dict) else None
        if not isinstance(items, list):
            raise AnswerBroken("the answer has no data")  # noqa: EM101, TRY003
        composed: bytes | None = None
        if job.asked.response_format == "url" or not pump.names:
            composed = orjson.dumps(await self._compose(job, pump, fields))
        revised = {
            position: item["revised_prompt"]
            for position, item in enumerate(items)
            if isinstance(item, dict) and isinstance(item.get("revised_prompt"), str)
        }
        usage = fields.get("usage")
        skeleton = (Skeleton.of_text(composed) if composed is not None else capture.skeleton).to_bytes()
        manifest = await self._seal(job, pump, self._done(job, len(pump.names), usage, skeleton), revised)
        if composed is not None:
            job.feed.put(composed)
        pump.release()
        await self._keep(job, manifest)

    async def _end_stream(self, job: _Job, pump: Pump, capture: SseCapture) -> None:
        if not pump.events and pump.error_event is not None:
            await self._settle(job, "failed", error=_event_error(pump.error_event))
            job.feed.close()
            return
        usage = _sum_usage([event.get("usage") for event in pump.events])
        settlement = self._done(job, len(pump.names), usage, capture.skeleton.to_bytes())
        await self._keep(job, await self._seal(job, pump, settlement))

    async def _seal_event(self, job: _Job, pump: Pump) -> None:
        """Make a streamed image durable before its event may end; more may follow, so the outcome is still open."""
        await self._seal(job, pump, self._unknown(job, "the call had not ended"))

    async def _end_unknown(self, job: _Job, reason: str, pump: Pump | None = None) -> None:
        """End a call that broke off: keep what came whole, charge the hold, and say so."""
        log.warning("an upstream call broke off", extra={"request_id": job.call.id, "reason": reason})
        error = outcome_unknown(job.call.id)
        if pump is not None and pump.names:
            manifest = await self._seal(job, pump, self._unknown(job, reason))
            job.fail(error)
            await self._finisher.keep(manifest, job.spooled.folder)
            return
        await job.spooled.remove()
        await self._settle(job, "unknown", error=reason)
        job.fail(error)

    async def _compose(self, job: _Job, pump: Pump, fields: dict[str, Any]) -> dict[str, Any]:
        """Build the small answer that has links instead of base64, fetching images that came as links themselves."""
        items = []
        for position, item in enumerate(fields["data"]):
            kept = next((slot for slot, name in pump.names.items() if name.position == position), None)
            if kept is not None:
                item = {**item, "url": self._links.url(job.image_id(position), job.spooled.mime(kept))}
            elif isinstance(item, dict) and isinstance(item.get("url"), str):
                item = {**item, "url": await self._fetch(job, pump, position, item["url"])}
            items.append(item)
        return {**fields, "data": items}

    async def _fetch(self, job: _Job, pump: Pump, position: int, url: str) -> str:
        """Keep an image that the upstream only linked to; give our own link, or the upstream's if that fails."""
        slot = -1 - position
        head = b""
        try:
            async for chunk in self._fetcher.fetch(url):
                if not head:
                    job.spooled.begin(slot, sniff(head := chunk))
                job.spooled.add(slot, chunk)
                if job.spooled.wants_flush:
                    await job.spooled.flush()
            if not head:
                raise FetchRefused("the link is empty")  # noqa: EM101, TRY003
        except (FetchRefused, OSError) as exc:
            log.warning("an image was not kept", extra={"request_id": job.call.id, "reason": str(exc)})
            job.flags = ("not_kept",)
            if head:
                await job.spooled.drop(slot)
            return url
        job.spooled.end(slot)
        pump.name(slot, position)
        return self._links.url(job.image_id(position), job.spooled.mime(slot))

    async def _seal(
        self, job: _Job, pump: Pump, settlement: Settlement, revised: dict[int, str] | None = None
    ) -> Manifest:
        """Write the call durably and return its manifest; a disk that fails must not take the client's answer too."""
        manifest = Manifest(
            call=job.call,
            owner_name=job.owner.name,
            visibility=self._settings.gallery.visibility,
            settlement=settlement,
            images=(),
        )

        def with_images(images: tuple[StoredImage, ...]) -> Manifest:
            told = revised or {}
            return replace(
                manifest,
                images=tuple([replace(image, revised_prompt=told.get(image.position)) for image in images]),
            )

        if not pump.names:
            return manifest
        try:
            if pump.spool_error is not None:
                raise pump.spool_error
            images = await job.spooled.seal(pump.names, lambda images: with_images(images).to_json())
        except OSError as exc:
            log.critical("an image could not be kept", exc_info=exc, extra={"request_id": job.call.id})
            flagged = replace(settlement, flags=(*settlement.flags, "not_kept"))
            return replace(manifest, settlement=flagged)
        return with_images(images)

    async def _keep(self, job: _Job, manifest: Manifest) -> None:
        """Bring a durable call home, and end its client's answer then or after KEEP_WAIT_S."""
        timer = asyncio.get_running_loop().call_later(KEEP_WAIT_S, self._end_answer, job)
        try:
            if manifest.images:
                await self._finisher.keep(manifest, job.spooled.folder)
            else:
                await self._finisher.settle(job.call, manifest.settlement)
        finally:
            timer.cancel()
            self._end_answer(job)

    @staticmethod
    def _end_answer(job: _Job) -> None:
        job.feed.close()
        job.open(is_stream=False)

    async def _settle(self, job: _Job, state: State, *, error: str) -> None:
        """Settle a call that brought nothing: free if it surely failed, the hold if nobody can know."""
        settlement = replace(self._unknown(job, error), state=state)
        if state == "failed":
            settlement = replace(settlement, cost_micros=0)
        await _within(KEEP_WAIT_S, self._tasks, self._finisher.settle(job.call, settlement))

    def _unknown(self, job: _Job, error: str) -> Settlement:
        return Settlement(
            request_id=job.call.id,
            state="unknown",
            settled_us=time.time_ns() // 1000,
            cost_micros=job.call.hold_micros,
            is_delivered=False,
            error=error,
            upstream_request_id=job.upstream_request_id,
            flags=job.flags,
        )

    def _done(self, job: _Job, images: int, usage: Any, skeleton: bytes) -> Settlement:  # noqa: ANN401 - JSON
        tokens = usage_from_json(usage)
        flags = job.flags if tokens is not None else (*job.flags, "no_usage")
        return Settlement(
            request_id=job.call.id,
            state="done",
            settled_us=time.time_ns() // 1000,
            cost_micros=self._cost(job, tokens, images),
            is_delivered=False,
            usage=usage if isinstance(usage, dict) else None,
            skeleton=skeleton,
            upstream_request_id=job.upstream_request_id,
            flags=flags,
        )

    def _cost(self, job: _Job, tokens: Usage | None, images: int) -> int:
        """Price what came by its reported tokens; without them it costs the hold."""
        rates = self._prices.rates(job.call.model)
        if rates is None or tokens is None:
            return job.call.hold_micros
        return cost_micros(tokens, rates, images)


async def _within(wait_s: float, tasks: TaskKeeper, work: Awaitable[None]) -> None:
    """Wait a while for `work`; what is slower goes on without us."""

    async def run() -> None:
        await work

    await asyncio.wait({tasks.spawn(run(), "settle")}, timeout=wait_s)


def _backoff_s(attempt: int) -> float:
    return float(0.5 * 2**attempt * random.uniform(0.75, 1.25))  # noqa: S311 - jitter


def _summary(error: ProxyError) -> str:
    """Say in one line what the ledger remembers of an error."""
    status, body = error.answer()
    said = body["error"]
    return f"{status} {said['code'] or said['type']}: {said['message']}"[:2000]


def _event_error(fields: dict[str, Any]) -> str:
    error = fields.get("error")
    return str(error.get("message") if isinstance(error, dict) else error)[:2000]


def _sum_usage(usages: list[Any]) -> dict[str, Any] | None:
    """Add up the usage of several `completed` events; None unless each of them told one."""
    told = [usage for usage in usages if isinstance(usage, dict)]
    if not told or len(told) < len(usages):
        return None
    return _add(told)


def _add(parts: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for name in parts[0]:
        values = [part.get(name) for part in parts]
        if all(isinstance(value, dict) for value in values):
            total[name] = _add(values)  # type: ignore[arg-type]
        elif all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            total[name] = sum(values)  # type: ignore[arg-type]
        else:
            total[name] = values[-1]
    return total
