"""HTTP as it comes over the wire: uvicorn's fast parser, with a bound on what may precede a body."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 64 * 1024
"""A request line and headers that are not complete after so much are cut off. uvicorn bounds only its slower parser."""


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    _heading = False
    _head_bytes = 0

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._heading, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Its body begins."""
        self._heading = False
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what follows a body in chunks is dropped, since nothing reads it."""
        if self._heading:
            super().on_header(name, value)

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        super().data_received(data)
        if self._heading:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The request line and headers are too long.")
