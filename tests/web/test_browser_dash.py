"""Usage and admin in a real browser: as a person reads figures, adds people, and hands out keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, expect

from tests.support.proxy import ADMIN_KEY, RunningProxy
from tests.support.upstream import ScriptedUpstream, cut, error_json, image_json
from tests.support.waiting import eventually
from tests.web.calling import GENERATIONS, ended
from tests.web.test_browser import shoot, signed_in, watched

pytestmark = pytest.mark.xdist_group("browser")

CAT = {"model": "gpt-image-2", "prompt": "a cat", "size": "1024x1024", "quality": "low"}


async def is_good(proxy: RunningProxy, key: str) -> bool:
    return (await proxy.request("GET", "/v1/me", key=key))[0] == 200


async def shown_key(page: Page) -> str:
    """Read the key that is shown."""
    field = page.locator("#secret-text")
    await expect(field).to_have_value(re.compile(r"^px-[\w-]{43}$"))
    return await field.input_value()


async def take_key(page: Page) -> str:
    """Keep the key that is shown, and see that nothing of it stays behind."""
    key, field = await shown_key(page), page.locator("#secret-text")
    await page.keyboard.press("Escape")
    await expect(field).to_be_visible()
    await page.get_by_role("button", name="Copy").click()
    await page.get_by_role("button", name="Copied").wait_for()
    await page.get_by_role("button", name="I have kept it").click()
    await expect(field).to_be_hidden()
    await expect(field).to_have_value("")
    traces = "[document.body.outerHTML, ...[...document.querySelectorAll('input')].map(i => i.value), location.href]"
    assert key not in str(await page.evaluate(traces))
    return key


async def test_figures_are_read_by_pointer_and_by_keyboard(
    chromium: Chromium, proxy: RunningProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Bars tell their day to keyboard and pointer, tables stand behind them; an admin looks at one person."""
    for answer in (image_json(2), error_json(400, code="moderation_blocked"), cut()):
        upstream.script(answer)
        await proxy.request("POST", GENERATIONS, json={**CAT, "n": 2})
    await ended(proxy)
    async with watched(chromium, proxy) as page:
        await signed_in(page, ADMIN_KEY)
        await page.get_by_role("link", name="Usage").click()
        await page.get_by_label("Whose").select_option("bob")
        await page.wait_for_url("**owner=bob**")
        await page.get_by_role("link", name="7 days").click()
        await page.wait_for_url("**period=7**")
        assert "owner=bob" in page.url
        chart = page.get_by_role("slider", name="By day")
        await page.get_by_text("Dates…").focus()
        await page.keyboard.press("Tab")
        await expect(chart).to_be_focused()
        await expect(chart).to_have_attribute("aria-valuetext", re.compile(r": \$0\.\d+, 4 images"))
        await expect(page.locator(".tip")).to_be_visible()
        await page.keyboard.press("Home")
        await expect(chart).to_have_attribute("aria-valuetext", re.compile(r": \$0\.00, 0 images"))
        await page.locator(".slot").last.hover()
        await expect(page.locator(".tip")).to_have_text(re.compile(r"4 images"))
        await page.get_by_text("As a table").first.click()
        await expect(page.locator(".sums").first.locator("tbody tr")).to_have_count(7)
        await shoot(page, tmp_path, "desk-usage")
        await page.get_by_role("navigation", name="Which calls").get_by_role("link", name="Unknown").click()
        await expect(page.locator(".calls tbody tr")).to_have_count(1)
    async with watched(chromium, proxy, "phone", dark=True) as page:
        await signed_in(page)
        await page.goto("/usage")
        await shoot(page, tmp_path, "phone-usage")
        await page.get_by_text("Dates…").click()
        await page.get_by_label("From", exact=True).fill("2024-01-01")
        await page.get_by_role("button", name="Show").click()
        await page.wait_for_url("**from=2024-01-01**")
        await page.get_by_role("heading", name="By month").wait_for()


