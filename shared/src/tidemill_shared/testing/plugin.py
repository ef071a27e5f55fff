"""The pytest plugin: fixtures ``servers`` (session) and ``platform`` (function)."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tidemill_shared.signing import generate_keys
from tidemill_shared.testing.cluster import clustered
from tidemill_shared.testing.platform import Platform
from tidemill_shared.testing.servers import Servers, container_servers, local_servers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: with several workers none is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: a time inside them (gzip writes one) would give each worker tests of other names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A real Redis and a real S3 server for the whole session."""
    with ExitStack() as stack:
        if os.environ.get("TIDEMILL_TEST_SERVERS") == "containers":
            yield stack.enter_context(container_servers())
        else:
            yield stack.enter_context(local_servers(tmp_path_factory.mktemp("servers")))


@pytest.fixture(scope="session")
def cluster(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A Redis Cluster of three masters beside the same S3 server.

    A module whose tests all run on it overrides ``servers``'s use: ``def platform(cluster, …)``.
    """
    with clustered(servers, tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of a fresh key pair: private, public."""
    directory = tmp_path_factory.mktemp("keys")
    private, public = directory / "private.pem", directory / "public.pem"
    for path, data in zip((private, public), generate_keys(), strict=True):
        path.write_bytes(data)
    return private, public


@pytest_asyncio.fixture
async def platform(servers: Servers, signing_keys: tuple[Path, Path], tmp_path: Path) -> AsyncIterator[Platform]:
    """A namespace and a bucket of this test's own on the real servers."""
    async with Platform.open(servers, signing_keys, tmp_path) as opened:
        yield opened
