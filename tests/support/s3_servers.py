"""Real S3 servers for tests: Ceph's RADOS gateway, and OpenStack Swift, which knows no conditional PUT.

Both run on loopback with all they have in one folder, check signatures and bodies, and forget everything at their end.
moto and its like take any secret, so that nothing can be shown with them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REGION = "us-east-1"
CEPH_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
SWIFT_KINDS = ("account", "container", "object", "proxy")
SWIFT_PROGRAMS = ("swift-ring-builder", *[f"swift-{kind}-server" for kind in SWIFT_KINDS])

_START_S = 120.0
_POOLS = (
    ".rgw.root",
    *[f"default.rgw.{name}" for name in ("log", "control", "meta", "buckets.index", "buckets.data")],
)


class Program:
    """A program that runs in a folder until it is killed, or we are."""

    def __init__(self, folder: Path, *command: str) -> None:
        """Start it."""
        self._folder, self._command = folder, command
        self.start()

    def start(self) -> None:
        """Start it, again if it was killed; it is heard of on its port."""
        bound = ("setpriv", "--pdeathsig", "KILL", *self._command)
        with (self._folder / f"{Path(self._command[0]).name}.out").open("ab") as out:
            self._process = subprocess.Popen(
                bound,
                cwd=self._folder,
                env=_environment(self._folder),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it, by default at once.

        For half a minute after Ceph's gateway had no time to say goodbye, no bucket can be made.
        """
        self._process.send_signal(number)
        self._process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server and its only user."""

    url: str
    access_key: str
    secret_key: str
    gateway: Program
    admin: Callable[..., None] | None = None
    """Runs `radosgw-admin` with these arguments."""

    def reading_key(self) -> dict[str, str]:
        """Make a key of the same user that may read and list, and no more (Ceph only)."""
        assert self.admin is not None
        key = {"access_key_id": f"AKIA{uuid.uuid4().hex[:12]}", "secret_access_key": uuid.uuid4().hex}
        name = f"test:{uuid.uuid4().hex[:8]}"
        self.admin("subuser", "create", "--uid", "test", "--subuser", name, "--access", "read", "--key-type", "s3",
                   "--access-key", key["access_key_id"], "--secret-key", key["secret_access_key"])  # fmt: skip
        return key

    def is_up(self) -> bool:
        """Tell whether anybody listens."""
        address = urlsplit(self.url)
        with closing(socket.socket()) as probe:
            return probe.connect_ex((address.hostname, address.port)) == 0

    def bucket(self, **settings: Any) -> dict[str, Any]:
        """Make a bucket; give the `storage.s3` settings for it, with `settings` over them."""
        name = f"b{uuid.uuid4().hex}"
        self.call("PUT", f"/{name}")
        return {
            "bucket": name,
            "region": REGION,
            "endpoint_url": self.url,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
            **settings,
        }

    def call(self, method: str, path: str, query: str = "") -> bytes:
        """Send a signed request with an empty body (AWS Signature Version 4); `query` is sorted and has no spaces."""
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        empty = hashlib.sha256(b"").hexdigest()
        signed = {
            "host": urlsplit(self.url).netloc,
            "x-amz-content-sha256": empty,
            "x-amz-date": now,
        }
        names = ";".join(signed)
        lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{empty}"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        request = urllib.request.Request(  # noqa: S310 - an http address of our own
            f"{self.url}{path}?{query}" if query else f"{self.url}{path}",
            method=method,
            headers={
                **signed,
                "Authorization": f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, "
                f"SignedHeaders={names}, Signature={signature}",
            },
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            body: bytes = answer.read()
            return body


@contextmanager
def running_ceph(folder: Path) -> Iterator[S3Server]:
    """Run a cluster of one monitor, one disk in memory and one gateway."""
    port, mon_port = _free_ports(2)
    fsid = str(uuid.uuid4())
    conf, keyring = folder / "ceph.conf", folder / "keyring"
    conf.write_text(_CEPH.format(folder=folder, fsid=fsid, port=port, mon_port=mon_port))
    for name in ("mon", "osd", "run"):
        (folder / name).mkdir()
    with ExitStack() as running:

        def run(*command: str) -> None:
            _run(folder, *command)

        def start(*command: str) -> Program:
            program = Program(folder, *command)
            running.callback(program.kill)
            return program

        for name, caps in {
            "mon.": {"mon": "allow *"},
            "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
            "client.rgw": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
            "osd.0": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
        }.items():
            asked = [word for service, cap in caps.items() for word in ("--cap", service, cap)]
            run("ceph-authtool", str(keyring), "--create-keyring" if name == "mon." else "--no-mon-config",
                "--gen-key", "-n", name, *asked)  # fmt: skip
        ceph = ("ceph", "--conf", str(conf), "--connect-timeout", str(int(_START_S)))
        monmap = str(folder / "monmap")
        run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap)
        own = ("--conf", str(conf))
        run("ceph-mon", *own, "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", str(keyring))
        start("ceph-mon", *own, "-i", "a", "-f")
        osd_id = str(uuid.uuid4())
        run(*ceph, "osd", "new", osd_id)
        run(*ceph, "auth", "import", "-i", str(keyring))
        run("ceph-osd", *own, "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        start("ceph-osd", *own, "-i", "0", "-f")
        # The gateway would make them too, one after the other.
        _run_at_once(folder, *[(*ceph, "osd", "pool", "create", pool, "4") for pool in _POOLS])
        gateway = start("radosgw", *own, "-n", "client.rgw", "-f")
        key, secret = "AKIATEST", "secretsecret123"
        admin = partial(run, "radosgw-admin", *own, "-n", "client.rgw")
        admin(
            "user",
            "create",
            "--uid",
            "test",
            "--display-name",
            "test",
            "--access-key",
            key,
            "--secret-key",
            secret,
        )
        _wait_for(port)
        yield S3Server(
            url=f"http://127.0.0.1:{port}",
            access_key=key,
            secret_key=secret,
            gateway=gateway,
            admin=admin,
        )


@contextmanager
def running_swift(folder: Path) -> Iterator[S3Server]:
    """Run Swift's four servers with one disk, which is a folder."""
    ports = dict(zip(SWIFT_KINDS, _free_ports(4), strict=True))
    (folder / "node" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(_SWIFT)
    common = f"bind_ip = 127.0.0.1\nworkers = 0\nswift_dir = {folder}\nlog_level = WARNING\n"
    interpreter = Path(_found("swift-ring-builder")).read_text().partition("\n")[0].removeprefix("#!")
    rings = [f"{kind}={ports[kind]}" for kind in ("account", "container", "object")]
    _run(folder, interpreter.strip(), "-c", _SWIFT_RINGS, *rings)
    for kind, port in ports.items():
        settings = _SWIFT_PROXY if kind == "proxy" else _SWIFT_DISK.format(kind=kind, folder=folder)
        text = settings.replace("[DEFAULT]\n", f"[DEFAULT]\nbind_port = {port}\nuser = {_user()}\n{common}")
        (folder / f"{kind}.conf").write_text(text)
    with ExitStack() as running:
        started = {
            kind: Program(folder, f"swift-{kind}-server", str(folder / f"{kind}.conf"))
            for kind in SWIFT_KINDS
        }
        for program in started.values():
            running.callback(program.kill)
        for port in ports.values():
            _wait_for(port)
        yield S3Server(
            url=f"http://127.0.0.1:{ports['proxy']}",
            access_key="test:tester",
            secret_key="secretsecret123",
            gateway=started["proxy"],
        )


def _user() -> str:
    return os.environ.get("USER") or "root"


def _found(program: str) -> str:
    found = shutil.which(program)
    assert found is not None
    return found


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env=_environment(folder), capture_output=True, timeout=_START_S, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout!r} {done.stderr!r}"


