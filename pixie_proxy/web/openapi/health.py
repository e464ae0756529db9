"""Health: is it alive, would it take a call, its numbers, and this description."""

from __future__ import annotations

from pixie_proxy.web.openapi.words import (
    OPEN,
    TEXT,
    Operation,
    Schema,
    Subject,
    json,
    list_of,
    one_of,
    record,
)

_TROUBLE: dict[str, Schema] = {"reason": TEXT, "message": TEXT}
_READY: Schema = {
    **record(status=one_of(["ready"]), degraded=list_of(record(**_TROUBLE))),
    "required": ["status"],
}

HEALTH = Subject(
    tag="Health",
    operations={
        "GET /healthz": Operation(answer=json(record(status=one_of(["ok"])))),
        "GET /readyz": Operation(
            answer=json(_READY), also={503: json(record(status=one_of(["not_ready"]), **_TROUBLE))}
        ),
        "GET /metrics": Operation(answer={"text/plain": TEXT, "application/openmetrics-text": TEXT}),
        "GET /openapi.json": Operation(answer=json(OPEN)),
    },
)
