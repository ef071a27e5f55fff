"""Settings from the environment: ``TIDEMILL_<FIELD>``, ``TIDEMILL_<GROUP>__<FIELD>``; secrets may come from files."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill_shared.errors import ConfigurationError


class Group(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")


def _secret(value: SecretStr | None, file: Path | None, name: str) -> str | None:
    if value is not None:
        return value.get_secret_value()
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot read {file}: {error.strerror}") from None


class RedisSettings(Group):
    """Where Redis is."""

    url: str = "redis://127.0.0.1:6379/0"
    """``redis://host:port/db`` or ``unix:///path/to.sock?db=0``, without credentials."""
    username: str | None = None
    """ACL user; None is the default user."""
    password: SecretStr | None = None
    """Prefer the file."""
    password_file: Path | None = None
    """A file that holds the password and nothing else."""
    cluster: bool = False
    """The URL names any server of a Redis Cluster: each pipeline's streams lie on the master of their hash slot."""
    cluster_nodes: str = Field(default="", pattern=r"^$|^[^\s,]+:\d+(,[^\s,]+:\d+)*$")
    """Further servers of the cluster (``host:port,host:port``), asked where the others are while the URL's is away."""

    def secret(self) -> str | None:
        """The password from the setting or its file. Raises ConfigurationError."""
        return _secret(self.password, self.password_file, "TIDEMILL_REDIS__PASSWORD_FILE")


