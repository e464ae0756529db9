"""The demo upstream's errors, in OpenAI's words and envelope."""

from __future__ import annotations

from typing import Any

USER_FAULT = "image_generation_user_error"
REQUEST_FAULT = "invalid_request_error"


class Refusal(Exception):
    """A request that the real service would refuse too."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None,
        param: str | None = None,
        type: str = REQUEST_FAULT,
        status: int = 400,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Keep the answer; `details` are `moderation_details`."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.type = type
        self.status = status
        self.details = details

    def error(self) -> dict[str, Any]:
        """Give the `error` object."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        if self.details:
            error["moderation_details"] = self.details
        return error


def moderation_blocked(request_id: str, stage: str) -> Refusal:
    """Refuse a prompt (`stage` input) or a picture (output) as the safety system does."""
    return Refusal(
        "Your request was rejected by the safety system. If you believe this is an error, contact us at"
        f" help.openai.com and include the request ID {request_id}.",
        code="moderation_blocked",
        type=USER_FAULT,
        details={"moderation_stage": stage, "categories": ["other"]},
    )
