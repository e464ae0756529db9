"""/healthz and /readyz: what a load balancer asks."""

from __future__ import annotations

import json

import pytest

from tests.support.proxy import RunningProxy
from tests.support.upstream import ScriptedUpstream
from tests.web.calling import context_of


async def test_healthz_answers_while_the_process_lives(proxy: RunningProxy) -> None:
    """Also in a drain: a process that finishes its calls is not to be killed."""
    for is_draining in (False, True):
        context_of(proxy).generation.is_draining = is_draining
        status, _, body = await proxy.request("GET", "/healthz", key=None)
        assert (status, json.loads(body)) == (200, {"status": "ok"})


async def test_readyz_says_whether_paid_calls_are_taken(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """It asks the index and the disk, not the upstream, whose trouble is no reason to be taken out."""
    assert await proxy.get("/readyz", None) == {"status": "ready"}
    assert upstream.requests == []


async def test_readyz_names_the_reason(proxy: RunningProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 while it drains, when the disk is full, and when the index is away."""
    context = context_of(proxy)

    async def reason() -> str:
        status, _, body = await proxy.request("GET", "/readyz", key=None)
        told = json.loads(body)
        assert (status, told["status"], bool(told["message"])) == (503, "not_ready", True)
        return str(told["reason"])

    context.generation.is_draining = True
    assert await reason() == "shutting_down"
    context.generation.is_draining = False
    with monkeypatch.context() as patch:
        patch.setattr("pixie_proxy.spool.area._free_bytes", lambda _: 0)
        patch.setattr("pixie_proxy.spool.area._FREE_MAX_AGE_S", -1)
        assert await reason() == "storage_full"
    context.spool._free_read_at = float("-inf")
    await context.index.close()
    assert await reason() == "index_unavailable"
