"""The data classes that rooms hand each other, and the ids that name them.

Times are aware UTC datetimes at the edges and integer microseconds since the epoch (`…_us`) in the index; money is
always integer micros (US dollars × 10⁶).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import uuid_utils

IdKind = Literal["img", "req", "key", "usr", "shr", "cor", "act", "col"]
Role = Literal["admin", "member", "viewer"]
Kind = Literal["generation", "edit", "variation"]
Visibility = Literal["private", "team", "public"]
CollectionVisibility = Literal["private", "team"]
State = Literal["admitted", "sent", "done", "failed", "unknown"]
PartyKind = Literal["team", "user", "key"]

ROLES: tuple[Role, ...] = ("admin", "member", "viewer")
VISIBILITIES: tuple[Visibility, ...] = ("private", "team", "public")
COLLECTION_VISIBILITIES: tuple[CollectionVisibility, ...] = ("private", "team")
KINDS: tuple[Kind, ...] = ("generation", "edit", "variation")
MOST = 10**9
"""No limit of anything is as high: whoever writes one means something else."""
TEAM = "team"
"""The account of everybody together."""

T = TypeVar("T")

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_ID = re.compile(r"(img|req|key|usr|shr|cor|act|col)_[0-9a-v]{26}")


def base32hex(number: int, characters: int) -> str:
    """Write a number in lower-case base32hex, most significant digit first, so that text sorts as the number does.

    `characters` is even: two are written at a time.
    """
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(5 * characters - 10, -1, -10)])


def new_id(kind: IdKind) -> str:
    """Make an id that sorts by its time of making: the kind, then the 128 bits of a UUIDv7, left-aligned in 130."""
    return f"{kind}_{base32hex(uuid_utils.uuid7().int << 2, 26)}"


def is_id(text: str, kind: IdKind) -> bool:
    """Tell whether `text` is a well-formed id of this kind; nothing else may reach a path or a query."""
    return _ID.fullmatch(text) is not None and text.startswith(kind)


def id_time_us(identifier: str) -> int:
    """Read the time of making out of an id, in µs since the epoch (a UUIDv7 keeps milliseconds)."""
    return (int(identifier[4:14], 32) >> 2) * 1000


def id_floor(kind: IdKind, at_us: int) -> str:
    """Give the smallest id of its kind that could be made at or after `at_us`: the half-open bound of a time filter."""
    milliseconds = max(0, -(-at_us // 1000))
    return f"{kind}_{base32hex(milliseconds << 82, 26)}"


def id_day(identifier: str) -> date:
    """Give the UTC day of an id, which is the folder that its images live in."""
    return to_datetime(id_time_us(identifier)).date()


def to_datetime(at_us: int) -> datetime:
    """Turn µs since the epoch into an aware UTC datetime."""
    return datetime.fromtimestamp(at_us / 1_000_000, UTC)


class Period(TypedDict):
    """The UTC day and month that a moment belongs to, as accounts write them: `2026-11-21` and `2026-11`."""

    day: str
    month: str


def period(at_us: int) -> Period:
    """Give the day and month that a call of this moment is booked in."""
    day = _day(at_us // 86_400_000_000)
    return {"day": day, "month": day[:7]}


@lru_cache(maxsize=8)
def _day(days: int) -> str:
    return (date(1970, 1, 1) + timedelta(days)).isoformat()


def bounds(day_or_month: str) -> tuple[int, int]:
    """Give when a day (`2026-11-21`) or a month (`2026-11`) begins and when the next one does, in µs."""
    year, month, *day = map(int, day_or_month.split("-"))
    begin = datetime(year, month, day[0] if day else 1, tzinfo=UTC)
    end = begin + timedelta(days=1) if day else datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return int(begin.timestamp()) * 1_000_000, int(end.timestamp()) * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Ceilings of a user, of a key or of the team; None means no limit. Money is USD as the operator writes it."""

    requests_per_minute: int | None = None
    images_per_minute: int | None = None
    concurrent_requests: int | None = None
    images_per_day: int | None = None
    usd_per_day: float | None = None
    usd_per_month: float | None = None
    usd_total: float | None = None

    @property
    def has_budget(self) -> bool:
        """Whether money is limited."""
        return any(usd is not None for usd in (self.usd_per_day, self.usd_per_month, self.usd_total))


NO_LIMITS = Limits()


