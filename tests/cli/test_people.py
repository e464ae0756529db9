"""`pixie user` and `pixie key`, as an admin types them."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

Pixie = Any


@pytest.fixture
def pixie(tmp_path: Path) -> Pixie:
    """Run `pixie` on a data directory of its own; returns exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "pixie_proxy", *arguments, "--data", str(tmp_path / "data")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def added(pixie: Pixie, name: str, *options: str) -> str:
    """Add a user and return its key."""
    code, out, err = pixie("user", "add", name, *options)
    assert code == 0, err
    return str(out.strip())


def test_the_readme_runs_as_printed(pixie: Pixie) -> None:
    """Every `$ pixie` line about people, in its order; the key that is revoked is the one that was made."""
    text = Path("README.md").read_text().split("### People")[1].split("\n### ")[0].split("\n## ")[0]
    lines = re.findall(r"^\$ pixie (.*)$", text, re.MULTILINE)
    assert len(lines) >= 4
    key = ""
    for line in lines:
        arguments = shlex.split(line)
        if arguments[:2] == ["key", "revoke"]:
            arguments[2] = key[:7]
        code, out, err = pixie(*arguments)
        assert code == 0, (line, err)
        key = out.strip() if out.startswith("px-") else key


def test_a_key_is_shown_once_and_stored_as_a_digest(pixie: Pixie, tmp_path: Path) -> None:
    """Standard output is the key and nothing else; the database does not hold it."""
    key = added(pixie, "anna")
    assert (key[:3], len(key), "\n" in key) == ("px-", 46, False)
    assert key.encode() not in (tmp_path / "data" / "pixie.db").read_bytes()
    _, out, _ = pixie("user", "show", "anna")
    assert key not in out


def test_users_are_listed_with_role_state_and_limits(pixie: Pixie) -> None:
    """Tables for people, JSON for programs."""
    added(pixie, "anna", "--role", "admin", "--concurrent", "2", "--images-per-minute", "none")
    assert "admin" in pixie("user", "list")[1]
    (user,) = json.loads(pixie("user", "list", "--json")[1])
    assert (user["name"], user["role"], user["disabled"]) == ("anna", "admin", False)
    assert user["limits"] == {"concurrent_requests": 2, "images_per_minute": None}


def test_limits_are_set_and_taken_back(pixie: Pixie) -> None:
    """`none` is no limit, `default` the general one again, a number the user's own."""
    added(pixie, "ben", "--concurrent", "2")
    pixie(
        "user",
        "set",
        "ben",
        "--concurrent",
        "default",
        "--requests-per-minute",
        "7",
        "--usd-per-month",
        "1.5",
    )
    said = json.loads(pixie("user", "show", "ben", "--json")[1])
    assert said["limits"] == {"requests_per_minute": 7, "usd_per_month": 1.5}


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "add", "anna"),
        ("user", "add", "me"),
        ("user", "add", " x"),
        ("user", "add", "x" * 65),
        ("user", "add", "ben", "--role", "owner"),
        ("user", "add", "ben", "--concurrent", "0"),
        ("user", "add", "ben", "--concurrent", "1.5"),
        ("user", "add", "ben", "--usd-per-day", "nan"),
        ("user", "set", "anna"),
        ("user", "set", "anna", "--role", "member"),
        ("user", "disable", "anna"),
        ("user", "show", "zoe"),
        ("key", "add", "zoe"),
        ("key", "add", "anna", "--expires-days", "0"),
        ("key", "revoke", "key_nothing"),
    ],
)
def test_bad_input_is_refused_with_code_2(pixie: Pixie, arguments: tuple[str, ...]) -> None:
    """Nothing is changed; the last admin can neither be disabled nor demoted."""
    added(pixie, "anna", "--role", "admin")
    before = pixie("user", "list", "--json")[1]
    code, out, err = pixie(*arguments)
    assert (code, out) == (2, "")
    assert err
    assert pixie("user", "list", "--json")[1] == before


def test_a_name_of_64_characters_is_the_longest(pixie: Pixie) -> None:
    """The other side of the limit."""
    assert added(pixie, "x" * 64).startswith("px-")


def test_a_user_has_several_keys_each_revoked_alone(pixie: Pixie, tmp_path: Path) -> None:
    """By id or by its shown beginning; a revoked key can't be revoked again."""
    added(pixie, "anna")
    pixie("key", "add", "anna", "--label", "ci", "--expires-days", "3")
    first, second = json.loads(pixie("key", "list", "anna", "--json")[1])
    assert (first["expires"], second["name"], second["expires"] is None) == (None, "ci", False)
    assert pixie("key", "revoke", first["prefix"])[0] == 0
    assert pixie("key", "revoke", first["id"])[0] == 2
    keys = json.loads(pixie("key", "list", "--json")[1])
    assert [key["revoked"] is None for key in keys] == [False, True]
    with sqlite3.connect(tmp_path / "data" / "pixie.db") as database:
        assert database.execute("SELECT count(*) FROM keys").fetchone() == (2,)
    database.close()


def test_limits_of_users_and_keys_are_set_and_lifted(pixie: Pixie) -> None:
    """Every limit, for a user and for a key of its own; 'none' and 'default' lift one."""
    options = [
        "--requests-per-minute", "9", "--images-per-minute", "8", "--concurrent", "7", "--images-per-day", "6",
        "--usd-per-day", "0.5", "--usd-per-month", "4", "--usd-total", "3",
    ]  # fmt: skip
    limits = {
        "requests_per_minute": 9,
        "images_per_minute": 8,
        "concurrent_requests": 7,
        "images_per_day": 6,
        "usd_per_day": 0.5,
        "usd_per_month": 4,
        "usd_total": 3,
    }
    added(pixie, "anna", *options)
    key = pixie("key", "add", "anna", "--label", "ci", *options)[1].strip()
    (user,) = json.loads(pixie("user", "list", "--json")[1])
    first, second = json.loads(pixie("key", "list", "--json")[1])
    assert (user["limits"], first["limits"], second["limits"]) == (limits, {}, limits)
    changed = json.loads(
        pixie("key", "set", key[:7], "--usd-total", "none", "--images-per-day", "default", "--json")[1]
    )
    assert changed["limits"]["usd_total"] is None
    assert "images_per_day" not in changed["limits"]
    (topped,) = [json.loads(pixie("user", "topup", "anna", "1.25", "--json")[1])]
    assert topped["limits"]["usd_total"] == 4.25


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e9", "0x1", ""])
def test_a_limit_that_is_none_is_refused(pixie: Pixie, value: str) -> None:
    """Neither below nothing, nor no number, nor beyond all sense; nobody is added."""
    assert pixie("user", "add", "anna", "--usd-per-day", value)[0] == 2
    assert json.loads(pixie("user", "list", "--json")[1]) == []


def test_a_correction_is_told_and_refused(pixie: Pixie) -> None:
    """More can always be booked; less only where it was spent."""
    added(pixie, "anna")
    made = json.loads(pixie("usage", "correct", "anna", "--usd", "0.42", "--reason", "r", "--json")[1])
    assert (made["usd"], made["reason"], made["request_id"]) == (0.42, "r", None)
    assert pixie("usage", "correct", "anna", "--usd", "-0.42", "--reason", "r")[0] == 0
    code, _, err = pixie("usage", "correct", "anna", "--usd", "-0.01", "--reason", "r")
    assert code == 2
    assert "more than was spent" in err
