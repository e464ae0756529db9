"""Every page and every dialog, for people who see little, hear instead of seeing, or use no mouse: judged by axe-core.

axe-core is a library of npm. It runs in the page, which our policy forbids; its contexts go around that, and nothing
else here does.
"""

from __future__ import annotations

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page

from tests.support.npm import node_modules
from tests.support.upstream import ScriptedUpstream
from tests.web.conftest import ProxyWith
from tests.web.touring import OPEN_GALLERY, furnish, tour

pytestmark = pytest.mark.xdist_group("browser")
AXE = "axe-core@4"

_FAULTS = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations
    .filter((each) => ["serious", "critical"].includes(each.impact))
    .flatMap((each) => each.nodes.map((node) => `${each.id}: ${node.html.slice(0, 160)} ${node.failureSummary}`));
}"""
_SMALL = """() => {
  const modal = document.querySelector("dialog:modal") ?? document;
  const pressed = (each) => each.closest("label:has(input[type=checkbox], input[type=radio])") ?? each;
  const box = (each) => pressed(each).getBoundingClientRect();
  return [...modal.querySelectorAll("button, .button, summary, select, textarea, input:not(.only-read), nav a, .chip")]
    .filter((each) => each.checkVisibility({ visibilityProperty: true }))
    .filter((each) => box(each).width < 43.5 || box(each).height < 43.5)
    .map((each) => `${box(each).width} × ${box(each).height} px is small for a finger: ${each.outerHTML}`);
}"""
_STILL = """() => Promise.all(document.getAnimations().filter((each) => each.effect.getTiming().iterations < 9)
  .map((each) => { each.finish(); }))"""
"""Bring what fades in to its end: half seen, its contrast is not that of the page."""


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("desk", "light"),
        ("phone", "dark"),
        pytest.param("desk", "dark", marks=pytest.mark.torture),
        pytest.param("phone", "light", marks=pytest.mark.torture),
    ],
)
async def test_nothing_serious_on_any_page(
    chromium: Chromium, proxy_with: ProxyWith, upstream: ScriptedUpstream, size: str, scheme: str
) -> None:
    """Labels, roles, contrast, names: axe-core finds nothing serious or critical. Fingers find 44 px on a phone."""
    axe = (node_modules(AXE) / "axe-core" / "axe.min.js").read_text()
    furnished = await furnish(await proxy_with(gallery=OPEN_GALLERY), upstream)
    faults: list[str] = []
    async for name, page in tour(chromium, furnished, size, bypass_csp=True, color_scheme=scheme):
        found = await _faults(page, axe) + (await page.evaluate(_SMALL) if size == "phone" else [])
        faults += [f"{name}: {fault}" for fault in found]
    assert not faults, "\n".join(faults)


async def _faults(page: Page, axe: str) -> list[str]:
    await page.evaluate(_STILL)
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(axe)
    found: list[str] = await page.evaluate(_FAULTS)
    return found


_NEXT = """() => {
  const all = 'a[href], button, input, select, textarea, summary, [tabindex="0"]';
  const modal = document.querySelector("dialog:modal") ?? document;
  window.awaited ??= new Set([...modal.querySelectorAll(all)].filter((each) => each.tabIndex >= 0 && !each.disabled
    && !each.closest(":disabled") && each.checkVisibility({ visibilityProperty: true })
    && !(each.type === "radio" && !each.checked)));
  const here = document.activeElement;
  window.awaited.delete(here);
  const rings = [here, here.nextElementSibling, here.closest("label"), here.closest(".tile, .ask")];
  const isSeen = rings.some((each) => each && getComputedStyle(each).outlineStyle !== "none");
  return here === document.body || isSeen ? "" : here.outerHTML.slice(0, 160);
}"""
"""Note where the focus is, and tell of an element that does not show it."""
_NEVER = "[...window.awaited].map((each) => each.outerHTML.slice(0, 160))"


async def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    chromium: Chromium, proxy_with: ProxyWith, upstream: ScriptedUpstream
) -> None:
    """Tab, from the first element of a page or a dialog to its last: none is left out, each shows its focus."""
    furnished = await furnish(await proxy_with(gallery=OPEN_GALLERY), upstream)
    faults: list[str] = []
    async for name, page in tour(chromium, furnished, "desk"):
        if name not in _WALKED:
            continue
        await page.evaluate(
            "delete window.awaited; document.querySelector('dialog:modal') || document.activeElement.blur()"
        )
        await page.evaluate(_NEXT)
        for _ in range(await page.evaluate("window.awaited.size + 12")):
            await page.keyboard.press("Tab")
            if unseen := await page.evaluate(_NEXT):
                faults.append(f"{name}: no sign of the focus: {unseen}")
        faults += [f"{name}: never reached: {each}" for each in await page.evaluate(_NEVER)]
    assert not faults, "\n".join(faults)


_WALKED = {
    *("login", "share", "public wall", "wall, filters", "wall, keys", "image, shared", "image, zoom"),
    *("create, settings", "create, mask", "create, done", "usage", "admin", "people, add", "person"),
}
