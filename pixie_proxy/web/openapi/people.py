"""People: who one is here; and users, keys and acts for admins."""

from __future__ import annotations

from typing import Any

from pixie_proxy.accounts.keyring import MAX_MODELS, MAX_OVERLAP_S, USUAL_OVERLAP_S
from pixie_proxy.config import LimitSettings
from pixie_proxy.errors import NotFound
from pixie_proxy.records import ROLES
from pixie_proxy.web.admin import MAX_LIFETIME_S
from pixie_proxy.web.fields import MAX_TEXT
from pixie_proxy.web.openapi.words import (
    BOOLEAN,
    COUNT,
    OPEN,
    TEXT,
    TIME_S,
    USD,
    Operation,
    Schema,
    Subject,
    change,
    id_of,
    json,
    list_of,
    nullable,
    one_of,
    page_of,
    record,
    ref,
    taken,
    text,
    walk,
)


def _limits() -> dict[str, Schema]:
    """Describe each limit as the settings check it."""
    found = LimitSettings.model_json_schema()["properties"]
    return {
        name: {"description": said["description"], "anyOf": said["anyOf"]} for name, said in found.items()
    }


_DEFAULT: Schema = {"const": "default", "description": "The general limit again."}
_LIMITS = _limits()
_OWN_LIMITS, _SET_LIMITS, _ALL_LIMITS = ref("OwnLimits"), ref("SetLimits"), ref("Limits")
_MODELS: Schema = {**list_of(text()), "maxItems": MAX_MODELS, "description": "The only ones; none = all."}
_NAME = text(MAX_TEXT)

_USER: dict[str, Any] = {
    "id": id_of("usr"),
    "object": one_of(["user"]),
    "created": TIME_S,
    "name": TEXT,
    "role": one_of(ROLES),
    "disabled": BOOLEAN,
    "declared": BOOLEAN,
    "own_limits": _OWN_LIMITS,
    "limits": _ALL_LIMITS,
    "in_flight": COUNT,
    "spent_today_usd": USD,
    "spent_month_usd": USD,
    "spent_usd": USD,
    "held_usd": USD,
}
_KEY: dict[str, Any] = {
    "id": id_of("key"),
    "object": one_of(["key"]),
    "created": TIME_S,
    "user": nullable(TEXT),
    "user_id": id_of("usr"),
    "name": TEXT,
    "prefix": TEXT,
    "declared": BOOLEAN,
    "limits": _OWN_LIMITS,
    "models": list_of(TEXT),
    "expires_at": nullable(TIME_S),
    "revoked_at": nullable(TIME_S),
    "old_text_until": nullable(TIME_S),
    "last_used_at": nullable(TIME_S),
}
_TOLD: Schema = {"type": "string", "description": "The key itself, told only now."}

PEOPLE = Subject(
    tag="People",
    holes={"user": {"type": "string", "description": "An id or a name."}, "key": id_of("key")},
    operations={
        "GET /v1/me": Operation(answer=json(ref("Me"))),
        "GET /v1/admin/users": Operation(query=walk("usr"), answer=json(page_of("User"))),
        "POST /v1/admin/users": Operation(
            body=json(taken("name", name=_NAME, role=one_of(ROLES), limits=_SET_LIMITS)),
            answer=json(ref("NewUser")),
        ),
        "GET /v1/admin/users/{user}": Operation(answer=json(ref("User"))),
        "POST /v1/admin/users/{user}": Operation(
            body=json(change(role=nullable(one_of(ROLES)), disabled=nullable(BOOLEAN), limits=_SET_LIMITS)),
            answer=json(ref("User")),
        ),
        "DELETE /v1/admin/users/{user}": Operation(
            query={"confirm": text()},
            needs=("confirm",),
            answer=json(
                record(id=id_of("usr"), object=one_of(["user"]), deleted={"const": True}, images=COUNT)
            ),
        ),
        "GET /v1/admin/keys": Operation(
            query={**walk("key"), "user": text()}, answer=json(page_of("Key")), errors=(NotFound,)
        ),
        "POST /v1/admin/keys": Operation(
            body=json(
                taken(
                    "user",
                    user=text(MAX_TEXT),
                    name=text(MAX_TEXT, 0),
                    expires_in_s=nullable({"type": "integer", "minimum": 1, "maximum": MAX_LIFETIME_S}),
                    limits=_SET_LIMITS,
                    models=nullable(_MODELS),
                )
            ),
            answer=json(ref("NewKey")),
            errors=(NotFound,),
        ),
        "POST /v1/admin/keys/{key}": Operation(
            body=json(change(limits=_SET_LIMITS, models=nullable(_MODELS))),
            answer=json(ref("Key")),
        ),
        "POST /v1/admin/keys/{key}/rotate": Operation(
            body=json(
                taken(
                    overlap_s=nullable(
                        {
                            "type": "integer",
                            "minimum": 0,
                            "maximum": MAX_OVERLAP_S,
                            "default": USUAL_OVERLAP_S,
                        }
                    )
                )
            ),
            answer=json(ref("NewKey")),
        ),
        "DELETE /v1/admin/keys/{key}": Operation(
            answer=json(record(id=id_of("key"), object=one_of(["key"]), revoked={"const": True}))
        ),
        "GET /v1/admin/acts": Operation(
            query={**walk("act"), "user": text(), "action": text()},
            answer=json(page_of("Act")),
            errors=(NotFound,),
        ),
    },
    schemas={
        "Limits": record(**_LIMITS),
        "OwnLimits": taken(**_LIMITS),
        "SetLimits": taken(
            **{name: {**said, "anyOf": [*said["anyOf"], _DEFAULT]} for name, said in _LIMITS.items()}
        ),
        "Me": record(
            id=id_of("usr"),
            object=one_of(["user"]),
            name=TEXT,
            role=one_of(ROLES),
            limits=_ALL_LIMITS,
            key_limits=_ALL_LIMITS,
            team_limits=_ALL_LIMITS,
        ),
        "User": record(**_USER),
        "NewUser": record(**_USER, first_key=ref("NewKey")),
        "Key": record(**_KEY),
        "NewKey": record(**_KEY, key=_TOLD),
        "Act": record(
            id=id_of("act"),
            object=one_of(["act"]),
            created=TIME_S,
            action=TEXT,
            actor=nullable(TEXT),
            actor_id=nullable(id_of("usr")),
            actor_key=nullable(id_of("key")),
            user=nullable(TEXT),
            user_id=nullable(id_of("usr")),
            key=nullable(id_of("key")),
            details=OPEN,
        ),
    },
)
