"""One bucket on an S3 server, through obstore: every request with bounded tries and time, every error in our words.

obstore's own repetition is off, but for the parts of large files: it does not repeat a conditional PUT that timed out,
and repeats a 501 that will not change. Its errors are text, so what the server said is read from there.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from pixie_proxy.config import S3Settings
from pixie_proxy.errors import StorageUnavailable
from pixie_proxy.storage import PAGE_FILES, PIECE_BYTES, ObjectMissing, StorageRefused, StoredFile

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")

PART_BYTES = 8 * 1024 * 1024
"""What is larger goes up in parts of this size: no file is ever whole in memory."""

_CONNECT_S = 3.0
_ANSWER_S = 4.0
"""How long a server may be silent, and how long any small request may take."""
_SLOWEST_BYTES_PER_S = 256 * 1024
"""An upload may take as long as its bytes need at this rate, on top."""
_WAITS_S = (0.05, 0.1, 0.25, 0.5)
"""Pauses before a request is sent again, each half to one and a half times as long."""
_WINDOW_S = 10.0
"""No request is sent again after this."""
_BODY_S = 3600.0
"""How long the reading of a body may take: as long as the slowest reader behind us."""
_RESUMES = 4

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CHECKSUMS = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"})
_PASSING = frozenset({"RequestTimeout", "SlowDown"})
_REGION = (
    "the bucket lies in another region than storage.s3.region",
    "set storage.s3.region to the bucket's own",
)
_SUMS = (
    "it finds another checksum than ours",
    "see whether a proxy before it alters bodies; a server that knows no SHA-256 of bodies can't be used",
)
_REFUSALS = {
    "AccessDenied": (
        "the access key may not do this",
        "allow it s3:GetObject, s3:PutObject, s3:DeleteObject and, on the bucket, s3:ListBucket",
    ),
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": ("the credentials have expired", "renew them"),
    "InvalidAccessKeyId": ("the server does not know the access key", "mend storage.s3.access_key_id"),
    "InvalidBucketName": ("the name in storage.s3.bucket is not valid", "mend storage.s3.bucket"),
    "NoSuchBucket": ("the bucket does not exist", "make it, or mend storage.s3.bucket"),
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "set it, and keep it right by NTP"),
    "SignatureDoesNotMatch": ("the secret access key is wrong", "mend storage.s3.secret_access_key"),
}
"""What a server that answers says, by its code: the cause, and what mends it."""
_UNREACHED = {
    "dns error": ("the name of its address is not known", "mend storage.s3.endpoint_url, or the DNS"),
    "ConnectionRefused": (
        "nobody listens at its address",
        "start it, or mend storage.s3.endpoint_url",
    ),
    "InvalidCertificate": (
        "its TLS certificate is not to be trusted",
        "give it a good one, or name the authority behind it in SSL_CERT_FILE",
    ),
    "InvalidMessage(": ("it speaks no TLS", "write http:// in storage.s3.endpoint_url, or mend the port"),
}
"""What an error says of a server that was not reached: the cause, and what mends it."""
_ANYWHERE = "look at storage.s3.endpoint_url, at the network and at the server"


class ObjectExists(Exception):
    """A conditional PUT found an object."""


class NotConditional(StorageUnavailable):
    """The server knows no conditional PUT (it answers 501)."""


class OutsideRange(StorageUnavailable):
    """The object ends before the range begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object's size, and the SHA-256 that its uploader noted."""

    size_bytes: int
    sha256: str | None


