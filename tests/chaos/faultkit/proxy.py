"""A small TCP proxy that misbehaves on purpose."""

import asyncio
import contextlib
import random
from dataclasses import dataclass

_CHUNK = 65_536
_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Faults:
    """What goes wrong from now on; the default is nothing."""

    refuse: bool = False
    """New connections are reset, present ones are cut."""
    blackhole: bool = False
    """Bytes are taken and go nowhere until it ends."""
    delay_seconds: float = 0.0
    drop_reply: float = 0.0
    """Share of replies that are thrown away, with the connection, after the request has been carried out."""
    cut_after: int | None = None
    """A connection ends after so many bytes from the server."""
    bytes_per_second: float | None = None
    answer_500: float = 0.0
    """Share of HTTP replies that are replaced by an error of the server, after the request was carried out."""
    flip: float = 0.0
    """Share of chunks of an HTTP body in which one bit is turned over."""
    flip_next: int = 0
    """The same for so many chunks to come."""


class Proxy:
    """Forwards a loopback port of its own to another one."""

    def __init__(self, target: int, seed: int = 0) -> None:
        self.target = target
        self.port = 0
        self.faults = Faults()
        self.dropped = 0
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Cut everything."""
        if self._server:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset every present connection."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.refuse:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, server_writer}
        self._open |= both
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await asyncio.gather(self._pump(reader, server_writer), self._pump(server_reader, writer, replies=True))
        finally:
            self._open -= both
            for end in both:
                with contextlib.suppress(OSError, RuntimeError):
                    end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool = False) -> None:
        sent = 0
        while data := await reader.read(_CHUNK):
            faults = self.faults
            if faults.refuse:
                raise ConnectionResetError
            while self.faults.blackhole:
                await asyncio.sleep(0.02)
            if faults.delay_seconds:
                await asyncio.sleep(faults.delay_seconds)
            if faults.bytes_per_second:
                await asyncio.sleep(len(data) / faults.bytes_per_second)
            if replies and self._random.random() < faults.drop_reply:
                self.dropped += 1
                raise ConnectionResetError
            if replies and self._random.random() < faults.answer_500:
                writer.write(_ERROR)
                await writer.drain()
                raise ConnectionResetError
            if replies and (faults.flip_next or self._random.random() < faults.flip):
                data = self._flipped(data)
            if replies and faults.cut_after is not None and sent + len(data) > faults.cut_after:
                writer.write(data[: faults.cut_after - sent])
                await writer.drain()
                raise ConnectionResetError
            sent += len(data)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # one side has ended: so does the other

    def _flipped(self, data: bytes) -> bytes:
        begin = data.find(b"\r\n\r\n") + 4 if data.startswith(b"HTTP/") else 0
        if begin >= len(data):
            return data
        self.faults.flip_next = max(0, self.faults.flip_next - 1)
        at = self._random.randrange(begin, len(data))
        return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
