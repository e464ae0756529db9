"""A system clock that is set while programs run, or before they start: libfaketime's."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import require


class Clock:
    """The system clock as one process sees it. Its monotonic clock is the real one, as when a real clock is set."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        libraries = sorted(Path(require("faketime")).parents[1].glob("lib/**/libfaketimeMT.so.1"))
        self.prefix = (
            "env",
            f"LD_PRELOAD={libraries[0]}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "DONT_FAKE_MONOTONIC=1",
            "FAKETIME_FORCE_MONOTONIC_FIX=0",  # its "fix" makes each wait for the interpreter's lock a second long
        )
        self.set(0)

    def set(self, offset_s: float) -> None:
        """Step so far away from the real time, at once."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{offset_s:+}")
        written.rename(self._file)