class Party(NamedTuple):
    """Somebody whose limits a call must keep. `account` is the subject of its account."""

    kind: PartyKind
    account: str
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who may use the proxy. `key_id` is the key that this caller showed; None inside the house."""

    id: str
    name: str
    role: Role
    limits: Limits = NO_LIMITS
    disabled: bool = False
    key_id: str | None = None
    key_limits: Limits = NO_LIMITS
    key_models: tuple[str, ...] = ()
    """The only models that this caller's key may use; empty = all that anyone may."""
    team_limits: Limits = NO_LIMITS

    @property
    def is_admin(self) -> bool:
        """Whether this user sees and may change everything."""
        return self.role == "admin"

    @property
    def parties(self) -> tuple[Party, ...]:
        """All whose limits this caller's calls must keep, in the order of `accounts_of`."""
        team, user = Party("team", TEAM, self.team_limits), Party("user", self.id, self.limits)
        return (
            (team, user) if self.key_id is None else (team, user, Party("key", self.key_id, self.key_limits))
        )

    @property
    def has_budget(self) -> bool:
        """Whether money is limited for this caller, so that nothing may be bought whose price is unknown."""
        return any(party.limits.has_budget for party in self.parties)


def accounts_of(user_id: str, key_id: str | None) -> tuple[str, ...]:
    """Name the accounts that a call of this user with this key moves, in the order in which they are locked.

    The team's first: who holds it is alone, so that no two transactions can wait for each other.
    """
    return (TEAM, user_id) if key_id is None else (TEAM, user_id, key_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One image of a call as it lies on disk: what the manifest and the index say of its bytes."""

    id: str
    position: int
    file: str
    mime: str
    size_bytes: int
    sha256: str
    width: int | None
    height: int | None
    revised_prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One stored picture as the index knows it, with what its request knows. `ref` is its address in storage."""

    id: str
    request_id: str
    position: int
    owner_id: str
    owner_name: str
    ref: str
    mime: str
    size_bytes: int
    width: int | None
    height: int | None
    sha256: str
    revised_prompt: str | None
    visibility: Visibility
    link_epoch: int
    created_us: int
    deleted_us: int | None
    kind: Kind
    model: str
    prompt: str | None
    params: dict[str, Any]
    cost_micros: int | None
    siblings: int
    """How many images the request made: a picture's cost is its share of the call's."""
    expires_us: int | None = None
    damage: str | None = None
    """What `pixie verify` found wrong with its bytes: they are not served until it finds them good again."""
    tags: tuple[str, ...] = ()
    placeholder: bytes | None = None
    """A WebP of 16 pixels that stands in its place while it loads. None: not made yet, or it can't be decoded."""
    is_animated: bool | None = None
    """Whether it has more frames than one. None: nobody has looked at it yet."""

    @property
    def is_looked_at(self) -> bool:
        """Whether the thumbnail worker knows what it is."""
        return self.is_animated is not None

    @property
    def is_undecodable(self) -> bool:
        """Whether the thumbnail worker could make nothing of it."""
        return self.is_looked_at and self.placeholder is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A named set of images."""

    id: str
    owner_id: str
    owner_name: str
    name: str
    visibility: CollectionVisibility
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list; `has_more` tells whether the same walk goes on."""

    items: list[T]
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A ledger row at its start: one paid request, admitted and about to be sent. `process` owns its spool folder."""

    id: str
    user_id: str
    key_id: str | None
    kind: Kind
    requested_model: str | None
    model: str
    prompt: str | None
    params: dict[str, Any]
    images_asked: int
    is_stream: bool
    fingerprint: str
    idempotency_key: str | None
    hold_micros: int
    process: str
    created_us: int
    parents: tuple[str, ...] = ()
    """The images of ours that it edits. What is read from the ledger goes without them: see `index.lineage`."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts that it moves."""
        return accounts_of(self.user_id, self.key_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a ledger row ends. `usage` is the upstream's own object; `flags` are short words such as `not_kept`."""

    request_id: str
    state: State
    settled_us: int
    cost_micros: int
    usage: dict[str, Any] | None = None
    skeleton: bytes | None = None
    error: str | None = None
    upstream_request_id: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What one subject (a user, a key or the team) has taken. Money in micros.

    `…_tat_us` are the limiter's theoretical arrival times (GCRA): the bucket is full when they lie in the past.
    """

    subject: str
    requests_tat_us: int = 0
    images_tat_us: int = 0
    in_flight: int = 0
    day: str = ""
    spent_day_micros: int = 0
    images_day: int = 0
    month: str = ""
    spent_month_micros: int = 0
    spent_life_micros: int = 0
    held_micros: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A ledger entry that an admin made: so many micros more or less were spent. `booked_us` is when they count.

    Without a user it is the team's alone. `request_id` is the call that it sets right, where it is one's.
    """

    id: str
    user_id: str | None
    key_id: str | None
    request_id: str | None
    change_micros: int
    reason: str
    booked_us: int
    created_us: int

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts that it moves."""
        return (TEAM,) if self.user_id is None else accounts_of(self.user_id, self.key_id)
