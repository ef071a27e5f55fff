"""Which server holds a key: the only one there is or, in a Redis Cluster, the master of the key's hash slot."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tidemill_shared.connections import connection_class
from tidemill_shared.log import logger
from tidemill_shared.raw import call
from tidemill_shared.settings import RedisSettings

log = logger(__name__)
Address = tuple[str, int]
_SLOTS = 16_384

_CONNECTIONS = 32
"""Of one client: more than a single-threaded server can make use of."""
_CLUSTER_CONNECTIONS = 4_096
"""Of one client of a cluster's master: there each hash slot that is read has a connection that waits."""
_CONNECTION_PATIENCE_SECONDS = 20.0


def redis_url(settings: RedisSettings) -> str:
    """The URL with its credentials, which exist in memory only."""
    parts = urlsplit(settings.url)
    password = settings.secret()
    if not password:
        return settings.url
    credentials = f"{quote(settings.username or '', safe='')}:{quote(password, safe='')}@"
    return urlunsplit(parts._replace(netloc=credentials + parts.netloc))


def connect(settings: RedisSettings, *, timeout_seconds: float = 5.0, **changes: Any) -> Redis:
    """A client that does not retry blindly: a write whose answer was lost must only be repeated with the same id.

    Whoever finds all connections in use waits for one: the lanes of hundreds of pipelines may be done at once.
    ``changes`` are options of the connections beside those that the URL names.
    """
    options: dict[str, Any] = dict(parse_url(redis_url(settings)))
    options |= {"connection_class": connection_class(settings.url)} | changes
    pool = BlockingConnectionPool(
        max_connections=_CLUSTER_CONNECTIONS if settings.cluster else _CONNECTIONS,
        timeout=_CONNECTION_PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=timeout_seconds,
        socket_connect_timeout=3.0,
        **options,
    )
    return Redis.from_pool(pool)


def tag_of(key: str) -> str:
    """The hash tag with its braces: keys that share it share a slot."""
    return key[: key.index("}") + 1]


class Nodes:
    """The servers of one installation. One Redis is asked for nothing; of a cluster the map of slots is kept."""

    def __init__(self, settings: RedisSettings, namespace: str) -> None:
        self.cluster = settings.cluster
        self._settings = settings
        self._tag = f"{{{namespace}}}"
        self._masters: list[Address | None] = [None] * (_SLOTS if settings.cluster else 0)
        self._clients: dict[Address, Redis] = {}
        self._present: list[Address] = []
        self._began_with: Address | None = None
        named = connect(settings)
        self._named = [named, *(connect(settings, host=host, port=port) for host, port in _further(settings))]
        """The servers that the settings name: of a cluster any, asked while no other is known."""
        self.control = connect(settings, **self.options()) if settings.cluster else named

    @classmethod
    def only(cls, redis: Redis) -> "Nodes":
        """There is one server, and this client speaks to it."""
        nodes = cls.__new__(cls)
        nodes.cluster, nodes.control, nodes._named, nodes._clients = False, redis, [redis], {}
        return nodes

    def options(self) -> dict[str, Any]:
        """Options of connections to the control plane's server: in a cluster it is known only once ``look`` has asked,
        so each new connection asks here."""
        base = connection_class(self._settings.url)
        if not self.cluster:
            return {"connection_class": base}
        nodes = self

        class ToControl(base):  # type: ignore[valid-type,misc]
            def __init__(self, **options: Any) -> None:
                master = nodes._masters[key_slot(nodes._tag.encode())]
                super().__init__(**(options | ({"host": master[0], "port": master[1]} if master else {})))

        return {"connection_class": ToControl}

    def slot(self, key: str) -> int:
        """Keys of one slot can be read and written together; on one Redis all can."""
        return key_slot(key.encode()) if self.cluster else 0

    def of(self, key: str) -> Redis:
        """The client that reaches the key. Raises redis errors: no master holds its slot."""
        if not self.cluster:
            return self.control
        master = self._masters[key_slot(key.encode())]
        if master is None:
            raise RedisConnectionError(f"no master of the cluster holds the slot of {key}")
        return self._clients[master]

    def by_server(self, keys: Iterable[str]) -> list[tuple[Redis, list[str]]]:
        """The keys, in their order, by the client that reaches them."""
        found: dict[int, tuple[Redis, list[str]]] = {}
        for key in keys:
            client = self.of(key)
            found.setdefault(id(client), (client, []))[1].append(key)
        return list(found.values())

    def servers(self) -> list[Redis]:
        """A client of each server; of a cluster, of each master there is now."""
        return [self._clients[master] for master in self._present] if self.cluster else [self.control]

    async def look(self) -> None:
        """Learn who holds which slots now. Raises redis errors: nobody could say.

        Who knows of fewer slots than are known here is believed only if nobody knows of more: a server that was taken
        out of the cluster still answers.
        """
        if not self.cluster:
            return
        error: RedisError = RedisConnectionError("no server of the cluster tells who holds its slots")
        best: list[Address | None] = []
        for client in (*self.servers(), *self._named):
            try:
                masters = _masters(await call(client, "CLUSTER", "SLOTS"), client)
            except RedisError as failed:
                error = failed
                continue
            best = max(best, masters, key=_known)
            if masters is best and _known(masters) >= _known(self._masters):
                break
        if not best or best[key_slot(self._tag.encode())] is None:
            raise error if not best else RedisConnectionError(f"no master of the cluster holds the slot of {self._tag}")
        await self._note(best)

    async def _note(self, masters: list[Address | None]) -> None:
        self._present = list(dict.fromkeys(master for master in masters if master))
        for host, port in self._present:
            if (host, port) not in self._clients:
                self._clients[host, port] = connect(self._settings, host=host, port=port)
        self._masters = masters
        self._began_with = self._began_with or masters[key_slot(self._tag.encode())]
        for former in self._clients.keys() - set(self._present):
            await self._clients.pop(former).aclose()

    def failed(self) -> str | None:
        """FastStream's subscribers stay with the server they began with: when the control plane has moved, the service
        must start again."""
        if not self.cluster or self._began_with is None:
            return None
        now = self._masters[key_slot(self._tag.encode())]
        return None if now in (None, self._began_with) else f"the control plane has moved to {now[0]}:{now[1]}"

    async def aclose(self) -> None:
        """Close every connection."""
        for client in (*self._named, self.control, *self._clients.values()):
            await client.aclose()


def _further(settings: RedisSettings) -> list[Address]:
    pairs = [node.rpartition(":") for node in settings.cluster_nodes.split(",") if node and settings.cluster]
    return [(host, int(port)) for host, _, port in pairs]


def _masters(ranges: list[Any], asked: Redis) -> list[Address | None]:
    """The master of each slot, as ``asked`` told it; an address without a host is its own."""
    masters: list[Address | None] = [None] * _SLOTS
    here = asked.connection_pool.connection_kwargs.get("host", "127.0.0.1")
    for first, last, (host, port, *_), *_ in ranges:
        masters[first : last + 1] = [(host.decode() if host else here, int(port))] * (last - first + 1)
    return masters


def _known(masters: list[Address | None]) -> int:
    """How many slots have a master."""
    return len(masters) - masters.count(None)


def nodes_of(servers: "Redis | Nodes") -> Nodes:
    """Of a client, that it is the only server."""
    return servers if isinstance(servers, Nodes) else Nodes.only(servers)
