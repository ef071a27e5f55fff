"""A gate before the S3 server that grants what a policy document grants, as a server with many keys would."""

import asyncio
import contextlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote, urlsplit

_ACTIONS = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "POST": "s3:PutObject"}
_DENIED = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n"
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>'
)


class Gateway:
    """Passes allowed requests on to a loopback port, one connection each; remembers the others."""

    def __init__(self, target: int, policy: Mapping[str, Any]) -> None:
        self._target = target
        self._policy = policy
        self._server: asyncio.Server | None = None
        self.refused: list[str] = []
        self.used: set[tuple[str, str]] = set()
        """Action and first part of the key."""

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    def stop(self) -> None:
        """Listen no more."""
        if self._server:
            self._server.close()

    def allows(self, method: str, path: str) -> bool:
        """Whether some statement grants this."""
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        if key:
            action, resource = _ACTIONS.get(method, f"s3:{method}"), f"arn:aws:s3:::{bucket}/{key}"
        else:
            action = "s3:ListBucket" if method in ("GET", "HEAD") else "s3:CreateBucket"
            resource = f"arn:aws:s3:::{bucket}"
        self.used.add((action, key.partition("/")[0]))
        return any(
            action in statement["Action"] and any(fnmatchcase(resource, granted) for granted in statement["Resource"])
            for statement in self._policy["Statement"]
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            first, *headers = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
            method, target, _ = first.decode().split(" ")
            if self.allows(method, urlsplit(target).path):
                await self._forward(first, headers, reader, writer)
            else:
                self.refused.append(f"{method} {target}")
                writer.write(_DENIED)
                await writer.drain()
        writer.close()

    async def _forward(
        self, first: bytes, headers: list[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        named = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in headers)}
        kept = [line for line in headers if not line.lower().startswith(b"connection:")]
        answer, request = await asyncio.open_connection("127.0.0.1", self._target)
        request.write(b"\r\n".join([first, *kept, b"Connection: close", b"", b""]))
        left = int(named.get(b"content-length", b"0"))
        while left and (data := await reader.read(min(left, 65_536))):
            left -= len(data)
            request.write(data)
            await request.drain()
        while data := await answer.read(65_536):
            writer.write(data)
            await writer.drain()
        request.close()
