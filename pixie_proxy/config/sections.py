"""What can be set: every section with its fields, defaults and meanings, checked by pydantic.

Every field's description feeds `config.example.yaml` and `docs/configuration.md`; tests compare them.
"""

from __future__ import annotations

import hashlib
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from pixie_proxy.config.prices import PriceList
from pixie_proxy.config.section import Section
from pixie_proxy.records import MOST, Role, Visibility


def _http_url(url: str) -> str:
    """Accept an absolute http(s) URL without query; a trailing slash is dropped."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        message = "must be a URL such as https://images.example.org, without a query"
        raise ValueError(message)
    return url.rstrip("/")


def _key_prefix(prefix: str) -> str:
    """Accept the names of folders, such as team/images; slashes around them are dropped."""
    prefix = prefix.strip("/")
    if prefix and not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", prefix, re.ASCII):
        message = "must be folders such as team/images: letters, digits, - _ . and single slashes"
        raise ValueError(message)
    return prefix


def _network(network: str) -> str:
    """Accept an address or a network. One with host bits may be a slip: 10.0.0.1/8 trusts more than it seems to."""
    try:
        ip_network(network)
    except ValueError:
        message = "must be an address such as 127.0.0.1 or a network such as 10.0.0.0/8"
        raise ValueError(message) from None
    return network


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Network = Annotated[str, AfterValidator(_network)]
Positive = Annotated[int, Field(gt=0)]
Ceiling = Annotated[int, Field(gt=0, lt=MOST)]
Budget = Annotated[float, Field(ge=0, lt=MOST, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


_NO_KEYS = frozenset(hashlib.sha256(text).hexdigest() for text in (b"", b"\n"))
"""What a shell makes of a key that was not there: who signs in without one would have it."""


class ServerSettings(Section):
    """Where we listen and where our own data lives."""

    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 = every interface"
    )
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 = any free one")
    public_url: HttpUrl | None = Field(
        None,
        description="The address people reach us at, such as https://images.example.org; links start with it",
    )
    data_dir: Path = Field(
        Path("data"), description="Folder for the index, the spool and (by default) the images"
    )
    drain_s: PositiveSeconds = Field(
        900, description="After SIGTERM, how long running calls may take to end, in seconds"
    )
    spool_max_gb: Annotated[float, Field(ge=0.1, allow_inf_nan=False)] | None = Field(
        None,
        description="How much may wait in the spool for a storage that is away, in GB; new calls are refused from 80 % "
        "of it on; empty = as much as its disk has room for",
    )
    trusted_proxies: list[Network] = Field(
        [],
        description="Front proxies whose X-Forwarded-For is believed: addresses or networks such as 10.0.0.0/8",
    )
    require_existing: bool = Field(
        default=False,
        description="Refuse to start on an empty data directory (a volume that was not mounted)",
    )

    @property
    def spool_max_bytes(self) -> int | None:
        """The spool's cap in bytes."""
        return None if self.spool_max_gb is None else int(self.spool_max_gb * 1e9)


class UpstreamSettings(Section):
    """The server behind us, and the operator's key for it."""

    base_url: HttpUrl = Field("https://api.openai.com/v1", description="Where calls are relayed to")
    api_key: SecretStr | None = Field(
        SecretStr("${OPENAI_API_KEY}"), description="The operator's own key; never leaves for anywhere else"
    )
    organization: str | None = Field(None, description="Sent as OpenAI-Organization")
    project: str | None = Field(None, description="Sent as OpenAI-Project")
    connect_timeout_s: PositiveSeconds = Field(10, description="Longest wait for a connection, in seconds")
    idle_timeout_s: PositiveSeconds = Field(
        900,
        description="Longest silence of the upstream, in seconds; a call for n images may take n + 1 times that",
    )
    max_retries: int = Field(
        2, ge=0, le=10, description="How often a call is sent again when the upstream surely did not take it"
    )
    proxy_url: HttpUrl | None = Field(None, description="HTTP proxy for calls to the upstream")


