"""Somebody leaves, and the index is in PostgreSQL: nothing of them is in any file of the database (R89)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import pixie_here
from tests.support import outside
from tests.support.postgres import Server
from tests.support.proxy import OTHER_KEY, run_proxy
from tests.support.upstream import ScriptedUpstream, image_json

GENERATIONS = "/v1/images/generations"


async def test_nothing_of_a_deleted_user_stays_in_the_database(
    tmp_path: Path, upstream: ScriptedUpstream, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts, tags and the name are in no table, no index and no statistics; what others made is there."""
    data = tmp_path / "data"
    url = postgres.keep_index(data)
    monkeypatch.setenv("PIXIE_INDEX__URL", url)
    upstream.default(*image_json(1))
    leaver = (await pixie_here("user", "add", "xyloname", "--data", str(data))).out.strip()
    async with run_proxy(data, upstream.base_url) as proxy:
        for number in range(20):
            for key, word in ((leaver, "xylocarp"), (OTHER_KEY, "fox")):
                body = {"prompt": f"{word} {number} " * 20}
                outside.json_of(await proxy.request("POST", GENERATIONS, json=body, key=key))
        await outside.settled(data)
        for image in await outside.gallery(proxy):
            if image["owner"] == "xyloname":
                tags = {"tags": ["xylotag"]}
                outside.json_of(
                    await proxy.request("POST", f"/v1/images/{image['id']}", json=tags, key=leaver)
                )
    postgres.execute("ANALYZE; CHECKPOINT", url.rpartition("/")[2])
    assert postgres.files_with(b"xylocarp")
    ended = await pixie_here("user", "delete", "xyloname", "--yes", "--data", str(data))
    assert ended.code == 0, ended
    postgres.execute("CHECKPOINT")
    for word in ("xylocarp", "xylotag", "xyloname"):
        assert postgres.files_with(word.encode()) == []
    assert len(outside.rows(data, "SELECT id FROM images")) == 20
