"""Who changes accounts, and the log of it: every act leaves a line, in the transaction of the act itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pixie_proxy.index import Tx, acts
from pixie_proxy.index.acts import Act
from pixie_proxy.records import User, new_id


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who changes accounts. None is whoever can run commands on the machine itself."""

    user_id: str | None = None
    key_id: str | None = None

    @classmethod
    def of(cls, user: User) -> Actor:
        """Give the actor that a caller is."""
        return cls(user.id, user.key_id)


COMMAND_LINE = Actor()


def note(
    tx: Tx,
    by: Actor,
    action: str,
    *,
    user_id: str | None,
    key_id: str | None = None,
    details: Mapping[str, object] | None = None,
) -> None:
    """Write down an act. `details` tell what was changed, never a secret and never a name."""
    act = Act(
        id=new_id("act"),
        action=action,
        actor_id=by.user_id,
        actor_key_id=by.key_id,
        user_id=user_id,
        key_id=key_id,
        details=dict(details or {}),
    )
    acts.insert(tx, act)


def changes(**fields: tuple[object, object]) -> dict[str, object]:
    """Tell, of fields as (before, after), those that differ."""
    return {name: {"from": was, "to": now} for name, (was, now) in fields.items() if was != now}
