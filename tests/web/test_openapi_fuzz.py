"""Everything that /openapi.json says is asked of the running proxy, and much that it rules out (schemathesis)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok
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

pytestmark = pytest.mark.system

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


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks a running proxy with one key, and holds its answers to its description."""

    proxy: RunningProxy
    key: str

    async def operations(self) -> AsyncIterator[tuple[Any, dict[str, str]]]:
        """Give each operation, with what fills the holes of its path so that it finds something."""
        said = document(context_of(self.proxy).settings, self.proxy.url)
        for found in schemathesis.openapi.from_dict(said).get_all_operations():
            assert isinstance(found, Ok)
            operation, real = found.ok(), await _real_things(self.proxy)
            yield operation, next((real[begin] for begin in real if operation.path.startswith(begin)), {})
        await ended(self.proxy)

    def ask(
        self, operation: Any, mode: Any, holes: Mapping[str, str], examples: int, *, seed: bool
    ) -> list[int]:
        """Send so many requests that fit, or do not, and give the statuses of their answers."""
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
            @given(case=operation.as_strategy(generation_mode=mode, path_parameters=holes))
            def send(case: schemathesis.Case) -> None:
                statuses.append(self.send(case, session))

            with suppress(
                *([Unsatisfiable] if mode.is_negative else [])
            ):  # there is nothing that it does not take
                send()
        return statuses

    def ask_borders(self, operation: Any, holes: Mapping[str, str]) -> None:
        """Send what is just fitting and just not: each limit of each parameter, and each one left out."""
        schema = operation.schema
        said = schema.config.generation_for(operation=operation)
        modes = [POSITIVE, NEGATIVE]
        with requests.Session() as session:
            for case in schema.iter_coverage_cases(operation, generation_modes=modes, generation_config=said):
                if holes and not case.meta.is_negative_at(ParameterLocation.PATH):
                    case.path_parameters = dict(holes)
                self.send(case, session)

    def send(self, case: schemathesis.Case, session: requests.Session) -> int:
        """Send one request. What the description of a paid call rules out may be the upstream's to judge."""
        is_paid = case.operation.label in MAKING.operations
        answer = case.call_and_validate(
            base_url=self.proxy.url,
            session=session,
            headers={"Authorization": f"Bearer {self.key}"},
            checks=CHECKS if is_paid else [*CHECKS, negative_data_rejection],
            timeout=30,
        )
        return answer.status_code


async def _ask_everything(asker: Asker, examples: int, *, seed: bool) -> None:
    """Ask all operations for what they take and for what they do not, on real things and on none."""
    async for operation, holes in asker.operations():
        statuses: list[int] = []
        for filled in (holes, {}) if holes else ({},):
            for mode in (POSITIVE, NEGATIVE):
                statuses += await asyncio.to_thread(asker.ask, operation, mode, filled, examples, seed=seed)
        if asker.key == ADMIN_KEY:
            assert {200, 404} & {*statuses}, f"{operation.label} was never heard"


async def test_the_proxy_answers_as_it_describes_itself(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """A few requests of each kind for every operation: no fault, no status, type, header or field that is not named."""
    upstream.default(image_json())
    await _ask_everything(Asker(proxy, ADMIN_KEY), 2, seed=False)


@pytest.mark.torture
@pytest.mark.parametrize("key", [ADMIN_KEY, MEMBER_KEY, VIEWER_KEY], ids=["admin", "member", "viewer"])
async def test_the_proxy_answers_as_it_describes_itself_whatever_comes(
    proxy: RunningProxy, upstream: ScriptedUpstream, key: str
) -> None:
    """200 requests of each kind for every operation and role, other ones in each run."""
    upstream.default(image_json())
    await _ask_everything(Asker(proxy, key), EXAMPLES, seed=True)


@pytest.mark.torture
async def test_the_borders_are_where_they_are_described(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """Each limit of each parameter and field from both sides, other methods, and bodies of other types."""
    upstream.default(image_json())
    asker = Asker(proxy, ADMIN_KEY)
    async for operation, holes in asker.operations():
        await asyncio.to_thread(asker.ask_borders, operation, holes)
