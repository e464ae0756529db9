"""/openapi.json: every address is in it, what it says of answers is so, and it is OpenAPI 3.1 (design, section 8)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import schemathesis

from pixie_proxy.config import Settings
from pixie_proxy.web.openapi.document import SUBJECTS, document, is_described
from pixie_proxy.web.routes import ROUTES
from tests.support.pictures import png, svg
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, error_json, image_json
from tests.web.browsing import make, sign_in
from tests.web.calling import CAT, EDITS, FORM_TYPE, GENERATIONS, error_of, form
from tests.web.describing import described
from tests.web.routing import path_of

DOCS = Path(__file__).parents[2] / "docs"


def test_every_address_for_programs_is_described() -> None:
    """All routes under /v1 and all others but pages; no entry is for an address that has gone."""
    wanted = {f"{route.method} {route.path}" for route in ROUTES if is_described(route)}
    entries = [address for subject in SUBJECTS for address in subject.operations]
    assert sorted(entries) == sorted(wanted)
    assert {address for address in wanted if " /v1/" not in address} == {
        "GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /i/{name}",
    }  # fmt: skip
    assert all(is_described(route) for route in ROUTES if route.path.startswith("/v1/"))


def test_the_page_and_the_document_name_the_same_addresses() -> None:
    """Each row of docs/api.md that is no page of the gallery's is in the document, and the other way round."""
    table = re.findall(r"^\| \[`([A-Z]+) (/[^`]*)`\]", (DOCS / "api.md").read_text(), re.MULTILINE)
    pages = {(route.method, route.path) for route in ROUTES if not is_described(route)}
    paths = document(Settings(), "http://x")["paths"]
    assert set(table) - pages == {(method.upper(), path) for path in paths for method in paths[path]}


def test_it_is_openapi() -> None:
    """The document keeps OpenAPI's own schema; ids of operations are unique, and each has its words."""
    said = document(Settings(), "http://x")
    schemathesis.openapi.from_dict(json.loads(json.dumps(said))).validate()
    operations = [each for methods in said["paths"].values() for each in methods.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    for operation in operations:
        assert operation["summary"]
        assert "\n\n" not in operation["description"]
        assert {"security", "parameters", "responses", "tags"} <= set(operation)
    holes = {name for path in said["paths"] for name in re.findall(r"\{(\w+)\}", path)}
    described_holes = {each["name"] for operation in operations for each in operation["parameters"]}
    assert holes <= described_holes


def test_every_reference_leads_somewhere() -> None:
    """And nothing is described that nobody refers to."""
    said = document(Settings(), "http://x")
    found = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(said)))
    assert found == set(said["components"]["schemas"])


async def test_it_is_for_admins_keys(proxy: RunningProxy) -> None:
    """Members, viewers and cookies get none of it; its links begin as those of images do; it is made once."""
    for key, status in ((None, 401), (MEMBER_KEY, 403), (VIEWER_KEY, 403), (ADMIN_KEY, 200)):
        assert (await proxy.request("GET", "/openapi.json", key=key))[0] == status
    browser = await sign_in(proxy, ADMIN_KEY)
    assert (await browser.get("/openapi.json"))[0] == 401
    status, headers, body = await proxy.request("GET", "/openapi.json", key=ADMIN_KEY)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert orjson.loads(body)["servers"] == [{"url": proxy.url}]
    assert (await proxy.request("GET", "/openapi.json", key=ADMIN_KEY))[2] == body
    for secret in (ADMIN_KEY, str(proxy.data_dir), "sk-"):
        assert secret.encode() not in body


def test_a_start_does_not_wait_for_it() -> None:
    """What describes the routes is loaded when it is asked for."""
    asked = "import sys, pixie_proxy.app; print('pixie_proxy.web.openapi.document' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


