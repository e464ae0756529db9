"""Shows where the proxy's time goes under the load of 16 clients: `python -m benchmarks.profile [SECONDS]`.

py-spy is used where it is on the PATH (`pip install py-spy`): it looks from outside, at all threads that work or wait
for the disk, and costs the proxy little. Else cProfile: the main thread only, and small functions look dearer than they
are.
"""

from __future__ import annotations

import argparse
import pstats
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks import load, servers
from benchmarks.__main__ import work_folder
from benchmarks.answers import SEED, answer
from benchmarks.bench import check
from benchmarks.speed import CLIENTS

_ROWS = 30


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=int, default=8, help="how long to load the proxy")
    parser.add_argument("--large", action="store_true", help="2 MB answers instead of 27 kB")
    options = parser.parse_args()
    body = answer(2_000_000 if options.large else 26_600, 1, random.Random(SEED))
    py_spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    with work_folder() as folder, servers.nginx(folder, {"body": body}) as nginx:
        found = folder / "profile"
        launcher = None if py_spy else [sys.executable, "-m", "cProfile", "-o", str(found)]
        with servers.proxy(folder, f"http://{nginx.host}/body", launcher=launcher) as proxy:
            check(proxy, body)
            spy: subprocess.Popen[bytes] | None = None
            if py_spy:
                command = [
                    py_spy,
                    "record",
                    "-p",
                    str(proxy.pid),
                    "-d",
                    str(options.seconds),
                    "-o",
                    str(found),
                ]
                spy = subprocess.Popen(
                    [*command, "-f", "raw", "-r", "500", "--nonblocking"], stdout=subprocess.DEVNULL
                )
            measured = load.run(proxy.port, clients=CLIENTS, body_bytes=len(body), seconds=options.seconds)
            if spy:
                spy.wait(60)
        print(f"{measured.per_s:,.0f} req/s with {CLIENTS} clients while watched\n")
        if py_spy:
            _print_stacks(found.read_text())
        else:
            pstats.Stats(str(found)).sort_stats("tottime").print_stats(_ROWS)


def _print_stacks(folded: str) -> None:
    """Add up lines of `frame;frame;frame count`, which py-spy writes: by room of the proxy, then by function."""
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    rooms: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        below.update({frame: int(count) for frame in set(frames) if "pixie_proxy" in frame})
        ours = [frame for frame in frames if "pixie_proxy" in frame]
        rooms[_room(ours[-1]) if ours else "(aiohttp, asyncio and waiting)"] += int(count)
    total = sum(own.values()) or 1
    for title, counts in (
        ("room (deepest frame of ours)", rooms),
        ("alone", own),
        ("with all it calls", below),
    ):
        print(f"{title}:")
        for name, samples in counts.most_common(_ROWS):
            print(f"  {samples / total:6.1%}  {name}")
        print()


def _room(frame: str) -> str:
    """Turn `function (pixie_proxy/index/batch.py:12)` into `pixie_proxy/index`."""
    return frame.partition("(")[2].rpartition("/")[0] or frame


if __name__ == "__main__":
    main()
