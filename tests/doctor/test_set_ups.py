"""A bucket or an upstream that is set up wrongly is named in one line, by `pixie doctor` and at the start (R50)."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pixie_proxy.errors import ConfigError, StorageUnavailable
from tests.cli.running import pixie
from tests.conftest import require
from tests.doctor.asking import LIMIT_S, Told, ask, has_models, run_doctor
from tests.support.clock import Clock
from tests.support.figures import RecordFigure
from tests.support.proxy import config_file, run_proxy, settings_for
from tests.support.s3_relay import Call, Fault, Plan, S3Relay, calm
from tests.support.s3_servers import S3Server
from tests.support.upstream import ScriptedUpstream, error_json, head, refused_base_url, stall

UNKNOWN_HOST = "no-such-host.invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """What is wrong with a bucket: settings over the good ones, or a relay's plan; and what is told of it."""

    told: str
    s3: Callable[[S3Server, str], dict[str, Any]] = lambda _server, _tls: {}
    plan: Plan = calm


def refuses_checksums(call: Call) -> Fault | None:
    """Be one of the clones that knows no SHA-256 of bodies."""
    return Fault(kind="error", status=400, code="XAmzContentSHA256Mismatch") if call.method == "PUT" else None


def knows_no_put(call: Call) -> Fault | None:
    """Be one that answers 501 to whatever it is sent."""
    return Fault(kind="error", status=501, code="NotImplemented") if call.method == "PUT" else None


ON_CEPH = {
    "wrong secret": SetUp(
        told="the secret access key is wrong", s3=lambda _s, _t: {"secret_access_key": "not-this-one"}
    ),
    "unknown key": SetUp(
        told="does not know the access key", s3=lambda _s, _t: {"access_key_id": "AKIANOBODY"}
    ),
    "missing bucket": SetUp(told="the bucket does not exist", s3=lambda _s, _t: {"bucket": "no-such-bucket"}),
    "reading key": SetUp(told="the access key may not do this", s3=lambda server, _t: server.reading_key()),
    "refused": SetUp(
        told="nobody listens", s3=lambda _s, _t: {"endpoint_url": refused_base_url().removesuffix("/v1")}
    ),
    "unknown name": SetUp(
        told="the name of its address is not known",
        s3=lambda _s, _t: {"endpoint_url": f"http://{UNKNOWN_HOST}"},
    ),
    "no TLS": SetUp(
        told="it speaks no TLS", s3=lambda server, _t: {"endpoint_url": server.url.replace("http", "https")}
    ),
    "bad certificate": SetUp(
        told="its TLS certificate is not to be trusted", s3=lambda _s, tls: {"endpoint_url": tls}
    ),
    "no checksums": SetUp(told="it finds another checksum than ours", plan=refuses_checksums),
    "no PUT": SetUp(told="does not know this request (501)", plan=knows_no_put),
}
"""By name."""


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[str]:
    """Serve TLS with a certificate that nobody knows."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def broken(
    set_up: SetUp, ceph: S3Server, tls: str, upstream: ScriptedUpstream
) -> AsyncIterator[dict[str, Any]]:
    """Give the storage section of a set-up, before an upstream that is well."""
    has_models(upstream)
    async with S3Relay(ceph.url, set_up.plan) as relay:
        yield {"kind": "s3", "s3": {**ceph.bucket(endpoint_url=relay.url), **set_up.s3(ceph, tls)}}


def assert_named(told: Told, set_up: SetUp) -> None:
    """See that there is one fault, in one line, with a remedy, and no secret in any."""
    (line,) = told.faults
    assert line.startswith("storage: ")
    assert set_up.told in line
    assert ": " in line.partition(set_up.told)[2]
    assert "\n" not in line
    assert "secretsecret123" not in str(told.findings)


@pytest.mark.xdist_group("ceph")
@pytest.mark.parametrize("name", ON_CEPH)
async def test_a_bucket_that_can_not_be_used_is_named(
    tmp_path: Path, upstream: ScriptedUpstream, ceph: S3Server, tls: str, name: str
) -> None:
    """By the doctor with its remedy, and by a start in the same words, at once; and nothing is left behind."""
    set_up, data = ON_CEPH[name], tmp_path / "data"
    async with broken(set_up, ceph, tls, upstream) as storage:
        told = await ask(settings_for(data, upstream.base_url, storage=storage))
        assert_named(told, set_up)
        assert told.took_s <= LIMIT_S
        assert not data.exists()
        with pytest.raises((ConfigError, StorageUnavailable), match=re.escape(set_up.told)):
            async with run_proxy(data, upstream.base_url, storage=storage):
                pass


@pytest.mark.xdist_group("ceph")
async def test_a_key_that_may_only_read_is_told_at_a_later_start_too(
    tmp_path: Path, upstream: ScriptedUpstream, ceph: S3Server
) -> None:
    """The bucket is ours and can be read; the first paid image would have found out."""
    s3 = ceph.bucket()
    async with run_proxy(tmp_path / "data", upstream.base_url, storage={"kind": "s3", "s3": s3}):
        pass
    wrong = {"kind": "s3", "s3": {**s3, **ceph.reading_key()}}
    with pytest.raises(ConfigError, match="the access key may not do this"):
        async with run_proxy(tmp_path / "data", upstream.base_url, storage=wrong):
            pass


@pytest.mark.xdist_group("ceph")
async def test_a_good_bucket_is_well_and_stays_empty(
    tmp_path: Path, upstream: ScriptedUpstream, ceph: S3Server
) -> None:
    """The probe is gone again, whether or not a proxy has claimed the bucket."""
    has_models(upstream)
    s3 = ceph.bucket()
    settings = settings_for(tmp_path / "data", upstream.base_url, storage={"kind": "s3", "s3": s3})
    told = await ask(settings)
    assert told.faults + told.warnings == []
    assert told.line("storage").startswith("it keeps what it is given")
    assert b"<Contents>" not in ceph.call("GET", f"/{s3['bucket']}")


@pytest.mark.xdist_group("swift")
@pytest.mark.parametrize("region", ["us-east-1", "mars-north-1"])
async def test_what_swift_says(
    tmp_path: Path, upstream: ScriptedUpstream, swift: S3Server, region: str
) -> None:
    """It knows no conditional PUT, which is no fault, and it minds the region."""
    has_models(upstream)
    s3 = {**swift.bucket(), "region": region}
    told = await ask(settings_for(tmp_path / "data", upstream.base_url, storage={"kind": "s3", "s3": s3}))
    if region == "us-east-1":
        assert told.faults == []
        assert "no conditional PUT (501)" in told.line("storage")
    else:
        (fault,) = told.faults
        assert "another region" in fault


UPSTREAMS: dict[str, tuple[Callable[[ScriptedUpstream], None], dict[str, Any], str]] = {
    "wrong key": (lambda up: up.default(*error_json(401)), {}, "refuses the key (401)"),
    "redirect": (
        lambda up: up.default(head(301, [("Location", "https://elsewhere.example/v1/models")], length=0)),
        {},
        "no redirect is followed",
    ),
    "silent": (lambda up: up.default(stall()), {}, "no answer within"),
    "refused": (has_models, {"base_url": refused_base_url()}, "nobody listens there"),
    "unknown name": (has_models, {"base_url": f"https://{UNKNOWN_HOST}/v1"}, f"the name {UNKNOWN_HOST}"),
    "no key": (
        has_models,
        {"base_url": "https://api.openai.com/v1", "api_key": None},
        "Set the environment variable OPENAI_API_KEY",
    ),
}


@pytest.mark.parametrize("name", UPSTREAMS)
async def test_an_upstream_that_can_not_be_used_is_named(
    tmp_path: Path, upstream: ScriptedUpstream, name: str
) -> None:
    """Nothing but the list of models is asked for, once, and no redirect takes the key along."""
    prepare, changes, expected = UPSTREAMS[name]
    prepare(upstream)
    told = await ask(settings_for(tmp_path / "data", upstream.base_url, upstream=changes))
    (line,) = told.faults
    assert line.startswith("upstream: ")
    assert expected in line
    assert told.took_s <= LIMIT_S
    assert [(request.method, request.path) for request in upstream.requests] in ([], [("GET", "/v1/models")])


@pytest.mark.xdist_group("ceph")
@pytest.mark.parametrize("off_s", [3600, pytest.param(-3600, marks=pytest.mark.torture)])
async def test_a_wrong_clock_is_named(
    tmp_path: Path, upstream: ScriptedUpstream, ceph: S3Server, record_figure: RecordFigure, off_s: int
) -> None:
    """Others' clocks tell it, and the bucket refuses our signatures; a start says so as well."""
    has_models(upstream)
    clock = Clock(tmp_path)
    clock.set(off_s)
    config = config_file(tmp_path / "data", upstream.base_url, storage={"kind": "s3", "s3": ceph.bucket()})
    told = await run_doctor(config, prefix=clock.prefix)
    of_clock, of_storage = sorted(told.faults)
    assert told.code == 1
    assert re.match(
        rf"clock: this clock is 3,[56]\d\d s {'ahead of' if off_s > 0 else 'behind'} others", of_clock
    )
    assert "the clock of this machine is wrong (RequestTimeTooSkewed)" in of_storage
    ended = await pixie("serve", "--config", str(config), cwd=tmp_path, prefix=clock.prefix)
    assert ended.code == 2
    assert "the clock of this machine is wrong (RequestTimeTooSkewed)" in ended.errors[-1]
    record_figure("R50", set_ups=1, violations=0, told_s=told.took_s)


