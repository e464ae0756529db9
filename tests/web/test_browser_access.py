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
    """Labels, roles, contrast, names: axe-core finds nothing that it calls serious or critical."""
    axe = (node_modules(AXE) / "axe-core" / "axe.min.js").read_text()
    furnished = await furnish(await proxy_with(gallery=OPEN_GALLERY), upstream)
    faults: list[str] = []
    async for name, page in tour(chromium, furnished, size, bypass_csp=True, color_scheme=scheme):
        faults += [f"{name}: {fault}" for fault in await _faults(page, axe)]
    assert not faults, "\n".join(faults)


async def _faults(page: Page, axe: str) -> list[str]:
    await page.evaluate(_STILL)
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(axe)
    found: list[str] = await page.evaluate(_FAULTS)
    return found
