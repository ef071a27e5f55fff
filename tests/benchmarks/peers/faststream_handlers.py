"""What people write instead of a serving process: FastStream handlers on a filled stream. Runs in its own environment.

Standard input: one line of JSON (url, source, sink, field, count, onnx or null, numeric, categorical). Standard output:
the seconds it took. Nothing here validates, fences or de-duplicates, and the batch handler is as short as it can be.
"""

import asyncio
import json
import sys
import time
from typing import Any

import numpy as np
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.annotations import Pipeline
from redis.asyncio import Redis


def per_message(broker: RedisBroker, told: dict[str, Any]) -> None:
    """A handler that asks scikit-learn for one row at a time."""
    import pandas as pd

    fitted, columns = _fit(told["numeric"], told["categorical"]), told["numeric"] + told["categorical"]

    @broker.subscriber(stream=StreamSub(told["source"], group="peer", consumer="peer", max_records=512))
    @broker.publisher(stream=told["sink"])
    async def handle(event: dict[str, Any]) -> dict[str, Any]:
        odds = fitted.predict_proba(pd.DataFrame([event["data"]["features"]])[columns])[0].tolist()
        return {"prediction_id": event["id"], "probabilities": odds}


def in_batches(broker: RedisBroker, told: dict[str, Any]) -> None:
    """A batch handler with ONNX Runtime and pipelined answers."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(told["onnx"], options, providers=["CPUExecutionProvider"])

    @broker.subscriber(stream=StreamSub(told["source"], group="peer", consumer="peer", batch=True, max_records=512))
    async def handle(events: list[dict[str, Any]], pipe: Pipeline) -> None:
        rows = [event["data"]["features"] for event in events]
        numeric = np.array([[row[name] for name in told["numeric"]] for row in rows], np.float32)
        categorical = np.array([[row[name] for name in told["categorical"]] for row in rows], object)
        odds = session.run(["probabilities"], {"numeric": numeric, "categorical": categorical})[0]
        for event, row in zip(events, odds.tolist(), strict=True):
            answer = {"prediction_id": event["id"], "probabilities": row}
            await broker.publish(answer, stream=told["sink"], pipeline=pipe)
        await pipe.execute()


def _fit(numeric: list[str], categorical: list[str]) -> Any:
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(0)
    columns: dict[str, Any] = {name: random.normal(size=5_000) for name in numeric}
    columns |= {name: random.choice(list("abcdefgh"), 5_000).astype(object) for name in categorical}
    x = pd.DataFrame(columns)
    y = (x[numeric[0]] * x[numeric[1]] + (x[categorical[0]] == "a") > 0).astype(int)
    encode = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    prepare = make_column_transformer((encode, categorical), remainder="passthrough")
    return make_pipeline(prepare, HistGradientBoostingClassifier(max_iter=100, early_stopping=False)).fit(x, y)


async def main() -> None:
    """Drain the stream and say how long it took."""
    told = json.loads(sys.stdin.readline())
    broker = RedisBroker(told["url"], logger=None)
    (in_batches if told["onnx"] else per_message)(broker, told)
    redis: Redis = Redis.from_url(told["url"])
    started = time.perf_counter()
    await broker.start()
    while await redis.xlen(told["sink"]) < told["count"]:
        if time.perf_counter() - started > 60:
            raise RuntimeError(f"answered {await redis.xlen(told['sink'])} of {told['count']} in a minute")
        await asyncio.sleep(0.01)
    print(time.perf_counter() - started, flush=True)
    await broker.stop()
    await redis.aclose()


asyncio.run(main())
