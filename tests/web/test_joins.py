"""Asked once is paid once: retries find the call that they repeat, and get the first answer again, byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from pixie_proxy.index import Tx
from pixie_proxy.spool.kept import KeptImage
from tests.support.figures import RecordFigure
from tests.support.pictures import png
from tests.support.proxy import MEMBER_KEY, OTHER_KEY, RunningProxy
from tests.support.upstream import (
    Exchange,
    ScriptedUpstream,
    body,
    cut,
    error_json,
    head,
    image_json,
    image_json_bytes,
    image_sse,
    image_sse_events,
    pause,
)
from tests.support.waiting import eventually
from tests.web.calling import (
    CAT,
    EDITS,
    GENERATIONS,
    account,
    context_of,
    dial,
    ended,
    error_of,
    files_of,
    form,
    http,
    kept,
    ledger_rows,
    listed,
    noted,
    raw_call,
    read_until,
)
from tests.web.conftest import ProxyWith

BIG = png(size_bytes=300_000)
STREAM = {**CAT, "stream": True, "partial_images": 2}
KEY = {"Idempotency-Key": "k-1"}
Leave = Callable[..., Awaitable[bytes]]


def retry(count: int) -> dict[str, str]:
    """What the SDKs tell of a try."""
    return {"x-stainless-retry-count": str(count)}


async def post(
    proxy: RunningProxy,
    fields: dict[str, Any] = CAT,
    headers: dict[str, str] | None = None,
    key: str = MEMBER_KEY,
) -> tuple[int, dict[str, str], bytes]:
    """Make a call; give status, headers in lower case, and body."""
    status, got, answer = await proxy.request(
        "POST", GENERATIONS, json=fields, headers=headers or {}, key=key
    )
    return status, {name.lower(): value for name, value in got.items()}, answer


async def lose(
    proxy: RunningProxy,
    upstream: ScriptedUpstream,
    fields: dict[str, Any] = CAT,
    headers: dict[str, str] | None = None,
    mark: bytes | None = None,
) -> bytes:
    """Make a call and leave with a reset: once the upstream has it, or once `mark` came. Gives what was read."""
    before, seen = len(upstream.requests), b""
    async with dial(proxy.url) as sock:
        sent = http(body=fields, headers={**retry(0), **(headers or {})})
        await asyncio.get_running_loop().sock_sendall(sock, sent)
        await upstream.wait_for_requests(before + 1)
        if mark is not None:
            seen = await read_until(sock, mark)
    await noted(proxy)
    return seen


async def deliveries(proxy: RunningProxy) -> list[dict[str, Any]]:
    index = context_of(proxy).index
    sql = "SELECT * FROM deliveries ORDER BY request_id"
    return [dict(row) for row in await index.read(lambda tx: tx.all(sql))]


def hasty(client: AsyncOpenAI) -> AsyncOpenAI:
    """Let an SDK come back as soon as it ever does, whatever `retry-after` says."""
    client._calculate_retry_timeout = lambda *_, **__: 0.4  # type: ignore[method-assign]
    return client


# --- The official SDK at its defaults ---------------------------------------------------------------------------------


async def test_an_sdk_that_times_out_pays_once(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Its own retries join the first try, which goes on; the caller ends with the image."""
    go = asyncio.Event()
    upstream.default(pause(go), *image_json([BIG]))
    call = asyncio.ensure_future(proxy.sdk(max_retries=2, timeout=1.0).images.generate(**CAT))
    await eventually(lambda: len(upstream.requests) == 1)
    await asyncio.sleep(1.2)
    go.set()
    assert files_of(await call) == [BIG]
    assert upstream.charged == 1
    assert await kept(proxy) == [BIG]


