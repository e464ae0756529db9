"""The storage: that it is the index's, and takes a small file and gives it back."""

from __future__ import annotations

import asyncio

from pixie_proxy import backends
from pixie_proxy.disk.watch import Disk
from pixie_proxy.doctor import Finding, fault, ok, sentence
from pixie_proxy.doctor.disk import failing
from pixie_proxy.doctor.patient import LOOK_S, Patient
from pixie_proxy.errors import ConfigError, IndexUnavailable, StorageUnavailable
from pixie_proxy.storage import Storage, sentinel
from pixie_proxy.storage.claim import claim_fault
from pixie_proxy.threads import WorkerThreads


async def storage(patient: Patient) -> list[Finding]:
    """Open it as a server does, but for making it; a bucket is given as long as any server out there."""
    settings = patient.settings
    if (
        settings.storage.kind == "local"
        and not settings.storage_path.exists()
        and not await _is_known(patient)
    ):
        return [ok(f"{settings.storage_path} is not there yet: the first start makes it")]
    threads = WorkerThreads(1, "storage", daemon=True)
    try:
        opened = backends.open_storage(settings, threads, Disk("data", patient.data_dir), must_exist=True)
    except ConfigError as exc:
        return [fault(exc.problems[0].removeprefix("storage.path: "), "mount it, or mend storage.path")]
    try:
        async with asyncio.timeout(LOOK_S):
            return await _examine(patient, opened)
    except TimeoutError:
        return [fault("it does not answer in time", "look at the network and at the server; a disk may hang")]
    except StorageUnavailable as exc:
        return [fault(sentence(exc.message), exc.remedy or "look at its disk")]


async def _examine(patient: Patient, opened: Storage) -> list[Finding]:
    found = await sentinel(opened)
    try:
        index = await patient.index()
    except (ConfigError, IndexUnavailable):
        return [ok("it answers; whether it is the index's can't be told without an index")]
    wrong = claim_fault(None if index is None else index.storage_id, found)
    if wrong is not None:
        return [fault(wrong[0].removeprefix("storage: "), wrong[1])]
    if found is None and opened.disk is not None:
        return [ok("empty: the first start claims it")]
    if opened.disk is not None:
        error = await patient.blocking(opened.disk.examine, True)
        if error is not None:
            return [failing(opened.disk.folder, error)]
    note = await opened.probe()
    told = "it keeps what it is given (a small file was written, read and deleted)"
    return [ok(f"{told}; {note}" if note else told)]


async def _is_known(patient: Patient) -> bool:
    """Tell whether the index knows a storage, as far as it can be asked."""
    try:
        index = await patient.index()
    except (ConfigError, IndexUnavailable):
        return True
    return index is not None and index.storage_id is not None