async def test_a_person_is_added_given_keys_and_deleted(
    chromium: Chromium, proxy: RunningProxy, tmp_path: Path
) -> None:
    """The life of an account, every step seen at the API; keys are shown once, and dangerous acts ask."""
    async with watched(chromium, proxy) as page:
        await signed_in(page, ADMIN_KEY)
        await page.goto("/admin")
        await page.get_by_role("heading", name="All is well").wait_for()
        await shoot(page, tmp_path, "desk-admin")
        await page.get_by_role("link", name="People").click()
        await page.get_by_role("button", name="Add a person").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name").fill("bob")
        await page.keyboard.press("Enter")
        await expect(dialog.get_by_role("alert")).to_contain_text("there is a user 'bob' already")
        await dialog.get_by_label("Name").fill("eve")
        await dialog.get_by_text("Limits of its own").click()
        await dialog.get_by_label("USD a month").first.select_option("Its own:")
        await page.keyboard.type("12.5")
        await shoot(page, tmp_path, "desk-admin-add")
        await dialog.get_by_role("button", name="Add", exact=True).click()
        first = await take_key(page)
        assert (await proxy.get("/v1/me", first))["limits"]["usd_per_month"] == 12.5
        await shoot(page, tmp_path, "desk-admin-people")
        await page.get_by_role("link", name="eve").click()

        await page.get_by_role("button", name="Add a key").click()
        await dialog.get_by_label("What it is for").fill("laptop")
        await dialog.get_by_label("Good for").select_option("30 days")
        await dialog.get_by_text("Models", exact=True).click()
        await dialog.get_by_label("gpt-image-2", exact=True).check()
        await dialog.get_by_role("button", name="Add a key").click()
        laptop = await take_key(page)
        row = page.get_by_role("row", name="laptop")
        await expect(row).to_contain_text("gpt-image-2")
        (key,) = [
            key
            for key in (await proxy.get("/v1/admin/keys?user=eve", ADMIN_KEY))["data"]
            if key["name"] == "laptop"
        ]
        assert key["models"] == ["gpt-image-2"]
        assert key["expires_at"] - key["created"] == 30 * 86_400

        await _change_key(page, proxy, tmp_path)
        await row.get_by_role("button", name="Rotate").click()
        await expect(dialog).to_contain_text("Rotate laptop")
        await dialog.get_by_role("button", name="Rotate").click()
        rotated = await take_key(page)
        await expect(row).to_contain_text("The old text works until")
        assert await is_good(proxy, laptop)
        assert await is_good(proxy, rotated)
        await shoot(page, tmp_path, "desk-admin-person")
        await row.get_by_role("button", name="Revoke").click()
        await dialog.get_by_role("button", name="Revoke").click()
        await expect(row).to_contain_text("Revoked")
        assert not await is_good(proxy, rotated)

        await page.get_by_role("combobox", name="Role").select_option("viewer")
        await page.get_by_label("USD a month").first.select_option("No limit")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("button", name="Save")).to_be_focused()
        me = await proxy.get("/v1/me", first)
        assert (me["role"], me["limits"]["usd_per_month"]) == ("viewer", None)

        await page.get_by_role("button", name="Disable").click()
        await dialog.get_by_role("button", name="Disable").click()
        await page.get_by_role("button", name="Let in again").wait_for()
        assert not await is_good(proxy, first)
        await page.get_by_role("button", name="Let in again").click()
        await page.get_by_role("button", name="Disable").wait_for()
        assert await is_good(proxy, first)

        await page.get_by_role("button", name="Delete…").click()
        await dialog.get_by_label("To be sure").fill("Eve")
        await dialog.get_by_role("button", name="Delete for good").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("must be the user's name")
        await dialog.get_by_label("To be sure").fill("eve")
        await shoot(page, tmp_path, "desk-admin-delete")
        await dialog.get_by_role("button", name="Delete for good").click()
        await page.wait_for_url("**/admin/people")
        await expect(page.get_by_role("link", name="eve")).to_have_count(0)
        await page.get_by_role("link", name="Audit log").click()
        await expect(page.locator(".log tbody tr").first).to_contain_text("Deleted a person")
        await shoot(page, tmp_path, "desk-admin-acts")