async def test_an_edit_that_times_out_pays_once(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Each try of a form has a new boundary: what it says is compared, not its bytes."""
    go = asyncio.Event()
    upstream.default(pause(go), *image_json([BIG]))
    client = proxy.sdk(max_retries=2, timeout=1.0)
    call = asyncio.ensure_future(
        client.images.edit(image=[("a.png", png(seed=1)), ("b.png", png(seed=2))], prompt="a hat")
    )
    await eventually(lambda: len(upstream.requests) == 1)
    await asyncio.sleep(1.2)
    go.set()
    assert files_of(await call) == [BIG]
    assert upstream.charged == 1
    assert not list(context_of(proxy).spool.uploads.iterdir())


async def test_a_stream_that_times_out_sees_every_event(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Also those that were gone before it came back."""
    go = asyncio.Event()
    events = image_sse_events([BIG], partials=2)
    upstream.script(
        pause(go),
        head(200, [("Content-Type", "text/event-stream")], "chunked"),
        *[body(event) for event in events],
    )
    call = asyncio.ensure_future(proxy.sdk(max_retries=2, timeout=1.0).images.generate(**STREAM))
    await eventually(lambda: len(upstream.requests) == 1)
    await asyncio.sleep(1.2)
    go.set()
    kinds = [event.type async for event in await call]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert upstream.charged == 1


async def test_a_call_that_the_upstream_refused_is_made_anew(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Eight equal calls, four of them refused upstream for the SDK to try again: eight pictures, none twice."""
    for seed in range(8):
        upstream.script(error_json(500) if seed % 2 else image_json([png(seed=seed)]))
    for seed in (1, 3, 5, 7):
        upstream.script(image_json([png(seed=seed)]))
    answers = await asyncio.gather(
        *[hasty(proxy.sdk(max_retries=2)).images.generate(**CAT) for _ in range(8)]
    )
    assert sorted(files_of(each)[0] for each in answers) == sorted(png(seed=seed) for seed in range(8))
    assert (upstream.charged, context_of(proxy).metrics.joins.value()) == (8, 0)


@pytest.mark.parametrize("kind", ["json", "form"])
async def test_equal_calls_that_we_refused_stay_as_many(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, kind: str
) -> None:
    """Twenty on purpose, eight at once allowed: the SDK's retries of the other twelve are new, each gets its own."""
    proxy = await proxy_with(limits={"concurrent_requests": 8})
    for seed in range(40):
        upstream.script(pause(0.15), *image_json([png(seed=seed)]))

    async def ask() -> bytes:
        images = hasty(proxy.sdk(max_retries=5)).images
        if kind == "json":
            return files_of(await images.generate(**CAT))[0]
        return files_of(await images.edit(image=("a.png", png()), prompt="a hat"))[0]

    answers = await asyncio.gather(*[ask() for _ in range(20)])
    assert len(set(answers)) == 20
    assert (upstream.charged, context_of(proxy).metrics.joins.value()) == (20, 0)
    assert (await account(proxy)).in_flight == 0


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.torture)])
async def test_deliberate_repeats_are_never_joined(
    proxy: RunningProxy, upstream: ScriptedUpstream, count: int, record_figure: RecordFigure
) -> None:
    """One after the other, each after the whole delivery of the one before."""
    client = proxy.sdk(max_retries=2)
    for _ in range(count):
        await client.images.generate(**CAT)
    assert (upstream.charged, context_of(proxy).metrics.joins.value()) == (count, 0)
    record_figure("R15", repeats=count, false_joins=0)


# --- What is given again ----------------------------------------------------------------------------------------------

