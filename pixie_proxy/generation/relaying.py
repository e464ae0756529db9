"""Send a call upstream and bring its answer back: again where that is safe, and to an honest end where it breaks."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from contextlib import suppress

from pixie_proxy.config import Settings
from pixie_proxy.errors import ProxyError, UpstreamUnreachable
from pixie_proxy.gallery.sharing import LinkSigner
from pixie_proxy.generation.billing import Billing
from pixie_proxy.generation.ending import Ending
from pixie_proxy.generation.job import Job
from pixie_proxy.generation.keeping import Keeping
from pixie_proxy.relay.capture import AnswerBroken, JsonCapture, SseCapture
from pixie_proxy.relay.opening import AnswerKind, is_event_stream, open_answer
from pixie_proxy.relay.pump import Pump
from pixie_proxy.relay.refusal import MAX_ERROR_BYTES, Refusal, judge, outcome_unknown
from pixie_proxy.relay.scrubbing import scrubber
from pixie_proxy.upstream import Upstream, UpstreamCut, UpstreamRequest, UpstreamResponse
from pixie_proxy.upstream.catalog import Catalog
from pixie_proxy.upstream.fetch import ImageFetcher

log = logging.getLogger(__name__)

_UPSTREAM_ID = re.compile(r"[!-~]{1,200}")
_LONGEST_RESEND_WAIT_S = 20.0
"""A longer `Retry-After` of the upstream's is the client's to wait for."""


class Relaying:
    """Relays calls. Every way out of `relay` has settled the call and ended its client's answer."""

    def __init__(
        self,
        *,
        settings: Settings,
        upstream: Upstream,
        fetcher: ImageFetcher,
        catalog: Catalog,
        billing: Billing,
        keeping: Keeping,
        links: LinkSigner,
    ) -> None:
        """Work with what the composition root wired."""
        self._upstream = upstream
        self._catalog = catalog
        self._billing = billing
        self._keeping = keeping
        self._max_resends = settings.upstream.max_retries
        adds_url = settings.gallery.add_url
        self._ending = Ending(
            fetcher=fetcher,
            billing=billing,
            keeping=keeping,
            links=links,
            adds_url=settings.server.public_url is not None if adds_url is None else adds_url,
        )
        key = settings.upstream.api_key
        self._secret = key.get_secret_value() if key else ""
        self._scrub = scrubber(self._secret)

    async def relay(self, job: Job) -> None:
        """Run a call to its end."""
        model = job.call.model
        outgoing = job.asked.to_upstream(
            job.call.id, model, None if self._catalog.is_gpt_image(model) else "b64_json"
        )
        resend = 0
        while (refusal := await self._attempt(job, outgoing)) is not None:
            wait_s = _backoff_s(resend) if refusal.retry_after_s is None else refusal.retry_after_s
            if not refusal.may_send_again or resend == self._max_resends or wait_s > _LONGEST_RESEND_WAIT_S:
                end = self._billing.failed if refusal.is_definite else self._billing.unknown
                await self._keeping.settle(job, end(job, refusal.summary))
                job.fail(refusal.error)
                return
            await asyncio.sleep(wait_s)
            resend += 1

    async def _attempt(self, job: Job, outgoing: UpstreamRequest) -> Refusal | None:
        """Send the call once; None when it has ended, else why the upstream did not take it."""
        try:
            async with self._upstream.send(outgoing) as response:
                upstream_id = response.headers.get("x-request-id", "")
                if _UPSTREAM_ID.fullmatch(upstream_id):
                    job.upstream_request_id = job.headers["x-upstream-request-id"] = upstream_id
                if not 200 <= response.status < 300:
                    return await self._judge(job, response)
                return await self._answer(job, response)
        except UpstreamUnreachable as exc:
            return Refusal(error=exc, is_definite=True, may_send_again=True)
        except UpstreamCut as exc:
            await self._end_unknown(job, str(exc))
        return None

    async def _judge(self, job: Job, response: UpstreamResponse) -> Refusal:
        body = bytearray()
        with suppress(UpstreamCut):  # an envelope that can be read is whole, however its connection ended
            async for chunk in response.chunks():
                body += chunk
                if len(body) > MAX_ERROR_BYTES:
                    break
        if response.status in {401, 403}:
            log.critical("the upstream refused our credentials", extra={"status": response.status})
        return judge(response.status, response.headers, bytes(body), self._secret, job.call.id)

    async def _answer(self, job: Job, response: UpstreamResponse) -> Refusal | None:
        """Relay an answer, in the form that the client asked for; give a refusal if it turns out to be one."""
        content_type = response.headers.get("content-type", "")
        if job.asked.is_stream and is_event_stream(content_type):
            job.feed.is_between_events = True
            job.begin(is_stream=True)
        answer = await open_answer(response.chunks(), content_type)
        capture = self._capture(job, answer.kind)

        async def seal_event() -> None:
            # More events may follow, so the outcome is still open.
            await self._keeping.seal(job, pump, self._billing.unknown(job, "the stream had not ended"))

        pump = Pump(
            capture,
            job.spooled,
            job.feed,
            image_id=job.image_id,
            seal=seal_event,
            begin_answer=lambda: job.begin(is_stream=job.asked.is_stream),
        )
        try:
            await pump.run(answer.chunks())
            if isinstance(capture, JsonCapture):
                return await self._ending.document(job, pump, capture)
            return await self._ending.stream(job, pump, capture)
        except (AnswerBroken, UpstreamCut) as exc:
            await self._end_unknown(job, f"{type(exc).__name__}: {exc}", pump)
        return None

    def _capture(self, job: Job, kind: AnswerKind) -> JsonCapture | SseCapture:
        def link(position: int, mime: str) -> str:
            return self._ending.link(job, position, mime)

        # An answer in the other form than was asked for is written anew once it is whole.
        is_other = job.asked.is_stream != (kind == "events")
        found_link = link if self._ending.wants_link(job) else None
        if kind == "events":
            return SseCapture(link=found_link, mute=is_other, scrub=self._scrub, expected=job.asked.n)
        mute = is_other or job.asked.response_format == "url"
        return JsonCapture(link=found_link, mute=mute, scrub=self._scrub)

    async def _end_unknown(self, job: Job, reason: str, pump: Pump | None = None) -> None:
        """End a call that broke off: keep what came whole, charge the hold, and say so."""
        log.warning("an upstream call broke off", extra={"request_id": job.call.id, "reason": reason})
        error, settlement = outcome_unknown(job.call.id), self._billing.unknown(job, reason)
        job.price(settlement)
        if pump is not None and pump.names:
            manifest = await self._keeping.seal(job, pump, settlement)
            self._tell(job, error)
            await self._keeping.finish(job, manifest)
            return
        await job.spooled.remove()
        await self._keeping.settle(job, settlement)
        self._tell(job, error)

    @staticmethod
    def _tell(job: Job, error: ProxyError) -> None:
        """Tell a client that is there how its call ended: who asks once more, and not as a retry, wants a new one."""
        job.fail(error)
        job.delivery.delivered()


def _backoff_s(resend: int) -> float:
    return float(0.5 * 2**resend * random.uniform(0.75, 1.25))  # noqa: S311 - jitter