async def _change_key(page: Page, proxy: RunningProxy, tmp_path: Path) -> None:
    """Give the laptop's key a budget and none again: the dialog shows what counts, and faults beside their field."""
    row, dialog = page.get_by_role("row", name="laptop"), page.get_by_role("dialog")
    change = row.get_by_role("button", name="Change")
    await change.click()
    await expect(dialog).to_contain_text("Change laptop")
    await expect(dialog.get_by_label("gpt-image-2", exact=True)).to_be_checked()
    budget = dialog.get_by_role("spinbutton", name="USD a day")
    await dialog.get_by_role("combobox", name="USD a day").select_option("Its own:")
    await page.keyboard.type("1e12")
    await page.keyboard.press("Enter")
    await expect(budget).to_have_accessible_description(re.compile("limits.usd_per_day.*should be less than"))
    await expect(budget).to_be_focused()
    await shoot(page, tmp_path, "desk-admin-key")
    await budget.fill("2.5")
    await expect(dialog.get_by_role("alert")).to_have_count(0)
    await dialog.get_by_label("gpt-image-2", exact=True).uncheck()
    await page.keyboard.press("Enter")
    await page.get_by_text("Saved.").wait_for()
    await expect(change).to_be_focused()
    await expect(row).to_contain_text("USD a day: 2.5")
    await change.click()
    await expect(budget).to_have_value("2.5")
    await dialog.get_by_role("combobox", name="USD a day").select_option("None of its own")
    await dialog.get_by_role("button", name="Save").click()
    await expect(row).to_contain_text("everything")
    kept = {key["name"]: key for key in (await proxy.get("/v1/admin/keys?user=eve", ADMIN_KEY))["data"]}
    assert (kept["laptop"]["limits"], kept["laptop"]["models"]) == ({}, [])


async def test_nobody_locks_themselves_out_and_keys_leave_with_the_page(
    chromium: Chromium, proxy: RunningProxy, tmp_path: Path
) -> None:
    """What the API refuses is told where it was asked for; a page that is left forgets the key it showed."""
    status, _, _ = await proxy.request(
        "POST", "/v1/admin/users", json={"name": "eve", "role": "admin"}, key=ADMIN_KEY
    )
    assert status == 200
    made = await proxy.session.post(
        f"{proxy.url}/v1/admin/keys",
        json={"user": "eve"},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
    )
    key = (await made.json())["key"]
    async with watched(chromium, proxy, "phone") as page:
        await signed_in(page, key)
        await page.goto("/admin/people/eve")
        await page.get_by_role("button", name="Disable").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Disable").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("you would lock yourself out")
        await shoot(page, tmp_path, "phone-admin-refused")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Disable")).to_be_focused()
        await page.get_by_role("button", name="Add a key").click()
        await dialog.get_by_role("button", name="Add a key").click()
        shown = await shown_key(page)
        assert await is_good(proxy, shown)
        await page.goto("/usage")
        await page.go_back()
        values = await page.evaluate("[...document.querySelectorAll('input')].map(input => input.value)")
        assert shown not in str(values) + await page.content()
        # One's own key, rotated: the new text is shown, and then one has to sign in again.
        row = page.get_by_role("row").filter(has=page.get_by_role("button", name="Rotate")).nth(1)
        await row.get_by_role("button", name="Rotate").click()
        await dialog.get_by_label("The old text works for").select_option("no longer")
        await dialog.get_by_role("button", name="Rotate").click()
        rotated = await shown_key(page)
        await page.get_by_role("button", name="I have kept it").click()
        await page.wait_for_url("**/login**")

        async def is_dead() -> bool:
            return not await is_good(proxy, key)

        await eventually(is_dead)
        assert await is_good(proxy, rotated)