ANSWERS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "small": (CAT, image_json(2)),
    "large": (CAT, image_json([BIG, png(seed=1)], escape_slashes=True)),
    "stream": (STREAM, image_sse([BIG, png(seed=1)], partials=2)),
    "links": ({**CAT, "response_format": "url"}, image_json([BIG])),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_an_answer_is_given_again_byte_for_byte(
    proxy: RunningProxy, upstream: ScriptedUpstream, kind: str
) -> None:
    """With its own request id and the upstream's, framed as it was, marked, and not one header fewer."""
    fields, script = ANSWERS[kind]
    upstream.default(*script)
    status, first, whole = await post(proxy, fields, KEY)
    before = await account(proxy)
    for headers in (KEY, {**KEY, **retry(1)}):
        again_status, again, repeated = await post(proxy, fields, headers)
        assert (again_status, repeated) == (status, whole)
        assert again.pop("idempotent-replayed") == "true"
        known = {
            "x-pixie-cost-usd": again.get("x-pixie-cost-usd")
        }  # to an answer that is given again it always is
        assert {**again, **known, "date": ""} == {**first, **known, "date": ""}
    assert first["x-upstream-request-id"] == "req_scripted"
    assert upstream.charged == 1
    assert await account(proxy) == before
    assert len(await ledger_rows(proxy)) == 1
    assert context_of(proxy).metrics.joins.value() == 2


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("mark", [None, b"\r\n\r\n"], ids=["waiting", "reading"])
async def test_a_lost_answer_is_found(
    proxy: RunningProxy, upstream: ScriptedUpstream, kind: str, mark: bytes | None
) -> None:
    """The client left while it waited, or in the middle; its retry gets what the first would have got."""
    fields, (first, *rest) = ANSWERS[kind]
    go = asyncio.Event()
    # A large body has begun for the client when its first half is through.
    has_begun = kind in {"large", "stream"} and mark is not None
    script = [first, *rest[:-1], *(_halves(rest[-1], go) if has_begun else [pause(go), rest[-1]])]
    upstream.script(*script)
    upstream.default(*error_json(400))
    seen = await lose(proxy, upstream, fields, mark=mark if has_begun else None)
    assert [row["left_us"] is not None for row in await deliveries(proxy)] == [True]
    again = asyncio.ensure_future(post(proxy, fields, retry(1)))
    go.set()
    status, headers, answer = await again
    assert (status, headers["idempotent-replayed"], upstream.charged) == (200, "true", 1)
    assert seen.partition(b"\r\n\r\n")[2][:200].partition(b"\r\n")[2][:100] in answer
    await noted(proxy)
    assert [row["retry_count"] for row in await deliveries(proxy)] == [1]
    (row,) = await ledger_rows(proxy)
    assert headers["x-request-id"] == row.call.id


def _halves(step: Any, go: asyncio.Event) -> list[Any]:
    half = len(step.data) // 2
    return [body(step.data[:half]), pause(go), body(step.data[half:])]


