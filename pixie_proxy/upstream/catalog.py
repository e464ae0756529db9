"""Which model a request means: the default, the aliases, and what the operator allows."""

from __future__ import annotations

from collections.abc import Collection

from pixie_proxy.config import ModelSettings
from pixie_proxy.errors import ModelNotAllowed

_GPT_IMAGE = ("gpt-image-", "chatgpt-image-")


class Catalog:
    """The operator's choice of models."""

    def __init__(self, settings: ModelSettings, priced: frozenset[str]) -> None:
        """Know the settings and the models that have a price."""
        self._settings = settings
        self._priced = priced

    def resolve(self, requested: str | None, key_models: Collection[str] = ()) -> str:
        """Give the model that a request is sent to, if the caller's key is for it. Raises ModelNotAllowed."""
        name, model = requested or self._settings.default, self.named(requested)
        for allowed, whose in (
            (self._settings.allow, "is not offered here"),
            (key_models, "is not for this key"),
        ):
            if allowed and model not in allowed and name not in allowed:
                message = f"The model '{name}' {whose}. Offered: {', '.join(sorted(allowed))}."
                raise ModelNotAllowed(message, param="model")
        return model

    def listed(self, key_models: Collection[str] = ()) -> list[str]:
        """Name the models to list: those that are priced or allowed, and the aliases that lead to one of them.

        `key_models` narrow it to what the caller's key is for.
        """
        models = set(self._settings.allow) or {self._settings.default, *self._priced}
        aliases = {alias for alias, model in self._settings.aliases.items() if model in models}
        listed = models | aliases
        if key_models:
            listed = {name for name in listed if name in key_models or self.target(name) in key_models}
        return sorted(listed)

    def named(self, requested: str | None) -> str:
        """Give the model that a request names, offered or not."""
        return self.target(requested or self._settings.default)

    def known(self) -> set[str]:
        """Name the models that the operator or the price list speaks of: there is an end of them."""
        return {
            self._settings.default,
            *self._settings.allow,
            *self._settings.aliases.values(),
            *self._priced,
        }

    def target(self, name: str) -> str:
        """Follow an alias."""
        return self._settings.aliases.get(name, name)

    @staticmethod
    def is_gpt_image(model: str) -> bool:
        """Tell whether a model always answers in base64 and refuses `response_format`."""
        return model.startswith(_GPT_IMAGE)
