"""Memory under big answers and big forms."""

from __future__ import annotations

import os
import random
from typing import Any

from benchmarks import load, servers, uploads
from benchmarks.answers import SEED, noise_png
from benchmarks.bench import Bench, as_json, check
from benchmarks.plan import KEEP_FREE_BYTES, MB, fitting_uploads
from benchmarks.processes import Memory, Server
from benchmarks.result import Figure

CLIENTS = 8
_MIB = 2**20


def memory(bench: Bench) -> list[Figure]:
    """8 clients, answers of 8 MB, then of 32 MB, a fresh server for each: a peak never comes down again."""
    peaks: dict[str, float] = {}
    details: dict[str, Any] = {"answers_each": bench.plan.answers_each}
    for answer in ("8mb", "32mb"):
        bench.step(f"memory: {CLIENTS} clients, {answer}, bare")
        bare = servers.passthrough(bench.folder, bench.upstream_url(answer))
        with bare as server, bench.probed(f"memory {answer}", "bare", server):
            details[f"{answer}_bare"] = _weigh(bench, server, answer)
        bench.step(f"memory: {CLIENTS} clients, {answer}, proxy")
        with bench.proxy(bench.upstream_url(answer)) as server:
            check(server, bench.answers[answer])
            with bench.probed(f"memory {answer}", "proxy", server):
                details[answer] = _weigh(bench, server, answer)
        peaks[answer] = details[answer]["peak_mib"]
    bare_mib, children_mib = details["32mb_bare"]["peak_mib"], details["32mb"]["children_mib"]
    peak = Figure(
        name="memory",
        title="peak RSS, 8 clients × 32 MB answers",
        bar=140,
        at_most=True,
        unit="MiB",
        value=peaks["32mb"],
        context=f"{details['32mb']['idle_mib']:.0f} MiB idle; bare {bare_mib:.0f} MiB"
        + (f"; child processes {children_mib:.0f} MiB more" if children_mib else ""),
        details=details,
    )
    flat = Figure(
        name="flatness",
        title="… its growth from 8 MB to 32 MB answers",
        bar=1.2,
        at_most=True,
        unit="×",
        value=peaks["32mb"] / peaks["8mb"],
        context=f"{peaks['8mb']:.0f} MiB at 8 MB",
    )
    return [peak, flat]


def _weigh(bench: Bench, server: Server, answer: str) -> dict[str, Any]:
    body_bytes = len(bench.answers[answer])
    with Memory(server.pid) as weighed:
        found = load.run(
            server.port, clients=CLIENTS, body_bytes=body_bytes, images=4, each=bench.plan.answers_each
        )
    return {
        "answer_bytes": body_bytes,
        "idle_mib": round(weighed.idle_bytes / _MIB, 1),
        "peak_mib": round(weighed.peak_bytes / _MIB, 1),
        "children_mib": round(weighed.children_bytes / _MIB, 1),
        "load": as_json(found),
    }


def forms(bench: Bench) -> list[Figure]:
    """20 forms of 16 × 50 MB at once, over what the idle proxy takes."""
    plan = bench.plan
    count = fitting_uploads(plan, bench.free_bytes())
    if count < plan.uploads:
        free_gb = bench.free_bytes() / 1e9
        bench.notes.append(
            f"uploads: {count} instead of {plan.uploads} at once, since the disk has {free_gb:.0f} GB free and "
            f"{(plan.upload_bytes + KEEP_FREE_BYTES) / 1e9:.0f} GB are wanted."
        )
    bench.step(f"uploads: {count} × {plan.files} × {plan.file_bytes // MB} MB")
    picture = bench.folder / "upload.png"
    picture.write_bytes(_png_head() + os.urandom(plan.file_bytes - len(_png_head())))
    answer = bench.answers["27kb"]
    try:
        with servers.sink(bench.folder, answer) as sink, bench.proxy(f"http://{sink.host}") as server:
            check(server, answer)
            before = servers.received_bytes(sink)
            with bench.probed("uploads", "proxy", server), Memory(server.pid) as weighed:
                seconds = uploads.send_all(
                    server.port, uploads=count, files=plan.files, picture=picture, body_bytes=len(answer)
                )
            received = servers.received_bytes(sink) - before
    finally:
        picture.unlink()
    sent = count * plan.files * plan.file_bytes
    figure = Figure(
        name="uploads",
        title=f"{count} uploads of {plan.files} × {plan.file_bytes // MB} MB at once: RSS over idle",
        bar=300,
        at_most=True,
        unit="MB",
        value=(weighed.peak_bytes - weighed.idle_bytes) / MB,
        context=f"{sent / 1e9:.1f} GB in {seconds:.0f} s, from the first byte sent to the last answer",
        details={
            "uploads": count,
            "files": plan.files,
            "file_bytes": plan.file_bytes,
            "seconds": round(seconds, 2),
            "idle_mib": round(weighed.idle_bytes / _MIB, 1),
            "peak_mib": round(weighed.peak_bytes / _MIB, 1),
            "children_mib": round(weighed.children_bytes / _MIB, 1),
            "upstream_received_bytes": received,
        },
        error=None if received >= sent else f"the upstream got {received} of {sent} bytes",
    )
    return [figure]


def _png_head() -> bytes:
    return noise_png(3000, random.Random(SEED))[:200]
