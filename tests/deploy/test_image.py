"""The container image, built from the Dockerfile as it is and run as the README prints it: `make image-test`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import aiohttp
import openai
import pytest
from packaging.requirements import Requirement

from tests.support.container import ROOT, Container, Image, built_image
from tests.support.figures import RecordFigure
from tests.support.pictures import png
from tests.support.sockets import free_port
from tests.support.upstream import ScriptedUpstream, image_json, pause
from tests.web.calling import CAT, files_of

pytestmark = [pytest.mark.image, pytest.mark.torture]  # its figures are for docs/guarantees.md
OPERATOR_KEY = "sk-operator-secret-0123456789"
MOST_PACKAGES = 35
MOST_ADDED_BYTES = 150_000_000


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Build it once."""
    with built_image() as built:
        yield built


@pytest.fixture
def volume(image: Image) -> Iterator[Path]:
    with image.volume() as folder:
        yield folder


def environment(upstream: ScriptedUpstream, port: int) -> dict[str, str]:
    """What `docker run` is given. The port is ours, for there is no network of its own whose port could be mapped."""
    return {
        "OPENAI_API_KEY": OPERATOR_KEY,
        "PIXIE_UPSTREAM__BASE_URL": upstream.base_url,
        "PIXIE_SERVER__PORT": str(port),
    }


def pinned() -> dict[str, str]:
    """Give name and version of what requirements.txt pins for Linux."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = [Requirement(line.rstrip(" \\")) for line in lines if line[:1].isalnum()]
    return {
        _plain(each.name): str(each.specifier).removeprefix("==")
        for each in found
        if each.marker is None or each.marker.evaluate()
    }


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def site_packages(image: Image) -> Path:
    (found,) = (image.root / "app" / "lib").glob("python3*/site-packages")
    return found


def test_it_is_installed_by_hash_and_nothing_else_is(image: Image, record_figure: RecordFigure) -> None:
    """R90: built without a network; what requirements.txt pins and no more, without code that runs at every start."""
    packages = site_packages(image)
    installed = {_plain(each.name): each.version for each in distributions(path=[str(packages)])}
    wanted = pinned()
    del wanted["setuptools"]  # which built it, and is taken out again
    version = installed.pop("pixie_proxy")
    record_figure(
        "R90",
        packages=len(installed),
        image_mb=round(image.size_bytes / 1e6),
        image_without_its_base_mb=round((image.size_bytes - image.base_size_bytes) / 1e6),
    )
    assert installed == wanted
    assert version
    assert len(installed) <= MOST_PACKAGES
    assert list(packages.glob("*.pth")) == []
    assert image.size_bytes - image.base_size_bytes < MOST_ADDED_BYTES


def test_the_package_is_whole(image: Image) -> None:
    """Templates, styles, SQL, prices: every file of the checkout's package is in the image, and is compiled."""
    package = ROOT / "pixie_proxy"
    files = {
        path.relative_to(package) for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    there = site_packages(image) / "pixie_proxy"
    assert {path.suffix for path in files} >= {".html", ".css", ".sql", ".yaml", ".py"}
    assert [str(path) for path in sorted(files) if not (there / path).is_file()] == []
    assert len(list(there.rglob("*.pyc"))) >= len(list(package.rglob("*.py")))


def test_the_image_tells_an_engine_how_to_run_it(image: Image) -> None:
    """User, port, volume, signal and health check, as docs and compose.yaml rely on."""
    config = image.config
    assert (config["User"], config["WorkingDir"], config["StopSignal"]) == ("10001:10001", "/data", "SIGTERM")
    assert (list(config["ExposedPorts"]), list(config["Volumes"])) == (["8080/tcp"], ["/data"])
    assert config["Healthcheck"]["Test"] == ["CMD", "pixie", "health"]
    assert [each for each in config["Env"] if "KEY" in each or "pip" in each.lower()] == []


async def test_it_serves_drains_and_comes_back(
    image: Image, volume: Path, upstream: ScriptedUpstream, record_figure: RecordFigure
) -> None:
    """R91: as uid 10001, without a capability, on a read-only root, with a key of OpenAI's and nothing else."""
    port = free_port()
    given = environment(upstream, port)
    first, second, third = (png(size_bytes=200_000, seed=seed) for seed in (1, 2, 3))
    async with image.running(volume, given) as container:
        assert container.run(*image.config["Healthcheck"]["Test"][1:]).returncode == 0
        check_confinement(container)
        key = container.run("cat", "/data/admin.key").stdout.strip()
        async with sdk_for(port, key) as sdk:
            upstream.script(image_json([first]))
            assert files_of(await sdk.images.generate(**CAT)) == [first]
            go = asyncio.Event()
            upstream.script(pause(go), image_json([second]))
            call = asyncio.ensure_future(sdk.images.generate(**CAT))
            await upstream.wait_for_requests(2)
            stopping = asyncio.ensure_future(container.stop())
            await asyncio.sleep(0.2)
            assert not stopping.done(), "a paid call was not waited for"
            go.set()
            assert files_of(await call) == [second]
        code = await stopping
    assert code == 0
    async with image.running(volume, given) as container, sdk_for(port, key) as sdk:
        upstream.script(image_json([third]))
        assert files_of(await sdk.images.generate(**CAT)) == [third]
        assert await kept(port, key) == [third, second, first]
        assert await container.stop() == 0
    record_figure("R91", starts=2, drains=2)


def sdk_for(port: int, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0)


async def kept(port: int, key: str) -> list[bytes]:
    """Give the bytes of all images, newest first."""
    url, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(url, headers=headers, raise_for_status=True) as session:
        async with session.get("/v1/images?limit=100") as answer:
            listed = (await answer.json())["data"]
        found = []
        for image in listed:
            async with session.get(image["content_url"]) as answer:
                found.append(await answer.read())
        return found


def check_confinement(container: Container) -> None:
    """It may write to its volume and to /tmp, and nowhere else; and it has no more rights than any user."""
    script = (
        "for place in / /app /etc /usr /data /tmp; do touch $place/x 2>/dev/null && echo $place; done; id -u"
    )
    assert container.run("sh", "-c", script).stdout.split() == ["/data", "/tmp", "10001"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{container.first.pid}/status").read_text().splitlines()
    )
    assert {
        name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")
    } == dict.fromkeys(("CapEff", "CapPrm", "CapBnd", "CapInh"), 0)
    assert status["NoNewPrivs"] == "1"
