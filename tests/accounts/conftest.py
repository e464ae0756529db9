from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixie_proxy.index.sqlite import SqliteIndex, open_sqlite


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[SqliteIndex]:
    opened = await open_sqlite(tmp_path / "pixie.db", lock_path=tmp_path / "pixie.lock")
    yield opened
    await opened.close()
