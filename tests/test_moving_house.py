"""docs/moving.md, run as it is printed: a team's images on their way to S3 and back, and none is lost.

`systemctl` starts and stops a real `pixie serve`, and the page's paths lie below a folder of ours. All else is as it
stands there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.cli.running import environment
from tests.support.figures import RecordFigure
from tests.support.proxy import ADMIN_KEY, UPSTREAM_KEY
from tests.support.s3_servers import S3Server
from tests.support.studio import Studio
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("ceph")

PAGE = Path(__file__).parents[1] / "docs" / "moving.md"
PRINTED_S3 = "https://s3.example.com"

_SYSTEMCTL = """#!/bin/sh
set -e
case "$1" in
start)
    set -a; . {root}/etc/pixie/env; set +a
    : > {root}/log
    pixie serve --config {root}/etc/pixie/config.yaml 2>> {root}/log > /dev/null &
    echo $! > {root}/pid
    until grep -q "serves http" {root}/log; do kill -0 $(cat {root}/pid); sleep 0.1; done ;;
stop)
    kill -TERM $(cat {root}/pid)
    while kill -0 $(cat {root}/pid) 2> /dev/null; do sleep 0.05; done ;;
esac
"""


@dataclass(slots=True, kw_only=True)
class Team:
    """A service, and what its people have: the SHA-256 of each image by its id, and a link to each."""

    root: Path
    session: aiohttp.ClientSession
    key: str = ADMIN_KEY
    anna: str = ""
    """The key of a member, who asks for the images."""
    images: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it serves since its last start."""
        found: list[str] = re.findall(r"serves (http\S+)/v1", (self.root / "log").read_text())
        return found[-1]

    async def run(self, script: str) -> str:
        """Run commands as the page's shell does."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", script,
            cwd=self.root, env=environment(PATH=f"{self.root}/bin:{os.environ['PATH']}"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 120)
        log = self.root / "log"
        assert process.returncode == 0, f"{script}\n{out.decode()}\n{err.decode()}\n{log.read_text()[-3000:]}"
        return out.decode()

    async def ask(self, method: str, path: str, key: str | None = None, **options: Any) -> Any:
        """Call the service, as an admin unless another key is given."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        async with self.session.request(method, self.url + path, headers=headers, **options) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def is_known(self, key: str) -> bool:
        """Tell whether the service knows a key."""
        headers = {"Authorization": f"Bearer {key}"}
        async with self.session.get(f"{self.url}/v1/me", headers=headers) as answer:
            return answer.status == 200

    async def work(self, studio: Studio) -> None:
        """Make some images, and change one."""
        order = {"prompt": f"fox {len(self.images)}", "n": 2}
        await self.ask("POST", "/v1/images/generations", key=self.anna, json=order)
        sold = {sha256 for sale in studio.sales for sha256 in sale.images}
        self.images = {image["id"]: image["sha256"] for image in await self.gallery()}
        assert set(self.images.values()) == sold
        newest = max(self.images)
        await self.ask("POST", f"/v1/images/{newest}", json={"visibility": "private"})
        await self.note_links()

    async def note_links(self) -> None:
        """Take down the link to each image."""
        found = {name: (await self.ask("GET", f"/v1/images/{name}"))["url"] for name in self.images}
        self.links = {name: url.rpartition("/")[2] for name, url in found.items()}

    async def gallery(self) -> list[dict[str, Any]]:
        """List all images."""
        found: list[dict[str, Any]] = (await self.ask("GET", "/v1/images?limit=100"))["data"]
        return found

    async def check(self) -> None:
        """Find every image in the gallery and behind its link, byte for byte."""
        assert {image["id"]: image["sha256"] for image in await self.gallery()} == self.images
        for name, link in self.links.items():
            async with self.session.get(f"{self.url}/i/{link}") as answer:
                assert (answer.status, hashlib.sha256(await answer.read()).hexdigest()) == (
                    200,
                    self.images[name],
                )


@pytest.fixture
async def team(tmp_path: Path, ceph: S3Server, studio: Studio) -> AsyncIterator[Team]:
    """Install the service, with its bucket and its secrets, and start it."""
    for folder in ("etc/pixie", "var/lib", "srv", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    (settings,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    ceph.call("PUT", "/pictures")
    config = _here(settings, tmp_path).replace(PRINTED_S3, ceph.url)
    (tmp_path / "etc/pixie/config.yaml").write_text(config)
    secrets = {
        "S3_ACCESS_KEY_ID": ceph.access_key,
        "S3_SECRET_ACCESS_KEY": ceph.secret_key,
        "OPENAI_API_KEY": UPSTREAM_KEY,
        "PIXIE_UPSTREAM__BASE_URL": studio.base_url,
        "PIXIE_SERVER__PORT": "0",
        "PIXIE_ADMIN_KEY": ADMIN_KEY,
    }
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in secrets.items()]
    (tmp_path / "etc/pixie/env").write_text("".join(lines))
    for name, text in {
        "systemctl": _SYSTEMCTL.format(root=tmp_path),
        "pixie": f'#!/bin/sh\nexec {sys.executable} -m pixie_proxy "$@"\n',
    }.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    async with aiohttp.ClientSession() as session:
        team = Team(root=tmp_path, session=session)
        await team.run("systemctl start pixie")
        try:
            yield team
        finally:
            with suppress(ProcessLookupError):
                os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    """Paint pictures that are all different."""
    async with Studio(seed=11) as studio:
        yield studio


async def test_a_move_to_s3_and_back_loses_nothing(team: Team, studio: Studio) -> None:
    """The first two sections: what was made before, during and after is in the gallery and behind its links."""
    await follow(team, studio, ["From the disk to S3", "From S3 to a disk"])


@pytest.mark.torture
async def test_the_whole_page_loses_nothing(team: Team, studio: Studio, record_figure: RecordFigure) -> None:
    """All sections one after the other: to S3, back, backup, restore, upgrade, and a lost index."""
    sections = list(_sections(team))
    await follow(team, studio, sections)
    record_figure("R102", sections=len(sections), images=len(team.images), violations=0)


async def follow(team: Team, studio: Studio, titles: list[str]) -> None:
    """Do as the page says, section by section, and compare every image after each."""
    team.anna = (await team.run(f"{_prelude(team)}\npixie user add anna")).strip()
    await eventually(partial(team.is_known, team.anna))  # the server follows
    for title in titles:
        blocks = _sections(team)[title]
        await team.work(studio)
        said = ""
        for number, block in enumerate(blocks):
            said = await team.run(f"{_prelude(team)}\n{block}")
            if number == 0 and len(blocks) > 1 and "systemctl" not in block:
                await team.work(studio)  # the server goes on between the first step and the stop
        if title == "Lose the index":
            team.key = re.findall(r"^px-\S+$", said, re.MULTILINE)[0]
            await team.note_links()
        await team.check()


def _prelude(team: Team) -> str:
    """The shell that the page sets up."""
    return _blocks(PAGE.read_text().partition("\n## ")[0], team.root)[0].strip()


def _sections(team: Team) -> dict[str, list[str]]:
    """The bash blocks below each heading."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {title: _blocks(text, team.root) for title, text in zip(parts[::2], parts[1::2], strict=True)}
    return {title: blocks for title, blocks in found.items() if blocks}


def _blocks(text: str, root: Path) -> list[str]:
    return [
        _here(block, root) for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def _here(text: str, root: Path) -> str:
    """Let the paths of the page lie below a folder."""
    return re.sub(r"(?<![\w./])/(etc|srv|var)/", rf"{root}/\1/", text)
