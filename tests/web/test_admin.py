"""What admins do over HTTP: people and keys, limits and models, rotation, and the log of all that (R68, R75, R77)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import pytest

from pixie_proxy.records import new_id
from tests.support.proxy import ADMIN_KEY, MEMBER_KEY, OTHER_KEY, VIEWER_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json
from tests.web.browsing import sign_in
from tests.web.calling import GENERATIONS, context_of, error_of

USERS, KEYS, ACTS = "/v1/admin/users", "/v1/admin/keys", "/v1/admin/acts"


async def send(
    proxy: RunningProxy, method: str, path: str, body: Any = None, key: str = ADMIN_KEY
) -> tuple[int, dict[str, Any]]:
    status, _, answer = await proxy.request(method, path, json={} if body is None else body, key=key)
    return status, orjson.loads(answer)


async def done(proxy: RunningProxy, method: str, path: str, body: Any = None) -> dict[str, Any]:
    status, answer = await send(proxy, method, path, body)
    assert status == 200, answer
    return answer


async def refused(proxy: RunningProxy, method: str, path: str, body: Any, status: int) -> dict[str, Any]:
    got, answer = await send(proxy, method, path, body)
    assert got == status, answer
    return error_of(orjson.dumps(answer))


async def works(proxy: RunningProxy, key: str) -> bool:
    return (await proxy.request("GET", "/v1/me", key=key))[0] == 200


async def buys(proxy: RunningProxy, upstream: ScriptedUpstream, key: str, **fields: Any) -> tuple[int, Any]:
    upstream.script(image_json(1))
    status, _, body = await proxy.request("POST", GENERATIONS, json={"prompt": "a fox", **fields}, key=key)
    return status, orjson.loads(body)


async def test_a_user_from_first_key_to_last(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Added with limits, it works at once; shut out, nothing of it works; let in, its key does again."""
    made = await done(
        proxy, "POST", USERS, {"name": "fay", "limits": {"usd_per_month": 20, "images_per_day": None}}
    )
    key = made["first_key"]["key"]
    assert key.startswith("px-")
    assert made["own_limits"] == {"usd_per_month": 20.0, "images_per_day": None}
    assert made["role"] == "member"
    assert made["limits"] == (await proxy.get("/v1/me", key))["limits"]
    assert (await buys(proxy, upstream, key, model="gpt-image-2"))[0] == 200
    seen = await proxy.get(f"{USERS}/fay", ADMIN_KEY)
    assert seen == await proxy.get(f"{USERS}/{made['id']}", ADMIN_KEY)
    assert seen["spent_usd"] > 0
    assert seen["spent_usd"] == seen["spent_month_usd"] == seen["spent_today_usd"]
    assert "first_key" not in seen

    await done(proxy, "POST", f"{USERS}/fay", {"disabled": True})
    assert not await works(proxy, key)
    changed = await done(
        proxy,
        "POST",
        f"{USERS}/fay",
        {"disabled": False, "role": "viewer", "limits": {"images_per_day": "default"}},
    )
    assert changed["own_limits"] == {"usd_per_month": 20.0}
    assert await works(proxy, key)
    assert (await buys(proxy, upstream, key))[0] == 403


async def test_the_lists(proxy: RunningProxy) -> None:
    """Users and keys come page by page as every list; a key's text is in none of them."""
    made = [await done(proxy, "POST", USERS, {"name": f"fay{number}"}) for number in range(3)]
    ids = [user["id"] for user in made][::-1]
    page = await proxy.get(f"{USERS}?limit=2", ADMIN_KEY)
    assert ([user["id"] for user in page["data"]], page["has_more"]) == (ids[:2], True)
    page = await proxy.get(f"{USERS}?after={ids[1]}&limit=100", ADMIN_KEY)
    assert page["data"][0]["id"] == ids[2]
    assert {user["name"] for user in page["data"][1:]} == {"alice", "bob", "carol", "dan"}
    keys = await proxy.get(f"{KEYS}?user=fay1", ADMIN_KEY)
    assert [key["id"] for key in keys["data"]] == [made[1]["first_key"]["id"]]
    status, _, text = await proxy.request("GET", f"{KEYS}?limit=100", key=ADMIN_KEY)
    assert status == 200
    for user in made:
        assert user["first_key"]["key"].encode() not in text