async def test_answers_are_as_they_are_described(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """One good answer of every operation, from real things: all fields are named, and there is no other."""
    tour = await described(proxy)
    upstream.default(image_json())
    (image_id,) = await make(proxy)
    upstream.script(*image_json([svg()]))
    (drawn_id,) = await make(proxy)
    seen: set[str] = set()

    async def see(address: str, path: str, key: str = ADMIN_KEY, status: int = 200, **options: Any) -> Any:
        method = address.split(maxsplit=1)[0]
        got, headers, body = await proxy.request(method, path, key=key, **options)
        assert got == status, body
        said = orjson.loads(body) if headers["Content-Type"] == "application/json" else body
        tour.check(address, status, headers["Content-Type"], said)
        seen.add(address)
        return said

    fields: dict[str, Any] = {**CAT, "size": "1024x1024", "quality": "low"}
    await see("POST /v1/images/generations", GENERATIONS, json=fields)
    await see("POST /v1/images/generations", GENERATIONS, json={**fields, "stream": True})
    parts = form(("prompt", b"a cat"), ("image", png(), "a.png"))
    await see("POST /v1/images/edits", EDITS, data=parts, headers=FORM_TYPE)
    await see(
        "POST /v1/images/variations",
        "/v1/images/variations",
        data=form(("image", png(), "a.png")),
        headers=FORM_TYPE,
    )
    for asked in (fields, CAT, {**CAT, "model": "nobody-knows-it"}):
        await see("POST /v1/images/estimate", "/v1/images/estimate", json=asked)
    for model in (await see("GET /v1/models", "/v1/models"))["data"]:
        await see("GET /v1/models/{model}", f"/v1/models/{model['id']}")
    image = f"/v1/images/{image_id}"
    await see("GET /v1/images", "/v1/images", MEMBER_KEY)
    await see("GET /v1/images/{id}", image)
    await see("GET /v1/images/{id}", image, VIEWER_KEY)
    await see("GET /v1/images/{id}/content", f"{image}/content?download=true")
    await see("GET /v1/images/{id}/content", f"{image}/content", status=206, headers={"Range": "bytes=0-7"})
    await see("GET /v1/images/{id}/thumbnail", f"{image}/thumbnail?size=512")
    await see("GET /v1/images/{id}/thumbnail", f"/v1/images/{drawn_id}/thumbnail")
    link = (await see("POST /v1/images/{id}", image, json={"visibility": "team"}))["url"]
    await see("GET /i/{name}", link.removeprefix(proxy.url), key="")
    await see("DELETE /v1/images/{id}", image)
    await see("GET /v1/images", "/v1/images?deleted=true")
    await see("POST /v1/images/{id}/restore", f"{image}/restore")
    await see("POST /v1/images/{id}/favorite", f"{image}/favorite")
    await see("DELETE /v1/images/{id}/favorite", f"{image}/favorite")
    bulk = {"ids": [image.rpartition("/")[2], "img_x"], "action": "tag", "tags": ["fox"]}
    await see("POST /v1/images/bulk", "/v1/images/bulk", json=bulk)
    await see("GET /v1/images/export", "/v1/images/export?tag=fox")
    await see("GET /v1/images/export", f"/v1/images/export?ids={bulk['ids'][0]}")
    collection = await see("POST /v1/collections", "/v1/collections", json={"name": "Foxes"})
    path = f"/v1/collections/{collection['id']}"
    await see("GET /v1/collections/{collection}", path)
    await see("POST /v1/collections/{collection}", path, json={"visibility": "team"})
    await see("POST /v1/collections/{collection}/images", f"{path}/images", json={"add": bulk["ids"]})
    await see("GET /v1/collections", f"/v1/collections?owner=me&image={image_id}")
    await see("GET /v1/images", f"/v1/images?collection={collection['id']}")
    await see("DELETE /v1/collections/{collection}", path)
    share = await see("POST /v1/images/{id}/shares", f"{image}/shares", json={"expires_in_s": 60})
    await see("GET /v1/images/{id}/shares", f"{image}/shares")
    await see("DELETE /v1/images/{id}/shares/{share}", f"{image}/shares/{share['id']}")

    made = await see(
        "POST /v1/admin/users",
        "/v1/admin/users",
        json={"name": "fay", "limits": {"usd_per_month": 20, "images_per_day": None}},
    )
    for limits in ({"usd_per_month": "default"}, {"usd_total": 5}):
        await see("POST /v1/admin/users/{user}", "/v1/admin/users/fay", json={"limits": limits})
    await see("GET /v1/admin/users/{user}", "/v1/admin/users/fay")
    await see("GET /v1/admin/users", "/v1/admin/users")
    key = await see(
        "POST /v1/admin/keys",
        "/v1/admin/keys",
        json={"user": "fay", "expires_in_s": 60, "models": ["gpt-image-2"], "limits": {"usd_per_day": 2}},
    )
    path = f"/v1/admin/keys/{key['id']}"
    await see("POST /v1/admin/keys/{key}", path, json={"models": []})
    await see("POST /v1/images/generations", GENERATIONS, key["key"], json=fields)
    await see("POST /v1/admin/keys/{key}/rotate", f"{path}/rotate", json={"overlap_s": 60})
    await see("GET /v1/credits/balance", "/v1/credits/balance", key["key"])
    await see("DELETE /v1/admin/keys/{key}", path)
    await see("GET /v1/admin/keys", "/v1/admin/keys")
    await see("GET /v1/admin/acts", "/v1/admin/acts")
    await see("POST /v1/admin/users", "/v1/admin/users", json={"name": "eve"})
    await see("DELETE /v1/admin/users/{user}", "/v1/admin/users/eve?confirm=eve")

    first = made["first_key"]["key"]
    await see("GET /v1/me", "/v1/me", first)
    await see("GET /v1/credits/balance", "/v1/credits/balance", first)
    upstream.script(*error_json(400, code="moderation_blocked"))
    await proxy.request("POST", GENERATIONS, json=fields)
    for call in (await see("GET /v1/requests", "/v1/requests"))["data"]:
        await see("GET /v1/requests/{id}", f"/v1/requests/{call['id']}")
    for by in ("user", "key", "model", "day"):
        assert (await see("GET /v1/usage", f"/v1/usage?by={by}"))["data"]
        await see("GET /v1/usage", f"/v1/usage?by={by}&format=csv")
    for address in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        await see(f"GET {address}", address)
    assert seen == set(tour.operations())


async def test_refusals_are_as_they_are_described(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Without a key, with a viewer's, and with a body that is none: a status and a code that the document names."""
    tour = await described(proxy)
    for route in ROUTES:
        if not is_described(route):
            continue
        address = f"{route.method} {route.path}"
        for key in (None, VIEWER_KEY, ADMIN_KEY):
            status, headers, body = await proxy.request(
                route.method, path_of(route.path), key=key, data=b"x", allow_redirects=False
            )
            if status >= 400 and address != "GET /readyz":
                tour.check(address, status, headers["Content-Type"], orjson.loads(body))
                error_of(body)
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("setting", "name"), [(None, "pixie"), ("https://pixie.example", "__Host-pixie")], ids=["http", "https"]
)
def test_it_follows_the_settings(setting: str | None, name: str) -> None:
    """The name of the cookie and the sizes of thumbnails are those of this proxy."""
    settings = Settings.model_validate(
        {"server": {"public_url": setting}, "gallery": {"thumbnail_px": [100, 300]}}
    )
    said = document(settings, "http://x")
    assert said["components"]["securitySchemes"]["session"]["name"] == name
    parameters = said["paths"]["/v1/images/{id}/thumbnail"]["get"]["parameters"]
    assert parameters[-1]["schema"]["enum"] == [100, 300]