class Bucket:
    """A bucket, or what lies under a prefix in it."""

    def __init__(self, settings: S3Settings) -> None:
        """Connect to nothing yet. Without an access key, obstore looks for AWS credentials in its environment."""
        self._store = _store(settings, timeout_s=_BODY_S, retries=0)
        self._parts = _store(settings, timeout_s=_limit_s(PART_BYTES), retries=len(_WAITS_S))

    async def head(self, key: str) -> Found:
        """Look at an object. Raises ObjectMissing."""
        found = await self._ask(key, lambda: obstore.get_async(self._store, key, options={"head": True}))
        return Found(size_bytes=found.meta["size"], sha256=found.attributes.get("sha256"))

    async def put(self, key: str, data: bytes, *, attributes: dict[str, str], creates: bool = False) -> None:
        """Write an object; the server checks the body against the SHA-256 in the request's signature.

        With `creates`, only where there is none: raises ObjectExists, which may mean an earlier try of ours whose
        answer was lost, or NotConditional.
        """
        mode: Any = "create" if creates else "overwrite"
        await self._ask(
            key,
            lambda: obstore.put_async(
                self._store, key, data, attributes=attributes, mode=mode, use_multipart=False
            ),
            size_bytes=len(data),
        )

    async def put_large(self, key: str, path: Path, *, attributes: dict[str, str]) -> None:
        """Write an object from a file, in parts, one after the other; it is there when the last one is."""
        try:
            await obstore.put_async(
                self._parts,
                key,
                path,
                attributes=attributes,
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=1,
            )
        except (BaseError, FileNotFoundError) as exc:
            raise _told(exc, key)[0] from None

    async def read(self, key: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes of `[start, stop)`, going on where a broken answer ended. Raises OutsideRange."""
        options: dict[str, Any] = {}
        error: Exception
        failures = 0
        while True:
            if start or stop is not None:
                options["range"] = {"offset": start} if stop is None else (start, stop)
            result = await self._open(key, options)
            if result.range[0] != start:
                raise _unavailable("the server sent another range than was asked for")
            stop = result.range[1]
            options["if_match"] = result.meta["e_tag"]
            try:
                async for piece in _pieces(result):
                    yield piece
                    start += len(piece)
                error = _unavailable("the server ended its answer early")
            except (TimeoutError, BaseError) as exc:
                error, _ = _told(exc, key)
            if start >= stop:
                return
            failures += 1
            if failures > _RESUMES:
                raise error

    async def _open(self, key: str, options: dict[str, Any]) -> GetResult:
        return await self._ask(key, lambda: obstore.get_async(self._store, key, options=options))  # type: ignore[arg-type]

    async def walk(self, prefix: str) -> AsyncIterator[list[StoredFile]]:
        """Yield all objects below a prefix in the order of their keys, in pages of 1 to PAGE_FILES.

        Each page is a question of its own: a listing that failed half way would look like one that had ended.
        """
        page: Sequence[ObjectMeta] = ()
        while not page or len(page) == PAGE_FILES:
            page = await self._list(prefix, after=page[-1]["path"] if page else None)
            if not page:
                return
            yield [
                StoredFile(
                    ref=found["path"],
                    size_bytes=found["size"],
                    modified_us=int(found["last_modified"].timestamp() * 1e6),
                )
                for found in page
            ]

    async def _list(self, prefix: str, after: str | None) -> Sequence[ObjectMeta]:
        async def first_page() -> Sequence[ObjectMeta]:
            async for page in obstore.list(self._store, prefix, offset=after, chunk_size=PAGE_FILES):
                return page
            return ()

        return await self._ask(prefix, first_page)

    async def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        try:
            await self._ask(key, lambda: obstore.delete_async(self._store, key))
        except ObjectMissing:
            return

    async def presign(self, key: str, expires_s: int) -> str:
        """Give an address that whoever has it can GET the object by, for a while."""
        return await self._ask(
            key, lambda: obstore.sign_async(self._store, "GET", key, timedelta(seconds=expires_s))
        )

    async def _ask(self, key: str, request: Callable[[], Awaitable[T]], *, size_bytes: int = 0) -> T:
        """Send a request, and again while that may help. Raises what `_told` makes of its errors."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for wait_s in (*_WAITS_S, None):
            try:
                async with asyncio.timeout(_limit_s(size_bytes)):
                    return await request()
            except (TimeoutError, BaseError, FileNotFoundError) as exc:
                error, may_pass = _told(exc, key)
                if not may_pass or wait_s is None or loop.time() - began > _WINDOW_S:
                    raise error from None
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads requests, hides nothing
        raise AssertionError


def _store(settings: S3Settings, *, timeout_s: float, retries: int) -> S3Store:
    client: ClientConfig = {
        "timeout": timedelta(seconds=timeout_s),
        "connect_timeout": timedelta(seconds=_CONNECT_S),
        "allow_http": (settings.endpoint_url or "").startswith("http://"),
        "user_agent": "pixie_proxy",
    }
    retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(seconds=_WINDOW_S)}
    options: dict[str, Any] = {}
    if settings.endpoint_url is not None:
        options["endpoint"] = settings.endpoint_url
    if settings.access_key_id is not None and settings.secret_access_key is not None:
        key = {
            "access_key_id": settings.access_key_id,
            "secret_access_key": settings.secret_access_key.get_secret_value(),
            "token": None,
            "expires_at": None,
        }
        options["credential_provider"] = lambda: (
            key
        )  # and none of the environment's: a session token, for one
    return S3Store(
        settings.bucket,
        prefix=settings.prefix or None,
        region=settings.region,
        virtual_hosted_style_request=False,
        disable_bulk_delete=True,  # which not every server knows
        client_options=client,
        retry_config=retry,
        **options,
    )


