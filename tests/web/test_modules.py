"""The modules of the pages fit together: what one takes from another is there, and nothing is offered in vain."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium

from pixie_proxy import web
from pixie_proxy.web import static
from tests.support.proxy import RunningProxy
from tests.web.test_browser import signed_in, watched

_WEB = Path(web.__file__).parent
_IMPORT = re.compile(r'^import (?:\{ ([^}]+) \} from )?"\./([\w-]+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function\*?|const|let|class) ([\w$]+)", re.MULTILINE)
_BY_OTHERS = {
    ("texts", "t"),  # the server writes that module
    ("worker", "serve"),  # which /worker.js calls
    ("events", "EventParser"),  # which tests of their own call
    ("jobs", "secondsToWait"),
    ("sending", "Placing"),
}
_MOST_LINES = 300

_LOAD = """async (addresses) => {
  const faults = [];
  for (const address of addresses) {
    try {
      await import(address);
    } catch (error) {
      // What a module looks for on its own page is not on this one; but its text is read, and its imports are found.
      if (error instanceof SyntaxError || /Failed to fetch/.test(error.message)) faults.push(`${address}: ${error}`);
    }
  }
  return faults;
}"""


@cache
def sources() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in (_WEB / "static").glob("*.js")}


def imports(name: str) -> set[tuple[str, str]]:
    """Give what a module takes: (module, name) of each."""
    return {
        (other, each.strip())
        for named, other in _IMPORT.findall(sources().get(name, ""))
        for each in (named.split(",") if named else [""])
    }


def below(name: str) -> set[str]:
    """Give all modules that come with one."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        found.add(each := waiting.pop())
        waiting |= {other for other, _ in imports(each)} - found
    return found


def test_imports_and_exports_agree() -> None:
    """No name is taken that is not offered, none offered that is not taken."""
    offered = {(name, each) for name, source in sources().items() for each in _EXPORT.findall(source)}
    taken = {each for name in sources() for each in imports(name) if each[1]}
    assert taken - offered <= _BY_OTHERS
    assert offered - taken <= _BY_OTHERS


def test_modules_are_rooms() -> None:
    """Each is short enough to be read at once, and says first what it is for."""
    assert {name for name, source in sources().items() if source.count("\n") > _MOST_LINES} == set()
    assert {name for name, source in sources().items() if not source.startswith("// ")} == set()


def test_the_wall_names_its_modules_before() -> None:
    """A browser then fetches them side by side, not one after another as it reads them."""
    html = (_WEB / "templates" / "wall.html").read_text(encoding="utf-8")
    (listed,) = re.findall(r"{% for name in \((.+)\) %}\n  <link rel=\"modulepreload\"", html)
    assert set(re.findall(r'"([\w-]+)"', listed)) == below("wall") - {"wall"}


@pytest.mark.xdist_group("browser")
async def test_every_module_loads(chromium: Chromium, proxy: RunningProxy) -> None:
    """A browser can read each, and finds what it imports."""
    addresses = [static.address_of(f"{name}.js") for name in sorted(sources())]
    async with watched(chromium, proxy) as page:
        await signed_in(page)
        assert await page.evaluate(_LOAD, addresses) == []