async def test_an_answer_with_its_partial_images_gone_does_without_them(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """They are kept for a quarter of an hour; the pictures stay."""
    fields, script = ANSWERS["stream"]
    upstream.default(*script)
    _, _, whole = await post(proxy, fields, KEY)
    partials = list(context_of(proxy).spool.root.glob("partials/*/*"))
    assert len(partials) == 4
    partials[0].unlink()
    _, _, again = await post(proxy, fields, KEY)
    events = image_sse_events([BIG, png(seed=1)], partials=2)
    assert whole == b"".join(events)
    assert again == events[2] + events[5]


@pytest.mark.parametrize("size", [1000, 2_000_000])
async def test_an_image_that_is_damaged_is_never_given_again(
    proxy: RunningProxy, upstream: ScriptedUpstream, size: int
) -> None:
    """The caller is told; nothing is bought."""
    upstream.default(*image_json([png(size_bytes=size)]))
    await post(proxy, CAT, KEY)
    await ended(proxy)
    (path,) = (proxy.data_dir / "storage").rglob("0.png")
    path.write_bytes(path.read_bytes()[:-1])
    status, _, answer = await post(proxy, CAT, KEY)
    assert (status, error_of(answer)["code"], upstream.charged) == (503, "storage_unavailable", 1)


async def test_an_image_that_vanishes_under_the_reader_breaks_the_answer(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has begun ends with a reset, never cleanly."""
    upstream.default(*image_json([png(size_bytes=2_000_000)]))
    await post(proxy, CAT, KEY)
    await ended(proxy)
    (path,) = (proxy.data_dir / "storage").rglob("0.png")
    kept_files = context_of(proxy).library._kept
    opened = kept_files.open

    async def open_and_cut(image: KeptImage) -> Any:
        file = await opened(image)
        path.write_bytes(path.read_bytes()[:1_500_000])
        return file

    monkeypatch.setattr(kept_files, "open", open_and_cut)
    answer = await raw_call(proxy.url, http(body=CAT, headers=KEY))
    assert (answer.status, answer.end) == (200, "rst")


# --- Waiting ----------------------------------------------------------------------------------------------------------


async def test_a_joined_stream_waits_with_comments(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins when it would be taken for dead, is silent but for comments, and then tells everything."""
    monkeypatch.setattr("pixie_proxy.generation.joining.HEADERS_WAIT_S", 0.05)
    monkeypatch.setattr("pixie_proxy.web.answers.KEEP_ALIVE_S", 0.05)
    go = asyncio.Event()
    upstream.script(pause(go), *image_sse([BIG], partials=1))
    await lose(proxy, upstream, STREAM)
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body=STREAM, headers=retry(1)))
        seen = await read_until(sock, b": keep-alive\n\n")
        assert b"text/event-stream" in seen
        go.set()
        seen += await read_until(sock, b"completed")
    assert upstream.charged == 1


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_joined_stream_whose_call_breaks_off_is_told(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """By a proper error, or inside the stream if it has begun; and then by a reset."""
    if is_late:
        monkeypatch.setattr("pixie_proxy.generation.joining.HEADERS_WAIT_S", 0.05)
        monkeypatch.setattr("pixie_proxy.web.answers.KEEP_ALIVE_S", 0.05)
    go = asyncio.Event()
    upstream.script(pause(go), cut("rst"))
    await lose(proxy, upstream, STREAM)
    async with dial(proxy.url) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, http(body=STREAM, headers=retry(1)))
        seen = await read_until(sock, b": keep-alive\n\n") if is_late else b""
        await eventually(lambda: _attached(proxy))
        go.set()
        seen += await read_until(sock, b"upstream_outcome_unknown")
        assert (b"event: error" in seen) == is_late
        assert seen.startswith(b"HTTP/1.1 200" if is_late else b"HTTP/1.1 502")


async def _attached(proxy: RunningProxy) -> bool:
    return [row["attached_to"] is not None for row in await deliveries(proxy)] == [True]


