"""What the tests of /openapi.json share: the document of a running proxy, and a validator for what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from tests.support.proxy import ADMIN_KEY, RunningProxy


@dataclass(frozen=True, slots=True)
class Description:
    """The document, and what it promises of answers."""

    document: dict[str, Any]

    def operations(self) -> dict[str, dict[str, Any]]:
        """Give what is said of each address, as `GET /v1/me`."""
        return {
            f"{method.upper()} {path}": operation
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def check(self, address: str, status: int, content_type: str, body: Any) -> None:
        """See that an answer is as it is described; `body` is parsed where it is JSON."""
        responses = self.operations()[address]["responses"]
        content = responses.get(str(status), responses.get("default"))["content"]
        schema = content[content_type.partition(";")[0]]["schema"]
        if content_type == "application/json":
            whole = {"components": self.document["components"], **schema}
            jsonschema_rs.Draft202012Validator(whole, validate_formats=True).validate(body)


async def described(proxy: RunningProxy) -> Description:
    return Description(await proxy.get("/openapi.json", ADMIN_KEY))
