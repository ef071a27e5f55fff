"""The inference endpoint as plain ASGI: on this path a framework's request and response objects cost as much as the
model."""

import contextlib
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from tidemill_serving.batching import Batcher
from tidemill_serving.body import Body
from tidemill_serving.calls import Calls
from tidemill_serving.domain import protocol
from tidemill_serving.domain.cells import Part
from tidemill_serving.domain.tensor import BadRequest
from tidemill_serving.loading import Loaded
from tidemill_serving.reply import Answers
from tidemill_serving.settings import ServingGroup
from tidemill_serving.tally import Tally
from tidemill_serving.trying import Running
from tidemill_serving.watching import Watch
from tidemill_shared.log import logger

log = logger(__name__)
Find = Callable[[str, str | None], Awaitable[Loaded]]
"""The loaded model of a name and version. Raises HTTPException."""
Beside = Callable[[str, Loaded], Running | Watch | None]
"""The trial beside a pipeline's champion, or the watch over it."""
_JSON = (b"content-type", b"application/json")


class Inference:
    """``POST …/infer``."""

    def __init__(self, find: Find, beside: Beside, settings: ServingGroup, calls: Calls | None = None) -> None:
        self._find = find
        self._beside = beside
        self._settings = settings
        self._batcher = Batcher(calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever is wrong with it becomes the protocol's error body."""
        headers = [_JSON]
        try:
            status, body = 200, await self._answer(scope, receive)
        except BadRequest as error:
            status, body = 400, orjson.dumps({"error": str(error).encode(errors="replace").decode()})
        except HTTPException as error:
            status, body = error.status_code, orjson.dumps({"error": error.detail})
            headers += [(k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items()]
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, (b"content-length", str(len(body)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] != "POST":
            raise HTTPException(405, "Method Not Allowed", {"allow": "POST"})
        name, version = scope["path_params"]["name"], scope["path_params"].get("version")
        # Read once: this request is answered by this model, whatever is promoted meanwhile.
        loaded = await self._find(name, version)
        beside = self._beside(name, loaded) if version is None else None
        raw = await self._raw(scope, receive)
        body = Body(raw)
        if beside is None:
            return (await self._by(name, loaded, body, self._batcher))[0]
        if isinstance(beside, Running) and beside.trial.share:
            return await self._by_either(name, loaded, beside, body)
        try:
            return (await self._by(name, loaded, body, self._batcher))[0]
        finally:
            beside.asked(loaded, raw)

    async def _by_either(self, name: str, champion: Loaded, running: Running, body: Body) -> bytes:
        """While a challenger is tried: some requests are its own; what it cannot answer the champion does."""
        if await body.read(lambda asked: running.chooses(_id(asked))):
            with contextlib.suppress(BadRequest, HTTPException, TimeoutError):
                return await self._counted(name, running.loaded, body, running.challenger, running.batcher)
        return await self._counted(name, champion, body, running.champion, self._batcher)

    async def _counted(self, name: str, loaded: Loaded, body: Body, tally: Tally, batcher: Batcher) -> bytes:
        """Timed is the call alone: what it waited for is not the model's fault."""
        try:
            reply, answers = await self._by(name, loaded, body, batcher)
        except (BadRequest, HTTPException, TimeoutError):
            tally.add((), 1, None, "http")
            raise
        tally.add(answers.values, 0, answers.seconds, "http")
        return reply

    async def _by(self, name: str, loaded: Loaded, body: Body, batcher: Batcher) -> tuple[bytes, Answers]:
        """The reply of one model, and what it says. Raises TimeoutError where its calls have a time."""
        id_, wanted, rows = await body.read(partial(self._read, loaded))
        try:
            answers = await batcher.predict(loaded.model, rows)
        except (BadRequest, TimeoutError):
            raise
        except Exception as error:
            # ONNX Runtime's message may quote the rows, so only its kind is told.
            log.error("the model failed", pipeline=name, kind=type(error).__name__, rows=len(rows))
            raise HTTPException(500, "the model could not answer these rows") from None
        if None in answers.values:
            raise HTTPException(500, f"row {answers.values.index(None)}: the model gave no finite answer")
        return loaded.reply.body(name, answers, wanted, id_), answers

    def _read(self, loaded: Loaded, asked: Any) -> tuple[str | None, tuple[str, ...], Part]:
        """The request's id, the output tensors it wants, and its rows."""
        rows = protocol.read(asked, loaded.model.layout, self._settings.max_rows)
        return asked.get("id"), protocol.wanted(asked, loaded.model), rows

    async def _raw(self, scope: Scope, receive: Receive) -> bytes:
        for name, _ in scope["headers"]:
            if name == b"inference-header-content-length":
                raise BadRequest("binary tensor data is not supported: send JSON")
        message = await receive()
        parts = [_part(message)]
        size = len(parts[0])
        while message.get("more_body") and size <= self._settings.max_body_bytes:
            message = await receive()
            parts.append(_part(message))
            size += len(parts[-1])
        if size > self._settings.max_body_bytes:
            raise HTTPException(413, f"the body is larger than {self._settings.max_body_bytes} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _id(asked: Any) -> str:
    """The request's own id, by which it is the same model's each time; without one, or with an empty one, chance
    decides."""
    id_ = asked.get("id") if isinstance(asked, dict) else None
    return str(id_) if id_ not in (None, "") else secrets.token_hex(8)


def _part(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise BadRequest("the body ended early")
    return bytes(message.get("body", b""))