async def test_an_outcome_that_is_unknown_stays_unknown(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """The same 502 for the retry and under the key, naming the first request; nothing is sent again."""
    upstream.script(cut("rst"))
    status, first, answer = await post(proxy, CAT, {**KEY, **retry(0)})
    assert (status, first["x-should-retry"]) == (502, "false")
    again = await post(proxy, CAT, {**KEY, **retry(1)})
    assert (again[0], again[2], again[1]["x-should-retry"]) == (502, answer, "false")
    assert again[1]["x-request-id"] == first["x-request-id"]
    assert first["x-request-id"].encode() in answer
    go = asyncio.Event()
    upstream.script(pause(go), cut("rst"))
    await lose(proxy, upstream)
    retried = asyncio.ensure_future(post(proxy, CAT, retry(1)))
    await eventually(lambda: _attached(proxy))
    go.set()
    assert (await retried)[0] == 502
    assert len(upstream.requests) == 2
    assert {row.state for row in await ledger_rows(proxy)} == {"unknown"}


async def test_who_joined_a_call_that_failed_hears_why(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """With the upstream's own words; the next one asks anew."""
    go = asyncio.Event()
    upstream.script(pause(go), *error_json(400, code="moderation_blocked"))
    first = asyncio.ensure_future(post(proxy, CAT, KEY))
    await upstream.wait_for_requests(1)
    joiners = [asyncio.ensure_future(post(proxy, CAT, KEY)) for _ in range(3)]
    await asyncio.sleep(0.1)
    go.set()
    answers = await asyncio.gather(first, *joiners)
    assert {(status, body) for status, _, body in answers} == {(400, answers[0][2])}
    assert {headers["x-request-id"] for _, headers, _ in answers} == {answers[0][1]["x-request-id"]}
    assert (await post(proxy, CAT, KEY))[0] == 200
    assert len(upstream.requests) == 2


# --- Races and borders ------------------------------------------------------------------------------------------------


async def test_fifty_at_once_with_one_key_pay_once(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Fifty equal bodies, of which forty-nine are marked as given again."""
    upstream.default(pause(0.2), *image_json([BIG]))
    answers = await asyncio.gather(*[post(proxy, CAT, KEY) for _ in range(50)])
    assert {(status, hashlib.sha256(body).digest()) for status, _, body in answers} == {
        (200, hashlib.sha256(answers[0][2]).digest())
    }
    assert sum("idempotent-replayed" in headers for _, headers, _ in answers) == 49
    assert upstream.charged == 1
    assert not (await account(proxy)).in_flight


async def test_twenty_retries_of_one_lost_call(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """One of them takes it over, the others are calls of their own."""
    upstream.default(pause(0.1), *image_json([BIG]))
    await lose(proxy, upstream)
    answers = await asyncio.gather(*[post(proxy, CAT, retry(1)) for _ in range(20)])
    assert [status for status, _, _ in answers] == [200] * 20
    assert sum("idempotent-replayed" in headers for _, headers, _ in answers) == 1
    assert upstream.charged == 20


async def test_a_key_belongs_to_its_user_and_route(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Another user's call under the same key is a call of its own, and so is one on another route."""
    _, _, mine = await post(proxy, CAT, KEY)
    upstream.default(*image_json([png(seed=9)]))
    _, headers, theirs = await post(proxy, CAT, KEY, OTHER_KEY)
    assert "idempotent-replayed" not in headers
    assert theirs != mine
    sent = form(("prompt", b"a cat"), ("image", png(), "a.png"))
    kind = {"Content-Type": "multipart/form-data; boundary=xXx"}
    status, _, _ = await proxy.request("POST", EDITS, data=sent, headers={**kind, **KEY})
    assert (status, upstream.charged) == (200, 3)


CHANGES: list[dict[str, Any]] = [
    {"prompt": "a cat "},
    {"n": 2},
    {"model": "gpt-image-1"},
    {"size": "1024x1024"},
    {"quality": "low"},
    {"stream": True},
    {"partial_images": 1},
    {"response_format": "url"},
    {"background": "opaque"},
    {"user": "u"},
    {"anything_new": [1]},
]


async def test_a_key_is_for_one_request(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Every field of the body counts, in a form every byte of every image; 422, and nothing is sent."""
    await post(proxy, CAT, KEY)
    for change in CHANGES:
        status, _, answer = await post(proxy, {**CAT, **change}, KEY)
        assert (status, error_of(answer)["code"]) == (422, "idempotency_key_reused"), change
    kind = {"Content-Type": "multipart/form-data; boundary=xXx", **KEY}
    picture = png(size_bytes=3000)
    other = picture[:-1] + bytes([picture[-1] ^ 1])
    base = [("prompt", b"a hat"), ("image[]", picture, "a.png"), ("image[]", png(seed=1), "b.png")]
    variants: list[Any] = [
        [base[0], ("image[]", other, "a.png"), base[2]],
        [base[0], base[2], base[1]],
        [base[0], base[1]],
        [*base, ("mask", png(seed=2), "m.png")],
        [*base, ("input_fidelity", b"high")],
        [("prompt", b"a hat!"), *base[1:]],
    ]
    statuses = [
        (await proxy.request("POST", EDITS, data=form(*parts), headers=kind))[0]
        for parts in [base, base[1:] + base[:1], *variants]
    ]
    assert statuses == [200, 200, *[422] * len(variants)]
    assert upstream.charged == 2


async def test_a_key_whose_images_were_deleted_buys_nothing(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """404, not to be retried; after a restore the answer is back."""
    _, _, whole = await post(proxy, CAT, KEY)
    await ended(proxy)
    (image,) = await listed(proxy)
    await proxy.request("DELETE", f"/v1/images/{image['id']}")
    status, headers, answer = await post(proxy, CAT, KEY)
    assert (status, error_of(answer)["code"], headers["x-should-retry"]) == (404, "not_found", "false")
    await proxy.request("POST", f"/v1/images/{image['id']}/restore")
    assert (await post(proxy, CAT, KEY))[2] == whole
    assert upstream.charged == 1


async def test_no_limit_stands_in_the_way_of_a_join(
    proxy_with: ProxyWith, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the rate, not the slots, not a full disk, not a drain: nothing is taken."""
    proxy = await proxy_with(
        limits={"requests_per_minute": 1, "images_per_minute": 1, "concurrent_requests": 2}
    )
    go = asyncio.Event()
    upstream.script(pause(go), *image_json([BIG]))
    await lose(proxy, upstream)
    monkeypatch.setattr("pixie_proxy.spool.area.ROOM_FLOOR_BYTES", 1 << 60)
    again = asyncio.ensure_future(post(proxy, CAT, retry(1)))
    await eventually(lambda: _attached(proxy))
    context_of(proxy).generation.is_draining = True
    go.set()
    status, headers, _ = await again
    assert (status, headers["idempotent-replayed"]) == (200, "true")
    assert headers["x-ratelimit-remaining-requests"] == "0"
    await noted(proxy)
    assert (await post(proxy, CAT, retry(2)))[1]["idempotent-replayed"] == "true"
    status, _, answer = await post(proxy, {**CAT, "prompt": "new"}, retry(1))
    assert (status, error_of(answer)["code"]) == (503, "shutting_down")


async def test_a_client_that_leaves_while_it_is_admitted_is_known_to_have_left(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Whatever the instant: the call runs, no slot or room is lost, and the next one takes it over."""
    upstream.default(pause(0.05), *image_json([BIG]))
    for delay_s in [0, 0, 0.0005, 0.001, 0.002, 0.004, 0.008]:
        async with dial(proxy.url) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, http(body=CAT, headers=retry(0)))
            await asyncio.sleep(delay_s)
    await asyncio.sleep(0.05)
    await ended(proxy)
    await noted(proxy)
    taken = await account(proxy)
    assert (taken.in_flight, taken.held_micros, context_of(proxy).spool._images_under_way) == (0, 0, 0)
    assert context_of(proxy).generation._running == {}
    assert all(row["left_us"] is not None for row in await deliveries(proxy))
    assert upstream.charged == len(await ledger_rows(proxy))


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.torture)])
async def test_clients_that_leave_at_random_instants_pay_once(
    proxy: RunningProxy, upstream: ScriptedUpstream, count: int, record_figure: RecordFigure
) -> None:
    """Each comes back as soon as an SDK would, and ends with its own picture: as many charges as calls."""
    chance = random.Random(7)
    turns = asyncio.Semaphore(20)

    async def paint(exchange: Exchange) -> None:
        seed = int(exchange.request.json()["user"])
        answer = image_json_bytes([png(size_bytes=200_000, seed=seed)])
        await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        await exchange.write(b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(answer))
        for at in range(0, len(answer), 50_000):
            await asyncio.sleep(0.01)
            await exchange.write(answer[at : at + 50_000])

    async def ask(seed: int) -> None:
        fields = {**CAT, "user": str(seed)}
        async with turns:
            for tries in range(3):
                limit_s = chance.uniform(0, 0.12) if tries < 2 else 20
                try:
                    async with asyncio.timeout(limit_s):
                        status, _, answer = await post(proxy, fields, retry(tries))
                except TimeoutError:
                    await asyncio.sleep(0.4)
                    continue
                assert (status, answer) == (200, image_json_bytes([png(size_bytes=200_000, seed=seed)]))
                return

    upstream.default(paint)
    await asyncio.gather(*[ask(seed) for seed in range(count)])
    await ended(proxy)
    assert len({request.json()["user"] for request in upstream.requests}) == len(upstream.requests) == count
    assert not (await account(proxy)).in_flight
    record_figure(
        "R17", calls=count, charges=len(upstream.requests), joins=context_of(proxy).metrics.joins.value()
    )


async def test_an_upload_whose_client_leaves_is_swept(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Half a form leaves no file, no slot and no call."""
    sent = form(("prompt", b"a hat"), ("image", png(size_bytes=3_000_000), "a.png"))
    headers = {"Content-Type": "multipart/form-data; boundary=xXx", "Content-Length": str(len(sent))}
    uploads = context_of(proxy).spool.uploads
    for part in (len(sent) // 7, len(sent) // 2, len(sent) - 1):
        async with dial(proxy.url) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, http(EDITS, headers=headers) + sent[:part])
            await eventually(lambda: any(uploads.iterdir()))
        await eventually(lambda: not any(uploads.iterdir()))
    assert not context_of(proxy).uploads._reading
    assert not upstream.requests


async def test_a_change_is_finished_though_its_client_leaves(
    proxy: RunningProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Index and folder agree at once, as if it had stayed."""
    await post(proxy)
    await ended(proxy)
    (image,) = await listed(proxy)
    index, begun, go = context_of(proxy).index, asyncio.Event(), asyncio.Event()
    write = index.write

    async def slow_write(work: Callable[[Tx], Any]) -> Any:
        begun.set()
        await go.wait()
        return await write(work)

    monkeypatch.setattr(index, "write", slow_write)
    async with dial(proxy.url) as sock:
        sent = http(f"/v1/images/{image['id']}", {"visibility": "private"})
        await asyncio.get_running_loop().sock_sendall(sock, sent)
        await begun.wait()
    await asyncio.sleep(0.05)
    go.set()
    await eventually(lambda: any((proxy.data_dir / "storage").rglob("state.json")), 5)


async def test_ended_calls_leave_nothing_attached(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Served, refused, broken or unknown: each client was there and was told, and only a retry may ask again."""
    upstream.script(error_json(400))
    upstream.script(cut("rst"))
    upstream.script(head(200), body(b'{"data": [{"b64_json": "iVBOR' + b"A" * 99_999), cut("rst"))
    upstream.script(image_sse([BIG]))
    for fields in (CAT, CAT, CAT, STREAM, CAT):
        sent = http(body={**fields, "user": str(len(upstream.requests))}, headers=retry(0))
        await raw_call(proxy.url, sent)
    await noted(proxy)

    def refused(tx: Tx) -> int:
        return len(tx.all("SELECT * FROM refusals"))

    assert await context_of(proxy).index.read(refused) == 1
    assert [row["delivered_us"] is not None for row in await deliveries(proxy)] == [True] * 4


async def test_sdk_errors_name_the_request(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """An unknown outcome: the SDK sends once, and its error names the request in the ledger."""
    upstream.script(cut("rst"))
    with pytest.raises(openai.InternalServerError) as caught:
        await proxy.sdk(max_retries=2).images.generate(**CAT)
    (row,) = await ledger_rows(proxy)
    assert row.call.id in str(caught.value)
    assert len(upstream.requests) == 1


def test_answers_are_what_their_names_say() -> None:
    """The large answer is larger than what goes out in one piece."""
    assert len(image_json_bytes([BIG, png(seed=1)])) > 200_000
    assert len(json.dumps(CAT)) < 100
