"""The container image without an engine: built by buildah on a stand-in base, run in namespaces of its own. Root only.

    with built_image() as image, image.volume() as volume:
        async with image.running(volume, {"OPENAI_API_KEY": "sk-…"}) as container:
            container.run("cat", "/data/admin.key")

No base image can be pulled where there is no registry, so Debian's packages stand in for it. The Dockerfile is built as
it is and without a network: what pip installs was downloaded before, as this machine is used to, and is known by its
hash. What runs is what the image's configuration says: its user, environment, command, signal and health check.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import require
from tests.support.mounts import may_mount
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
NAME = "pixie_proxy"
_PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
_PIP_CONF = "[global]\nno-index = true\nfind-links = /wheels\n"
_NAMESPACES = ("--mount", "--pid", "--ipc", "--uts")
_PRIVILEGES = ("--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
# Of the root that "$1" is: all read-only, but for the volume "$2" and what a container has of its own.
_ENTER = """
mount --bind "$1" "$1"
mount --bind "$2" "$1/data"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
mount -o remount,bind,ro "$1"
root=$1; shift 2
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A running container. `process` is unshare's, whose exit code is that of the container's first process."""

    image: Image
    environment: Mapping[str, str]
    process: asyncio.subprocess.Process
    log: list[str] = field(default_factory=list)

    @property
    def first(self) -> psutil.Process:
        """The process that has number 1 inside."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as `docker exec` does."""
        enter = ["nsenter", f"--target={self.first.pid}", "--root", *_NAMESPACES]
        return subprocess.run(
            [*enter, *self.image.command(self.environment, *command)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    async def stop(self) -> int:
        """Send the image's stop signal to the first process, as `docker stop` does; give the exit code."""
        stop = signal.Signals[self.image.config["StopSignal"]]
        self.first.send_signal(stop)
        return await asyncio.wait_for(self.process.wait(), 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A built image, its files at `root`. `config` is what Docker knows of it."""

    root: Path
    config: Mapping[str, Any]
    size_bytes: int
    base_size_bytes: int

    def command(self, environment: Mapping[str, str], *command: str) -> list[str]:
        """Give what runs a command inside as the image's user, without any privilege."""
        uid, _, gid = self.config["User"].partition(":")
        variables = [*self.config["Env"], *[f"{name}={value}" for name, value in environment.items()]]
        return [
            *("setpriv", f"--reuid={uid}", f"--regid={gid}", *_PRIVILEGES),
            *("env", "--ignore-environment", f"--chdir={self.config['WorkingDir']}", *variables),
            *command,
        ]

    @contextmanager
    def volume(self) -> Iterator[Path]:
        """Make a new volume for /data; like an engine, with the owner and the mode that the image has there."""
        there = (self.root / "data").stat()
        with tempfile.TemporaryDirectory(prefix="pixie-volume-") as folder:
            volume = Path(folder, "data")
            volume.mkdir(mode=there.st_mode & 0o777)
            os.chown(volume, there.st_uid, there.st_gid)
            yield volume

    @asynccontextmanager
    async def running(self, volume: Path, environment: Mapping[str, str]) -> AsyncIterator[Container]:
        """Start the image's own command and wait until it serves; kill it at the end."""
        inside = self.command(environment, *self.config["Entrypoint"], *self.config["Cmd"])
        process = await asyncio.create_subprocess_exec(
            *("unshare", *_NAMESPACES, "--fork", "--kill-child"),
            *("sh", "-euc", _ENTER, "sh", str(self.root), str(volume), *inside),
            stderr=asyncio.subprocess.PIPE,
        )
        container = Container(image=self, environment=environment, process=process)
        reading = asyncio.create_task(_read_log(container))
        try:
            await eventually(lambda: reading.done() or any(" serves " in line for line in container.log), 30)
            assert not reading.done(), "".join(container.log)
            yield container
        finally:
            if process.returncode is None:
                process.kill()
            await reading
            await process.wait()


async def _read_log(container: Container) -> None:
    assert container.process.stderr is not None
    async for line in container.process.stderr:
        container.log.append(line.decode())


@contextmanager
def built_image() -> Iterator[Image]:
    """Build the image in a place of its own, and mount it. Without the right to mount, the test is skipped."""
    if not may_mount():
        pytest.skip("needs the right to mount (CAP_SYS_ADMIN)")
    with tempfile.TemporaryDirectory(prefix="pixie-image-") as folder:
        builder = _Builder(Path(folder))
        try:
            yield builder.build()
        finally:
            builder.clean()


class _Builder:
    """Buildah, with its images in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self) -> Image:
        base_bytes, python = self._import_base()
        wheels = self._download(python)
        conf = self._folder / "pip.conf"
        conf.write_text(_PIP_CONF)
        mounts = [f"--volume={wheels}:/wheels:ro", f"--volume={conf}:/etc/pip.conf:ro"]
        self._buildah(
            *("bud", "--pull-never", "--format=docker", "--network=none", *mounts, "--tag", NAME, str(ROOT))
        )
        config = json.loads(self._buildah("inspect", "--type=image", NAME))["Docker"]["config"]
        container = self._buildah("from", "--pull-never", NAME).strip()
        root = Path(self._buildah("mount", container).strip())
        return Image(root=root, config=config, size_bytes=_size_bytes(root), base_size_bytes=base_bytes)

    def clean(self) -> None:
        """Give the disk back; buildah's own files are nobody's to delete while something is mounted."""
        self._buildah("umount", "--all")
        self._buildah("rm", "--all")
        self._buildah("rmi", "--all", "--force")

    def _import_base(self) -> tuple[int, str]:
        """Make the base that the Dockerfile names of Debian's packages; give its size, and its Python's version."""
        base = self._folder / "base"
        base.mkdir()
        rootfs = base / "rootfs.tar"
        suite = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
        assert suite, "Debian tells its name"
        _run(
            require("mmdebstrap"),
            "--quiet",
            "--variant=minbase",
            f"--include={_PACKAGES}",
            suite[1],
            str(rootfs),
        )
        name = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        assert name
        (base / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
        self._buildah("bud", "--pull-never", "--tag", name[1], str(base))
        with tarfile.open(rootfs) as tar:
            sizes = {member.name: member.size for member in tar if member.isfile()}
        rootfs.unlink()
        (python,) = [
            found[1] for path in sizes if (found := re.fullmatch(r"\./usr/bin/python(3\.\d+)", path))
        ]
        return sum(sizes.values()), python

    def _download(self, python: str) -> Path:
        """Fetch what requirements.txt pins, with this machine's pip as it is set up."""
        wheels = self._folder / "wheels"
        which = ["--only-binary=:all:", f"--python-version={python}", "--require-hashes", "--no-deps"]
        where = ["--requirement", str(ROOT / "requirements.txt"), "--dest", str(wheels)]
        _run(sys.executable, "-m", "pip", "download", "--quiet", *which, *where)
        return wheels

    def _buildah(self, *command: str) -> str:
        place = [f"--root={self._folder / 'root'}", f"--runroot={self._folder / 'run'}"]
        return _run(require("buildah"), *place, *command)


def _run(*command: str) -> str:
    """Run a program to its end and give what it printed."""
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def _size_bytes(root: Path) -> int:
    """Add up the files of a tree, without what the running system puts there."""
    return sum(Path(folder, name).lstat().st_size for folder, _, names in os.walk(root) for name in names)
