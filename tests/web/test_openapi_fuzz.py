"""Everything that /openapi.json says is asked of the running proxy, and much that it rules out (schemathesis)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pixie_proxy.web.openapi.document import document
from pixie_proxy.web.openapi.making import MAKING
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import make
from tests.web.calling import context_of, ended

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    ignored_auth,
]
EXAMPLES = 200
POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


async def _real_things(proxy: RunningProxy) -> dict[str, dict[str, str]]:
    """Make one of everything that a path may name: what fills its holes, by the path's beginning."""

    async def made(path: str, **fields: str) -> Any:
        status, _, _ = await proxy.request("POST", path, key=ADMIN_KEY, json=fields)
        assert status in {200, 400}  # fay is there already

    (image_id,) = await make(proxy)
    image = await proxy.get(f"/v1/images/{image_id}")
    await made("/v1/admin/users", name="fay")
    await made("/v1/admin/keys", user="fay")
    keys = await proxy.get("/v1/admin/keys?user=fay&limit=1", ADMIN_KEY)
    return {
        "/v1/images/{": {"id": image_id},
        "/i/{": {"name": image["url"].rpartition("/")[2]},
        "/v1/requests/{": {"id": image["request_id"]},
        "/v1/models/{": {"model": "gpt-image-2"},
        "/v1/admin/users/{": {"user": "fay"},
        "/v1/admin/keys/{": {"key": keys["first_id"]},
    }


async def _ask_everything(
    proxy: RunningProxy, upstream: ScriptedUpstream, key: str, examples: int, *, seed: bool
) -> None:
    """Ask all operations for what they take and for what they do not, on real things and on none.

    What the description of a paid call rules out may reach the upstream: only its answers are looked at.
    """
    upstream.default(image_json())
    context = context_of(proxy)
    said = document(context.settings, proxy.url)
    for found in schemathesis.openapi.from_dict(said).get_all_operations():
        operation = found.ok()
        real = await _real_things(proxy)
        holes: list[dict[str, str]] = [
            *[filled for begin, filled in real.items() if operation.path.startswith(begin)],
            {},
        ]
        checks = CHECKS if operation.label in MAKING.operations else [*CHECKS, negative_data_rejection]
        statuses: list[int] = []
        for filled in holes:
            cases = partial(operation.as_strategy, path_parameters=filled)
            ask = partial(_ask, proxy.url, key, checks=checks, examples=examples, seed=seed)
            statuses += await asyncio.to_thread(ask, cases(generation_mode=POSITIVE))
            with suppress(Unsatisfiable):  # there is nothing that it does not take
                await asyncio.to_thread(ask, cases(generation_mode=NEGATIVE))
        if key == ADMIN_KEY:
            assert min(statuses) == 200, operation.label
    await ended(proxy)


def _ask(url: str, key: str, cases: Any, *, checks: list[Any], examples: int, seed: bool) -> list[int]:
    """Send so many requests, check their answers and give their statuses."""
    statuses: list[int] = []
    with requests.Session() as session:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=not seed,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases)
        def ask(case: schemathesis.Case) -> None:
            answer = case.call_and_validate(
                base_url=url,
                session=session,
                headers={"Authorization": f"Bearer {key}"},
                checks=checks,
                timeout=30,
            )
            statuses.append(answer.status_code)

        ask()
    return statuses


async def test_the_proxy_answers_as_it_describes_itself(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """A few requests of each kind for every operation: no fault, no status, type, header or field that is not named."""
    await _ask_everything(proxy, upstream, ADMIN_KEY, 2, seed=False)


@pytest.mark.torture
@pytest.mark.parametrize("key", [ADMIN_KEY, MEMBER_KEY, VIEWER_KEY], ids=["admin", "member", "viewer"])
async def test_the_proxy_answers_as_it_describes_itself_whatever_comes(
    proxy: RunningProxy, upstream: ScriptedUpstream, key: str
) -> None:
    """200 requests of each kind for every operation and role, other ones in each run."""
    await _ask_everything(proxy, upstream, key, EXAMPLES, seed=True)
