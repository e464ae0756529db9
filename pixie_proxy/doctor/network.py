"""What lies out there: the upstream and our key for it, the clocks of others, and the address that people use."""

from __future__ import annotations

import asyncio
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import orjson

from pixie_proxy.doctor import Finding, fault, ok, warning
from pixie_proxy.doctor.patient import LOOK_S, Patient
from pixie_proxy.errors import ConfigError, IndexUnavailable
from pixie_proxy.gallery.sharing import LinkSigner
from pixie_proxy.index.checkup import Checkup
from pixie_proxy.upstream import Seen, Unseen
from pixie_proxy.upstream.looking import look_at

SKEW_WARNING_S = 30
SKEW_FAULT_S = 300
"""S3 refuses signatures that are 15 minutes off; Swift, and some clones, 5."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


async def upstream(patient: Patient) -> list[Finding]:
    """Ask for the list of models, which is free, with the operator's key."""
    host = urlsplit(patient.settings.upstream.base_url).netloc.rpartition("@")[2]
    try:
        seen = await patient.upstream()
    except ConfigError as exc:
        return [fault("no OpenAI key", exc.problems[0].partition(". ")[2])]
    except Unseen as exc:
        return [fault(f"{host}: {exc}", "mend upstream.base_url, upstream.proxy_url or the network")]
    took = f"{host} answers in {seen.took_s * 1000:.0f} ms"
    if seen.status in {401, 403}:
        return [fault(f"{host} refuses the key ({seen.status})", "mend upstream.api_key")]
    if 300 <= seen.status < 400:
        return [fault(f"{host} redirects, and no redirect is followed", "mend upstream.base_url")]
    if seen.status >= 500:
        return [warning(f"{host} answers {seen.status}", "it has trouble of its own: ask again later")]
    if seen.status == 429:
        return [ok(f"{took}: busy (429), which says that it knows the key")]
    if seen.status != 200 or not seen.body.lstrip().startswith(b"{"):
        told = f"{took}, but has no list of models ({seen.status}): the key was not checked"
        return [warning(told, "if calls fail, mend upstream.base_url: OpenAI's ends with /v1")]
    if patient.settings.upstream.api_key is None:
        return [ok(f"{took}, without a key")]
    return [ok(f"{took} and takes the key")]


async def clock(patient: Patient) -> list[Finding]:
    """Compare our clock with those of upstream and bucket, whose answers bring theirs along."""
    skews = [
        skew for skew in await asyncio.gather(_of_upstream(patient), _of_bucket(patient)) if skew is not None
    ]
    if not skews:
        return [ok("not compared: nobody told another time")]
    skew = min(skews, key=abs)  # one of them may be wrong by itself
    if abs(skew) < SKEW_WARNING_S:
        return [ok("as others have it, to some seconds")]
    told = f"this clock is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} others"
    remedy = "set it, and keep it right by NTP"
    return [fault(told, remedy) if abs(skew) >= SKEW_FAULT_S else warning(told, remedy)]


async def _of_upstream(patient: Patient) -> float | None:
    try:
        return _skew_s(await patient.upstream())
    except (ConfigError, Unseen):
        return None


async def _of_bucket(patient: Patient) -> float | None:
    if patient.settings.storage.kind != "s3":
        return None
    s3 = patient.settings.storage.s3
    try:
        return _skew_s(
            await look_at(s3.endpoint_url or f"https://s3.{s3.region}.amazonaws.com", timeout_s=LOOK_S)
        )
    except Unseen:
        return None


def _skew_s(seen: Seen) -> float | None:
    """Give how far we are ahead of who answered, to a second; None where he did not say."""
    try:
        told = parsedate_to_datetime(seen.headers["date"])
    except (KeyError, ValueError):
        return None
    return seen.at_s - told.replace(tzinfo=told.tzinfo or UTC).timestamp()


async def links(patient: Patient) -> list[Finding]:
    """See that the address that people use leads here, best of all by opening a link."""
    settings = patient.settings
    url = settings.server.public_url
    if url is None:
        base = settings.link_base(settings.server.port)
        where = "which opens on this machine only" if urlsplit(base).hostname in _LOOPBACK else "in clear"
        return [ok(f"server.public_url is not set: links start with {base}, {where}")]
    in_clear = []
    if url.startswith("http://") and urlsplit(url).hostname not in _LOOPBACK:
        told = "server.public_url: keys and images cross the network in clear"
        in_clear = [warning(told, "put TLS before the proxy, and write https://")]
    return [*in_clear, await _leads_here(patient, url)]


async def _leads_here(patient: Patient, url: str) -> Finding:
    listens = f"{patient.settings.server.host}:{patient.settings.server.port}"
    try:
        seen = await look_at(f"{url}/healthz", timeout_s=LOOK_S)
    except Unseen as exc:
        return await _unless_stopped(
            patient, f"server.public_url: {exc}", f"let it lead to {listens}, or mend it"
        )
    if 300 <= seen.status < 400:
        return fault("server.public_url redirects", "set it to the address that it leads to")
    if seen.status in {502, 503, 504}:
        told = f"server.public_url: the proxy before us answers {seen.status}, for it does not reach us"
        return await _unless_stopped(patient, told, f"let it pass on to {listens}")
    if seen.status != 200 or not _is_health(seen):
        told = f"server.public_url: something else answers there ({seen.status})"
        return fault(told, f"let it lead to {listens}, or mend it")
    return await _opens_link(patient, url)


async def _opens_link(patient: Patient, url: str) -> Finding:
    """Open the newest image's link: only a proxy with this index knows it."""
    try:
        index = await patient.index()
    except (ConfigError, IndexUnavailable):
        index = None
    link = _link(index, url)
    if link is None:
        return ok(
            "server.public_url: a pixie_proxy answers (with an image, its link would prove that it is this one)"
        )
    try:
        seen = await look_at(link, method="HEAD", timeout_s=LOOK_S)
    except Unseen as exc:
        return fault(
            f"server.public_url: a link does not open ({exc})", "see what the proxy before us does with /i/"
        )
    if seen.status == 404:
        return fault(
            "server.public_url: another pixie_proxy answers there", "mend it, or its name in the DNS"
        )
    if seen.status >= 400:
        return warning(
            f"server.public_url: a link answers {seen.status}", "see the storage's line, or pixie verify"
        )
    return ok("server.public_url leads here: a link opens")


def _link(index: Checkup | None, url: str) -> str | None:
    if index is None or index.sample is None or index.link_secret is None:
        return None
    sample = index.sample
    return LinkSigner(bytes.fromhex(index.link_secret), url).url(sample.id, sample.mime, sample.link_epoch)


def _is_health(seen: Seen) -> bool:
    try:
        return bool(orjson.loads(seen.body) == {"status": "ok"})
    except orjson.JSONDecodeError:
        return False


async def _unless_stopped(patient: Patient, told: str, remedy: str) -> Finding:
    """Mind it less where no proxy runs that could answer."""
    if await patient.is_serving():
        return fault(told, remedy)
    return warning(f"{told}; and no proxy runs here", "start pixie serve, then ask again")
