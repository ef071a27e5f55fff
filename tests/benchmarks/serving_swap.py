"""A swap of models and a return to the old one, while requests come at a fixed rate to the serving process.

    python tests/benchmarks/serving_swap.py [--rate 5000] [--seconds 12]

After a third of the time another package is promoted (entered, fetched, verified, proven on its golden predictions,
swapped); after two thirds a rollback to the first is. Every request must be answered once, none refused. Latency counts
from when a request was due; the swap's second begins with its promotion. The last line is one JSON object.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from typing import Any

import hiredis
import serving_process
from serving_stream import PIPELINE, fit, request_bodies

from tidemill_contracts.envelope import FIELD
from tidemill_contracts.events import (
    ModelDeployed,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
)
from tidemill_contracts.streams import stream_key
from tidemill_serving.garbage import look_rarely
from tidemill_shared.raw import call
from tidemill_shared.testing.platform import Platform

_TICK = 0.001


class Load:
    """An open load: requests are due at fixed times, and what is late counts from when it was due."""

    def __init__(self, opened: Platform, rate: int, seconds: float, pipeline: str = PIPELINE) -> None:
        self._opened = opened
        self._rate = rate
        self._pipeline = pipeline
        self._bodies = request_bodies(int(rate * seconds), pipeline)
        self.place = {json.loads(body)["id"]: i for i, body in enumerate(self._bodies)}
        self._stopped = False
        self.begun = asyncio.Event()
        self.start = 0.0
        self.answers: list[tuple[int, float, str]] = []
        """Number of the request, seconds after the start, version of the model."""

    def __len__(self) -> int:
        return len(self._bodies)

    async def send(self) -> None:
        """All requests, each when it is due."""
        stream = stream_key(self._opened.namespace, PredictionRequested.type_name(), self._pipeline)
        connection = await self._opened.redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        self.start, sent = time.perf_counter(), 0
        self.begun.set()
        while sent < len(self._bodies) and not self._stopped:
            until = min(len(self._bodies), int((time.perf_counter() - self.start) * self._rate))
            words = [hiredis.pack_command(("XADD", stream, "*", FIELD, body)) for body in self._bodies[sent:until]]
            if words:
                await connection.send_packed_command(b"".join(words))
                for _ in words:
                    await connection.read_response()
                sent = until
            await asyncio.sleep(_TICK)
        del self._bodies[sent:]
        await self._opened.redis.connection_pool.release(connection)

    def stop(self) -> None:
        """What is not due yet is not asked."""
        self._stopped = True

    async def read(self) -> None:
        """Answers until there is one to each request and none has come for a second."""
        stream = stream_key(self._opened.namespace, PredictionCompleted.type_name(), self._pipeline)
        last: Any = "0"
        while True:
            reply = await call(self._opened.redis, "XREAD", "COUNT", 2_000, "BLOCK", 1_000, "STREAMS", stream, last)
            if not reply and len(self.answers) >= len(self):
                return
            now = time.perf_counter() - self.start
            for _, entries in reply.items() if isinstance(reply, dict) else reply or ():
                for entry, (_, body) in entries:
                    last = entry
                    id_, version = (body.split(b'"%b":"' % name, 1)[1].split(b'"', 1)[0] for name in _FIELDS)
                    if id_.decode() in self.place:  # else it is of a load before this one
                        self.answers.append((self.place[id_.decode()], now, version.decode()))

    def percentile(self, share: float, first: float, until: float) -> float:
        """Milliseconds, of requests due between two seconds."""
        late = sorted(at - i / self._rate for i, at, _ in self.answers if first <= i / self._rate < until)
        return round(late[int(len(late) * share)] * 1e3, 2)


_FIELDS = (b"prediction_id", b"model_version")


async def measure(rate: int, seconds: float) -> dict[str, Any]:
    """One run."""
    bench = fit()
    async with serving_process.platform() as opened:
        await opened.declare(serving_process.spec(PIPELINE))
        old = await serving_process.promote(opened, bench, PIPELINE, 1)
        new = await serving_process.packed(opened, bench, PIPELINE, 2, threshold=0.6)
        again = await serving_process.packed(opened, bench, PIPELINE, 3)
        async with serving_process.serving(opened):
            await opened.publish(old)
            await opened.wait_for(ModelDeployed)
            load = Load(opened, rate, seconds)
            await look_rarely()  # a pause of this process is none of the server's
            reading = asyncio.create_task(load.read())
            sending = asyncio.create_task(load.send())
            await load.begun.wait()
            await asyncio.sleep(seconds / 3)
            swapped = time.perf_counter() - load.start
            await opened.publish(await serving_process.enter(opened, new))
            await asyncio.sleep(2 * seconds / 3 - swapped)
            alarm = time.perf_counter() - load.start
            await opened.publish(await serving_process.enter(opened, again))
            await sending
            await asyncio.wait_for(reading, 30)
            failed = len(await opened.events(PredictionFailed, PIPELINE))
    return _figures(load, swapped, alarm, old.data.version, new.event.data.version, failed)


def _figures(load: Load, swapped: float, alarm: float, old: str, new: str, failed: int) -> dict[str, Any]:
    answered = Counter(i for i, _, _ in load.answers)
    usual, during = load.percentile(0.99, 1.0, swapped), load.percentile(0.99, swapped, swapped + 1.0)
    return {
        "requests": len(load),
        "lost": len(load) - len(answered),
        "failed": failed,
        "doubled": sum(n - 1 for n in answered.values()),
        "p99_usual_ms": usual,
        "p99_swap_second_ms": during,
        "ratio_p99": round(during / usual, 2),
        "swap_seconds": round(min(at for _, at, version in load.answers if version == new) - swapped, 3),
        "rollback_seconds": round(min(at for _, at, v in load.answers if v == old and at > alarm) - alarm, 3),
        "last_answer_by_the_new_after_alarm_seconds": round(
            max(at for _, at, version in load.answers if version == new) - alarm, 3
        ),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=12.0)
    arguments, _ = parser.parse_known_args()
    print(json.dumps(asyncio.run(measure(arguments.rate, arguments.seconds))))


if __name__ == "__main__":
    main()