def _run_at_once(folder: Path, *commands: tuple[str, ...]) -> None:
    with ThreadPoolExecutor(len(commands)) as threads:
        for ended in [threads.submit(_run, folder, *command) for command in commands]:
            ended.result()


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "SWIFT_DIR": str(folder)}


def _free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket.socket())) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.05)
        else:
            return


_CEPH = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon_port}
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
run dir = {folder}/run
log file = {folder}/$name.log
admin socket = {folder}/run/$name.asok
pid file =
keyring = {folder}/keyring
mon data = {folder}/mon
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
mon data avail warn = 2
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable ops log = false
rgw enable usage log = false
rgw thread pool size = 16
rgw rados pool pg num min = 4
debug rgw = 0
"""

_SWIFT = """[swift-hash]
swift_hash_path_prefix = a
swift_hash_path_suffix = b
[storage-policy:0]
name = p0
default = yes
"""

# What swift-ring-builder does, three times over in one process: each of its nine calls would take half a second.
_SWIFT_RINGS = """
import sys
from swift.common.ring import RingBuilder
for kind, port in (ring.split("=") for ring in sys.argv[1:]):
    builder = RingBuilder(4, 1, 1)
    where = {"ip": "127.0.0.1", "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)}
    builder.add_dev({"region": 1, "zone": 1, "device": "d1", "weight": 1, "meta": "", **where})
    builder.rebalance()
    builder.get_ring().save(f"{kind}.ring.gz")
"""

_SWIFT_DISK = """[DEFAULT]
devices = {folder}/node
mount_check = false
disable_fallocate = true
log_udp_host =
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = {folder}
"""

_SWIFT_PROXY = """[DEFAULT]
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats bulk s3api tempauth copy slo dlo symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = secretsecret123 .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:symlink]
use = egg:swift#symlink
"""