@pytest.mark.torture
@pytest.mark.xdist_group("ceph")
@pytest.mark.parametrize("name", ON_CEPH)
async def test_every_broken_set_up_as_a_shell_sees_it(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    ceph: S3Server,
    tls: str,
    record_figure: RecordFigure,
    name: str,
) -> None:
    """R50 in full: the programs themselves, each with one line; doctor within five seconds."""
    set_up = ON_CEPH[name]
    async with broken(set_up, ceph, tls, upstream) as storage:
        config = config_file(tmp_path / "data", upstream.base_url, storage=storage)
        told = await run_doctor(config)
        assert_named(told, set_up)
        assert told.code == 1
        ended = await pixie("serve", "--config", str(config), cwd=tmp_path)
        (line,) = ended.errors
        assert ended.code in {1, 2}
        assert set_up.told in line
    record_figure("R50", set_ups=1, violations=int(told.took_s > LIMIT_S), told_s=told.took_s)
    assert told.took_s <= LIMIT_S


@pytest.mark.torture
@pytest.mark.parametrize("name", UPSTREAMS)
async def test_every_broken_upstream_as_a_shell_sees_it(
    tmp_path: Path, upstream: ScriptedUpstream, record_figure: RecordFigure, name: str
) -> None:
    """The rest of R50: no start asks the upstream, for it may be down and come back."""
    prepare, changes, expected = UPSTREAMS[name]
    prepare(upstream)
    told = await run_doctor(config_file(tmp_path / "data", upstream.base_url, upstream=changes))
    (line,) = told.faults
    assert expected in line
    record_figure("R50", set_ups=1, violations=int(told.took_s > LIMIT_S), told_s=told.took_s)
    assert told.took_s <= LIMIT_S
