"""POST /v1/images/generations through the official SDK."""

from __future__ import annotations

import base64

from tests.support.pictures import png
from tests.support.proxy import RunningProxy
from tests.support.upstream import ScriptedUpstream, image_json


async def test_an_sdk_gets_its_image_and_the_team_keeps_it(
    proxy: RunningProxy, upstream: ScriptedUpstream
) -> None:
    """What the upstream sent is what the SDK gets and what the storage holds."""
    picture = png(64, 64)
    upstream.script(*image_json([picture]))
    answer = await proxy.sdk().images.generate(model="gpt-image-2", prompt="a cat")
    assert base64.b64decode(answer.data[0].b64_json) == picture
    listed = await proxy.get("/v1/images")
    status, headers, body = await proxy.request("GET", f"/v1/images/{listed['data'][0]['id']}/content")
    assert (status, headers["Content-Type"], body) == (200, "image/png", picture)