class StoreSettings(Group):
    """Where the S3-compatible object store is."""

    endpoint: str = "127.0.0.1:9000"
    """``host:port``, without a scheme."""
    bucket: str = Field(default="tidemill", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    """The one bucket everything lies in; made at start when it is missing."""
    access_key: str = "tidemill-access"
    """Access key id; at least 8 characters for the embedded server."""
    access_key_file: Path | None = None
    """A file that holds the access key id; wins over the setting."""
    secret_key: SecretStr | None = None
    """Prefer the file."""
    secret_key_file: Path | None = None
    """A file that holds the secret key and nothing else."""
    region: str = "us-east-1"
    """Always sent, so that the client does not ask the server for it."""
    secure: bool = False
    """HTTPS."""
    timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    """Of one attempt of one call."""
    retries: int = Field(default=3, ge=0, le=10)
    """Further attempts after a connection error or a server error."""
    cache_directory: Path | None = None
    """Where verified copies of objects are kept; None is a private temporary folder."""
    cache_bytes: int = Field(default=2 * 1024**3, ge=0)
    """The cache drops its oldest files beyond this."""

    def key(self) -> str:
        """The access key id from its file or the setting. Raises ConfigurationError."""
        return _secret(None, self.access_key_file, "TIDEMILL_STORE__ACCESS_KEY_FILE") or self.access_key

    def secret(self) -> str:
        """The secret key from the setting or its file. Raises ConfigurationError."""
        value = _secret(self.secret_key, self.secret_key_file, "TIDEMILL_STORE__SECRET_KEY_FILE")
        if not value:
            raise ConfigurationError(
                "no key for the object store: set TIDEMILL_STORE__SECRET_KEY_FILE to a file that holds it"
            )
        return value


class HttpSettings(Group):
    """Health checks, and whatever else a service offers over HTTP."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=0, ge=0, le=65535)
    """0 takes a free port."""
    keys_file: Path | None = None
    """API keys' digests and scopes (`tidemill up` makes it). Without it a service listens on loopback only."""
    rate_per_second: float = Field(default=20_000.0, gt=0, le=1_000_000)
    """Requests of one key (without keys: of one address), in the long run; twice as many at once."""
    max_body_bytes: int = Field(default=64 * 1024**2, ge=1024)
    """Size of one request's body, at most, on any route."""


class DeliverySettings(Group):
    """How events are taken and given back."""

    lease_seconds: float = Field(default=15.0, gt=0.2, le=3600)
    """An entry whose holder has not renewed it for this long is taken over."""
    max_deliveries: int = Field(default=5, ge=1, le=100)
    """After so many deliveries an entry goes to the dead letters."""
    dead_letter_limit: int = Field(default=1000, ge=1)
    """A stream of which so many events went to the dead letters within the window, and nearly all, is read no more."""
    dead_letter_share: float = Field(default=0.99, gt=0, le=1)
    """Nearly all: this share of the events of the window."""
    dead_letter_window_seconds: float = Field(default=60.0, ge=1, le=3600)
    """The window."""
    once_seconds: float = Field(default=60.0, ge=1, le=3600)
    """A prediction request that arrives again within this time, in another entry, is not answered again."""
    retention_seconds: float = Field(default=30 * 86_400.0, ge=60)
    """Events stay in their streams at least so long, and until every group has acknowledged them."""
    prediction_retention_seconds: float = Field(default=86_400.0, ge=60)
    """The same for requests, answers and labels, of which there are many."""
    archive_seconds: float = Field(default=300.0, gt=0, le=86_400)
    """How often new events of the control plane are copied to the object store."""
    trim_seconds: float = Field(default=60.0, gt=0, le=3600)
    """How often streams are looked at for entries that may go."""
    forget_seconds: float = Field(default=3600.0, ge=60)
    """A consumer that holds nothing and was not heard of for this long is removed from its group."""
    max_backlog: int = Field(default=500_000, ge=1)
    """Publishers are asked to wait while so many events of a stream are still to be read."""
    shed_memory_share: float = Field(default=0.85, gt=0, le=1)
    """The same while this share of Redis's ``maxmemory`` is used."""
    pressed_memory_share: float = Field(default=0.7, gt=0, le=1)
    """From this share on, requests, answers and labels are kept for ``pressed_retention_seconds`` only."""
    pressed_retention_seconds: float = Field(default=600.0, ge=1)
    """And until every group has acknowledged them."""
    block_seconds: float = Field(default=1.0, gt=0, lt=5)
    """How long a read waits for new entries; below the client's socket time-out of 5 s."""


class KeySettings(Group):
    """Ed25519 keys that sign and verify packages, promotions, and what an operator asks for."""

    private_file: Path | None = None
    """PEM; packaging alone needs it."""
    public_file: Path | None = None
    """PEM, several after a rotation; validation and serving need it."""
    promotion_private_file: Path | None = None
    """PEM; signs promotions. Validation alone needs it."""
    promotion_public_file: Path | None = None
    """PEM, several after a rotation; serving needs it, and validation for entries of before the rotation."""
    operator_private_file: Path | None = None
    """PEM; signs approvals and rollbacks. The console alone needs it."""
    operator_public_file: Path | None = None
    """PEM; validation needs it. Without it, whoever may write to their streams may approve and roll back."""


class HistorySettings(Group):
    """A record for fault injection; both off in production."""

    file: Path | None = None
    """A JSON line is appended for each step of each event: its id, the step, the time."""
    kill_file: Path | None = None
    """The process kills itself at the step that this file names, and removes the file first."""


class Settings(BaseSettings):
    """What every service is told. A service adds one group of its own."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMILL_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
        use_attribute_docstrings=True,
        extra="ignore",
    )

    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "tidemill"
    """Separates tenants and tests that share one Redis."""
    instance: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "1"
    """This replica's slot; with the service's name it is the consumer name, so it must be unique and stable."""
    log_level: str = Field(default="INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe level to log."""
    redis: RedisSettings = RedisSettings()
    """Group ``TIDEMILL_REDIS__``."""
    store: StoreSettings = StoreSettings()
    """Group ``TIDEMILL_STORE__``."""
    http: HttpSettings = HttpSettings()
    """Group ``TIDEMILL_HTTP__``."""
    delivery: DeliverySettings = DeliverySettings()
    """Group ``TIDEMILL_DELIVERY__``."""
    keys: KeySettings = KeySettings()
    """Group ``TIDEMILL_KEYS__``."""
    history: HistorySettings = HistorySettings()
    """Group ``TIDEMILL_HISTORY__``."""

    @model_validator(mode="after")
    def _no_credentials_in_url(self) -> Self:
        if "@" in self.redis.url:
            raise ValueError("redis.url must not carry credentials: use TIDEMILL_REDIS__PASSWORD_FILE")
        return self
