"""Settings: read once, checked once, frozen, self-describing. `sections` says what there is, `loading` reads it."""

from pixie_proxy.config.loading import load_settings
from pixie_proxy.config.prices import Price
from pixie_proxy.config.sections import (
    DeclaredUser,
    GallerySettings,
    LimitSettings,
    ModelSettings,
    S3Settings,
    Settings,
    TeamSettings,
    UploadSettings,
    UpstreamSettings,
)

__all__ = [
    "DeclaredUser",
    "GallerySettings",
    "LimitSettings",
    "ModelSettings",
    "Price",
    "S3Settings",
    "Settings",
    "TeamSettings",
    "UploadSettings",
    "UpstreamSettings",
    "load_settings",
]