class ModelSettings(Section):
    """Which models people may use, under which names and prices."""

    default: str = Field("gpt-image-2", min_length=1, description="Used when a request names no model")
    aliases: dict[str, str] = Field(
        {}, description='Other names for models, such as {"dall-e-3": "gpt-image-2"}'
    )
    allow: list[str] = Field([], description="The only models that may be used; empty = all")
    prices: dict[str, PriceList] = Field(
        {},
        description="Prices that go over the built-in ones: MODEL: {usd_per_image: 0.04}, or per million tokens;"
        " or a list of such, each with its day: since",
    )

    @property
    def own_prices(self) -> dict[str, list[dict[str, Any]]]:
        """The operator's prices as plain values, for `pricing.load_prices`."""
        return {
            name: [price.model_dump(exclude_none=True) for price in prices]
            for name, prices in self.prices.items()
        }


class S3Settings(Section):
    """A bucket on AWS or any compatible server."""

    bucket: str | None = Field(None, min_length=3, description="Bucket name; the bucket must exist")
    prefix: Annotated[str, AfterValidator(_key_prefix)] = Field(
        "", description="Folder in the bucket that all objects lie in; empty = none"
    )
    region: str = Field("us-east-1", min_length=1, description="Region of the bucket")
    endpoint_url: HttpUrl | None = Field(None, description="Address of a compatible server; empty = AWS")
    access_key_id: str | None = Field(
        None, description="Access key; empty = AWS credentials of the environment or the machine's role"
    )
    secret_access_key: SecretStr | None = Field(None, description="Secret key")
    serve: Literal["stream", "redirect"] = Field(
        "stream",
        description="stream = images go through the proxy; redirect = readers get a short-lived link to the bucket",
    )

    @model_validator(mode="after")
    def _whole_key(self) -> Self:
        """Want both halves of a key, or none."""
        if (self.access_key_id is None) != (self.secret_access_key is None):
            message = "give both access_key_id and secret_access_key, or neither"
            raise ValueError(message)
        return self


class StorageSettings(Section):
    """Where images are kept."""

    kind: Literal["local", "s3"] = Field("local", description="local = a folder, s3 = a bucket")
    path: Path | None = Field(None, description="Folder for kind local; empty = <data_dir>/storage")
    s3: S3Settings = Field(S3Settings(), description="Settings for kind s3")

    @model_validator(mode="after")
    def _named_bucket(self) -> Self:
        """Want a bucket where one is used."""
        if self.kind == "s3" and self.s3.bucket is None:
            message = "kind s3 needs s3.bucket"
            raise ValueError(message)
        return self


class IndexSettings(Section):
    """The database of users, requests and images."""

    url: SecretStr | None = Field(
        None, description="Empty = SQLite at <data_dir>/pixie.db; postgresql://… for several hosts"
    )
    connections: int = Field(
        9,
        ge=2,
        le=100,
        description="Connections to PostgreSQL of each process, at most; a third of them read",
    )


class LimitSettings(Section):
    """Ceilings of each user, unless the user has its own; empty = no limit."""

    requests_per_minute: Ceiling | None = Field(60, description="Requests a minute (token bucket)")
    images_per_minute: Ceiling | None = Field(60, description="Images a minute; a request takes its n")
    concurrent_requests: Ceiling | None = Field(32, description="Requests at once")
    images_per_day: Ceiling | None = Field(None, description="Images in a calendar day, UTC")
    usd_per_day: Budget | None = Field(None, description="Spend in a calendar day, UTC, in USD")
    usd_per_month: Budget | None = Field(None, description="Spend in a calendar month, UTC, in USD")
    usd_total: Budget | None = Field(
        None, description="Spend ever, in USD: prepaid, raised by pixie user topup"
    )


class TeamSettings(LimitSettings):
    """Ceilings of everybody together, beside those of each user and each key; empty = no limit."""

    requests_per_minute: Ceiling | None = Field(None, description="Requests a minute (token bucket)")
    images_per_minute: Ceiling | None = Field(None, description="Images a minute; a request takes its n")
    concurrent_requests: Ceiling | None = Field(None, description="Requests at once")
    usd_total: Budget | None = Field(None, description="Spend ever, in USD")