async def test_a_rotated_key_is_the_same_key(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """Both texts work during the overlap and share one account; another rotation ends the older text at once."""
    made = await done(
        proxy, "POST", KEYS, {"user": "dan", "name": "bot", "limits": {"requests_per_minute": 2}}
    )
    await refused(proxy, "POST", f"{USERS}/dan", {"role": "member"}, 400)  # dan is declared
    first = made["key"]
    rotated = await done(proxy, "POST", f"{KEYS}/{made['id']}/rotate", {"overlap_s": 3600})
    second = rotated["key"]
    assert (rotated["id"], rotated["limits"]) == (made["id"], {"requests_per_minute": 2})
    assert 3590 <= rotated["old_text_until"] - time.time() <= 3600
    assert await works(proxy, first)
    assert await works(proxy, second)
    directory = context_of(proxy).directory
    assert directory.find(first).key_id == directory.find(second).key_id == made["id"]
    third = (await done(proxy, "POST", f"{KEYS}/{made['id']}/rotate", {"overlap_s": 0}))["key"]
    assert [await works(proxy, text) for text in (first, second, third)] == [False, False, True]
    assert await done(proxy, "DELETE", f"{KEYS}/{made['id']}") == {
        "id": made["id"], "object": "key", "revoked": True,
    }  # fmt: skip
    assert not await works(proxy, third)
    await refused(proxy, "DELETE", f"{KEYS}/{made['id']}", None, 404)
    await refused(proxy, "POST", f"{KEYS}/{made['id']}/rotate", {}, 404)


async def test_an_overlap_ends(proxy: RunningProxy) -> None:
    """The old text is good until the overlap is over, and not a moment longer."""
    made = await done(proxy, "POST", KEYS, {"user": "bob"})
    await done(proxy, "POST", f"{KEYS}/{made['id']}/rotate", {"overlap_s": 1})
    assert await works(proxy, made["key"])
    await asyncio.sleep(1.05)
    assert not await works(proxy, made["key"])


async def test_sessions_end_with_a_rotation(proxy: RunningProxy) -> None:
    """Who had signed in with the old text signs in again, overlap or not (R77)."""
    made = await done(proxy, "POST", KEYS, {"user": "bob"})
    browser, other = await sign_in(proxy, made["key"]), await sign_in(proxy, MEMBER_KEY)
    assert (await browser.get("/"))[0] == 200
    await done(proxy, "POST", f"{KEYS}/{made['id']}/rotate", {"overlap_s": 3600})
    assert (await browser.get("/"))[0] == 303
    assert (await other.get("/"))[0] == 200


async def test_a_key_for_some_models(proxy: RunningProxy, upstream: ScriptedUpstream) -> None:
    """It buys and lists those only; an empty list allows all again; nothing reaches the upstream otherwise."""
    made = await done(proxy, "POST", KEYS, {"user": "bob", "models": ["gpt-image-2"]})
    assert (await buys(proxy, upstream, made["key"], model="gpt-image-2"))[0] == 200
    asked = len(upstream.requests)
    status, body = await buys(proxy, upstream, made["key"], model="gpt-image-2.5-flare")
    assert (status, body["error"]["code"]) == (403, "model_not_allowed")
    assert len(upstream.requests) == asked
    listed = await proxy.get("/v1/models", made["key"])
    assert [model["id"] for model in listed["data"]] == ["gpt-image-2"]
    assert (await proxy.request("GET", "/v1/models/gpt-image-2.5-flare", key=made["key"]))[0] == 404
    assert (await proxy.request("GET", "/v1/models/gpt-image-2.5-flare", key=MEMBER_KEY))[0] == 200
    await done(proxy, "POST", f"{KEYS}/{made['id']}", {"models": []})
    assert (await buys(proxy, upstream, made["key"], model="gpt-image-2.5-flare"))[0] == 200


async def test_every_act_is_logged_with_who_did_it(proxy: RunningProxy) -> None:
    """Newest first, with what was changed from what to what; no text of a key is in it, and no refusal."""
    made = await done(proxy, "POST", USERS, {"name": "fay"})
    key = made["first_key"]
    await done(proxy, "POST", f"{USERS}/fay", {"role": "viewer", "limits": {"usd_per_day": 2}})
    await done(proxy, "POST", f"{USERS}/fay", {"role": "viewer"})  # changes nothing
    await done(proxy, "POST", f"{USERS}/fay", {"disabled": True})
    await refused(proxy, "POST", f"{USERS}/fay", {"role": "king"}, 400)
    text = (await done(proxy, "POST", f"{KEYS}/{key['id']}/rotate", {}))["key"]
    await done(proxy, "POST", f"{KEYS}/{key['id']}", {"limits": {"usd_total": 5}})
    await done(proxy, "DELETE", f"{KEYS}/{key['id']}")
    said = await proxy.get(f"{ACTS}?user=fay", ADMIN_KEY)
    assert [act["action"] for act in said["data"]][::-1] == [
        "user.add", "key.add", "user.change", "user.disable", "key.rotate", "key.change", "key.revoke",
    ]  # fmt: skip
    assert {(act["actor"], act["user"]) for act in said["data"]} == {("alice", "fay")}
    change = said["data"][4]["details"]
    assert change == {
        "role": {"from": "member", "to": "viewer"},
        "limits": {"from": {}, "to": {"usd_per_day": 2.0}},
    }
    written = orjson.dumps(said).decode()
    assert key["key"] not in written
    assert text not in written
    page = await proxy.get(f"{ACTS}?limit=2&after={said['data'][0]['id']}", ADMIN_KEY)
    assert [act["id"] for act in page["data"]] == [act["id"] for act in said["data"][1:3]]
    assert (await proxy.get(f"{ACTS}?action=key.revoke", ADMIN_KEY))["data"] == said["data"][:1]


async def test_nobody_locks_themselves_out(proxy: RunningProxy) -> None:
    """An admin neither demotes nor disables itself, and the last admin stays."""
    made = await done(proxy, "POST", USERS, {"name": "root", "role": "admin"})
    root = made["first_key"]["key"]
    for body in ({"role": "member"}, {"disabled": True}):
        status, answer = await send(proxy, "POST", f"{USERS}/root", body, root)
        assert (status, answer["error"]["code"]) == (403, "permission_denied")
    assert (await send(proxy, "POST", f"{USERS}/root", {"limits": {"usd_per_day": 1}}, root))[0] == 200
    assert (await send(proxy, "POST", f"{USERS}/root", {"role": "member"}))[0] == 200
    assert (await send(proxy, "GET", USERS, key=root))[0] == 403


BAD = [
    ("POST", USERS, {}, "name"),
    ("POST", USERS, {"name": "me"}, "name"),
    ("POST", USERS, {"name": "bob"}, "name"),
    ("POST", USERS, {"name": "x" * 65}, "name"),
    ("POST", USERS, {"name": "fay", "role": "king"}, "role"),
    ("POST", USERS, {"name": "fay", "id": "usr_x"}, "id"),
    ("POST", USERS, {"name": "fay", "limits": []}, "limits"),
    ("POST", USERS, {"name": "fay", "limits": {"usd": 1}}, "limits.usd"),
    ("POST", USERS, {"name": "fay", "limits": {"usd_per_day": -1}}, "limits.usd_per_day"),
    ("POST", USERS, {"name": "fay", "limits": {"usd_per_day": "1"}}, "limits.usd_per_day"),
    ("POST", USERS, {"name": "fay", "limits": {"images_per_day": 1.5}}, "limits.images_per_day"),
    ("POST", USERS, {"name": "fay", "limits": {"images_per_day": True}}, "limits.images_per_day"),
    ("POST", f"{USERS}/bob", {}, "role"),
    ("POST", f"{USERS}/bob", {"disabled": 1}, "disabled"),
    ("POST", f"{USERS}/bob", {"name": "rob"}, "name"),
    ("POST", KEYS, {}, "user"),
    ("POST", KEYS, {"user": "bob", "expires_in_s": 0}, "expires_in_s"),
    ("POST", KEYS, {"user": "bob", "expires_in_s": True}, "expires_in_s"),
    ("POST", KEYS, {"user": "bob", "models": "gpt-image-2"}, "models"),
    ("POST", KEYS, {"user": "bob", "key": "px-mine"}, "key"),
    ("GET", f"{USERS}?role=admin", None, "role"),
]


@pytest.mark.parametrize(("method", "path", "body", "param"), BAD)
async def test_bad_fields_are_named_and_change_nothing(
    proxy: RunningProxy, method: str, path: str, body: Any, param: str
) -> None:
    """400 with the field's name; users, keys and the log stay as they were."""
    before = [await proxy.get(f"{path}?limit=100", ADMIN_KEY) for path in (USERS, KEYS, ACTS)]
    fault = await refused(proxy, method, path, body, 400)
    assert fault["param"] == param
    assert [await proxy.get(f"{path}?limit=100", ADMIN_KEY) for path in (USERS, KEYS, ACTS)] == before


async def test_what_does_not_exist(proxy: RunningProxy) -> None:
    """404 for users and keys that nobody has, well-formed or not."""
    for path in (f"{USERS}/nobody", f"{USERS}/{new_id('usr')}", f"{USERS}/{new_id('img')}"):
        await refused(proxy, "GET", path, None, 404)
    for path in (f"{KEYS}/x", f"{KEYS}/{new_id('key')}"):
        await refused(proxy, "POST", path, {"limits": {}}, 404)
        await refused(proxy, "DELETE", path, None, 404)
    await refused(proxy, "POST", KEYS, {"user": "nobody"}, 404)


@pytest.mark.parametrize("key", [MEMBER_KEY, OTHER_KEY, VIEWER_KEY])
async def test_nobody_grants_anything_to_themselves(proxy: RunningProxy, key: str) -> None:
    """No route takes a role, a budget, an owner or a price from below: each write route refuses them (R75)."""
    own = await proxy.get("/v1/me", key)
    grants: dict[str, Any] = {
        "role": "admin",
        "limits": {"usd_per_month": None},
        "owner": "alice",
        "cost_usd": 0,
    }
    for method, path in (
        ("POST", f"{USERS}/{own['id']}"), ("POST", USERS), ("POST", KEYS), ("POST", "/v1/me"),
    ):  # fmt: skip
        status, answer = await send(proxy, method, path, grants, key)
        assert status in {403, 404, 405}, (path, answer)
    assert await proxy.get("/v1/me", key) == own