def _limit_s(size_bytes: int) -> float:
    return _ANSWER_S + size_bytes / _SLOWEST_BYTES_PER_S


async def _pieces(result: GetResult) -> AsyncIterator[bytes]:
    """Yield a body in pieces of at most PIECE_BYTES. Raises TimeoutError when the server falls silent."""
    body = result.stream(min_chunk_size=PIECE_BYTES // 4)
    while True:
        try:
            async with asyncio.timeout(_ANSWER_S):
                found = await anext(body)
        except StopAsyncIteration:
            return
        for at in range(0, len(found), PIECE_BYTES):
            yield found[at : at + PIECE_BYTES]


def _told(exc: Exception, key: str) -> tuple[Exception, bool]:
    """Translate an error of obstore's; True if the same request may succeed the next time."""
    text = str(exc)
    status = int(found[1]) if (found := _STATUS.search(text)) else None
    code = found[1] if (found := _CODE.search(text)) else None
    if isinstance(exc, AlreadyExistsError):
        return ObjectExists(key), False
    if "/latest/api/token" in text:  # where a machine in AWS would learn its role
        return _refused("there are no credentials", "none found", "set storage.s3.access_key_id"), False
    if isinstance(exc, FileNotFoundError) and code != "NoSuchBucket":
        return ObjectMissing(key), False
    if status == 416:
        return OutsideRange("The range lies outside the object."), False
    if status == 501:
        error = NotConditional("The S3 storage does not know this request (501).")
        return error.mended_by("use a newer version of that server, or another one"), False
    if code in _REFUSALS:
        reason, remedy = _REFUSALS[code]
        return _refused(reason, code, remedy), False
    if status in {401, 403}:
        reason, remedy = _REFUSALS["AccessDenied"]
        return _refused(reason, str(status), remedy), False
    if "without LOCATION" in text:
        reason, remedy = _REGION
        return _refused(reason, "redirect", remedy), False
    if isinstance(exc, TimeoutError):
        return _unavailable("the server does not answer in time"), True
    if status is None:
        for sign, (reason, remedy) in _UNREACHED.items():
            if sign in text:
                return _unavailable(reason, remedy), "TLS" not in reason
        return _unavailable("the server can't be reached"), True
    if code in _CHECKSUMS:
        reason, remedy = _SUMS
        return _unavailable(f"{reason} ({code})", remedy), True
    may_pass = status >= 500 or status in {408, 429} or code in _PASSING
    return _unavailable(f"the server answers {status}{f' {code}' if code else ''}"), may_pass


def _refused(reason: str, code: str, remedy: str) -> StorageRefused:
    message = f"The S3 storage refuses us: {reason} ({code})."
    return StorageRefused(message, headers={"retry-after": "10"}).mended_by(remedy)


def _unavailable(reason: str, remedy: str = _ANYWHERE) -> StorageUnavailable:
    message = f"The S3 storage is away: {reason}."
    return StorageUnavailable(message, headers={"retry-after": "10"}).mended_by(remedy)