class DeclaredUser(Section):
    """A user written down in the settings; wins over the same name in the index."""

    name: str = Field(min_length=1, max_length=64, description="Name, as lists show it")
    key: SecretStr | None = Field(None, min_length=8, description="Key in clear (prefer a ${NAME} reference)")
    key_sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key in hex, instead of the key itself"
    )
    role: Role = Field("member", description="admin, member or viewer (reads only)")
    limits: LimitSettings | None = Field(None, description="Own limits; those left out are the general ones")

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        """Want exactly one way to know the user."""
        if (self.key is None) == (self.key_sha256 is None):
            message = "give either key or key_sha256"
            raise ValueError(message)
        if self.digest in _NO_KEYS:
            message = "that is the SHA-256 of an empty text, not of a key"
            raise ValueError(message)
        return self

    @property
    def digest(self) -> str:
        """The SHA-256 that the key is known by."""
        if self.key is None:
            return self.key_sha256 or ""
        return hashlib.sha256(self.key.get_secret_value().encode("utf-8", "surrogateescape")).hexdigest()


class UploadSettings(Section):
    """What a request may carry."""

    max_file_mb: Positive = Field(50, description="Largest file of a form, in MB")
    max_files: Positive = Field(16, description="Most input images of one request")
    max_json_mb: Positive = Field(32, description="Largest JSON body, in MB")
    allow_file_id: bool = Field(
        default=False, description="Let users name files of the operator's account by file_id"
    )


class GallerySettings(Section):
    """Who sees which images, and for how long they stay."""

    visibility: Visibility = Field("team", description="Of new images: private, team or public")
    add_url: bool | None = Field(
        None,
        description="Add a link beside b64_json when response_format is absent; empty = on if public_url is set",
    )
    allow_public: bool = Field(default=False, description="Let anyone open public images at /public")
    retention_days: Positive | None = Field(
        None, description="Put images into the trash after so many days; empty = never"
    )
    trash_days: Positive = Field(30, description="How long images in the trash can be restored, in days")
    purge_at_once: Positive | None = Field(
        None, description="Most images deleted for good in one go; empty = 100, or 1 % of all if that is more"
    )
    thumbnail_px: list[Annotated[int, Field(ge=16, le=2048)]] = Field(
        [256, 512], min_length=1, description="Thumbnail sizes, longest edge in pixels"
    )


class Settings(Section):
    """Everything an operator can set."""

    server: ServerSettings = ServerSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    models: ModelSettings = ModelSettings()
    storage: StorageSettings = StorageSettings()
    index: IndexSettings = IndexSettings()
    users: list[DeclaredUser] = Field([], description="Users declared here, beside those of `pixie user add`")
    limits: LimitSettings = LimitSettings()
    team: TeamSettings = TeamSettings()
    uploads: UploadSettings = UploadSettings()
    gallery: GallerySettings = GallerySettings()

    @field_validator("users")
    @classmethod
    def _distinct(cls, users: list[DeclaredUser]) -> list[DeclaredUser]:
        """Refuse two users of one name or one key: which of them counts would be chance."""
        names = [user.name for user in users]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            message = f"declared twice: {', '.join(twice)}"
            raise ValueError(message)
        digests = [user.digest for user in users]
        if alike := [user.name for user in users if digests.count(user.digest) > 1]:
            message = f"have the same key: {', '.join(alike)}"
            raise ValueError(message)
        return users

    @property
    def storage_path(self) -> Path:
        """The root of local storage."""
        return self.storage.path or self.server.data_dir / "storage"

    def link_base(self, port: int) -> str:
        """Give what links start with, where we listen on `port`; never a request's Host, which anyone can write."""
        host = self.server.host if ":" not in self.server.host else f"[{self.server.host}]"
        return self.server.public_url or f"http://{host}:{port}"
