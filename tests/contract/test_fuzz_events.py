"""Events made from the published schemas: sound ones are always read, spoilt ones are set aside with a reason.

``TIDEMILL_FUZZ_CASES`` says how many (``make fuzz``), ``TIDEMILL_FUZZ_SEED`` which.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from tidemill_contracts.dead_letter import DeadLetter
from tidemill_contracts.envelope import FIELD, Event
from tidemill_contracts.events import EventDeadLettered
from tidemill_contracts.registry import EVENTS, InvalidEvent, parse, parse_as
from tidemill_contracts.streams import stream_key
from tidemill_shared.bus import Bus
from tidemill_shared.settings import DeliverySettings, Settings
from tidemill_shared.testing.platform import Platform

CASES = int(os.environ.get("TIDEMILL_FUZZ_CASES", "3000"))
SEED = int(os.environ.get("TIDEMILL_FUZZ_SEED", "1"))
SCHEMAS = {
    type_: json.loads((Path(__file__).resolve().parents[2] / "contracts" / "schemas" / f"{type_}.json").read_text())
    for type_ in EVENTS
}
HEX, NAME = "0123456789abcdef", "abcdefghijklmnopqrstuvwxyz0123456789-"
TEXTS = ("", "x", "Ä", "日本", "a b", "\u0000", "🚂", "null", "' OR 1=1", "../..", "%s{0}", "-" * 40)
PATTERNS: dict[str, Callable[[random.Random], str]] = {
    "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$": lambda r: "e" + _word(r, NAME + "._:", 0, 30),
    "^[0-9a-f]{12}$": lambda r: _word(r, HEX, 12, 12),
    "^[0-9a-f]{64}$": lambda r: _word(r, HEX, 64, 64),
    "^[a-z0-9][a-z0-9-]{0,62}$": lambda r: "p" + _word(r, NAME, 0, 20),
    "^[a-z0-9][a-z0-9-]{0,62}(/[0-9a-zA-Z._-]{1,128})?$": lambda r: r.choice(
        ["sales", "a", "p-1/" + "a" * 12, "x/Y.z"]
    ),
    "^[A-Za-z0-9][A-Za-z0-9._=:/-]*$": lambda r: "k" + _word(r, NAME + "._=:", 0, 20) + "/x.json",
    "^[a-z0-9_]{1,64}$": lambda r: "code_" + _word(r, "abc", 0, 5),
    "^s3://[^/]+/.+$": lambda r: "s3://tidemill/raw/" + _word(r, NAME, 1, 20) + ".csv",
}


def _word(r: random.Random, letters: str, low: int, high: int) -> str:
    return "".join(r.choices(letters, k=r.randint(low, high)))


def value(r: random.Random, schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """Some value the schema takes."""
    if "$ref" in schema:
        return value(r, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return r.choice(schema["enum"])
    if "anyOf" in schema:
        return value(r, r.choice(schema["anyOf"]), root)
    makers = {
        "object": _object, "array": _array, "string": _string, "integer": _integer, "number": _number,
        "boolean": lambda r, *_: r.random() < 0.5, "null": lambda *_: None,
    }  # fmt: skip
    return makers[schema["type"]](r, schema, root)


def _object(r: random.Random, schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    required = schema.get("required", ())
    made = {
        name: value(r, part, root)
        for name, part in schema.get("properties", {}).items()
        if name in required or r.random() < 0.5
    }
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        names = schema.get("propertyNames", {"type": "string", "minLength": 1})
        made |= {value(r, names, root): value(r, extra, root) for _ in range(r.randint(0, 3))}
    return made


def _array(r: random.Random, schema: dict[str, Any], root: dict[str, Any]) -> list[Any]:
    low = schema.get("minItems", 0)
    return [value(r, schema.get("items", {"type": "null"}), root) for _ in range(r.randint(low, low + 3))]


def _string(r: random.Random, schema: dict[str, Any], _: dict[str, Any]) -> str:
    if schema.get("format") == "date-time":
        zone = r.choice(["Z", "+02:00", ""])
        return f"{r.randint(1900, 2100)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}T0{r.randint(0, 9)}:30:00{zone}"
    if "pattern" in schema:
        return PATTERNS[schema["pattern"]](r)
    text = r.choice(TEXTS) + _word(r, NAME, schema.get("minLength", 0), schema.get("minLength", 0) + 5)
    return text[: schema.get("maxLength", 100)]


def _integer(r: random.Random, schema: dict[str, Any], _: dict[str, Any]) -> int:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -3) + ("exclusiveMinimum" in schema))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 2**40))
    return r.randint(int(low), min(int(high), int(low) + r.choice([0, 1, 100, 2**40])))


def _number(r: random.Random, schema: dict[str, Any], _: dict[str, Any]) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1e6))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 2e6))
    return low + (high - low) * r.uniform(0.01, 0.99)


def _nodes(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [here for key, part in items for here in ((*at, key), *_nodes(part, (*at, key)))]


def spoilt(r: random.Random, event: dict[str, Any]) -> bytes:
    """The event with something wrong in it (now and then something harmless)."""
    tree = json.loads(json.dumps(event))
    path = r.choice(_nodes(tree))
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    junk = (None, True, 0, -1, 2**70, 1e308, "", "x" * 300, [], {}, [[]], {"a": {"a": {}}}, "\ud800", float("nan"))
    how = r.randrange(6)
    if how == 0:
        del parent[path[-1]]
    elif how in (1, 2):
        parent[path[-1]] = r.choice(junk)
    elif how == 3:
        parent[path[-1]] = json.loads("[" * 90 + "]" * 90)
    data = json.dumps(tree, ensure_ascii=True).encode()
    if how == 4:
        return data[: r.randrange(len(data))]
    if how == 5:
        spot = r.randrange(len(data))
        return data[:spot] + r.randbytes(r.randint(1, 4)) + data[spot + 1 :]
    return data


SPECIAL = (
    b"", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe", b"\x00" * 10, b"[" * 60_000, b'{"a":' * 12_000, b"9" * 60_000,
    b'{"type":"model.promoted.v2"}', b'{"type":"nothing.known.v1"}', b'{"type":["a"]}', b'{"type":{}}', b"x" * 70_000,
    b'{"type":"data.arrived.v1","type":"model.promoted.v1"}', b"1e999", b"NaN",
    b'{"type":"data.arrived.v1","id":1e999}',
)  # fmt: skip


def refused(data: bytes) -> InvalidEvent | None:
    """Why the contracts do not take these bytes; any other exception is a bug."""
    try:
        parse(data)
    except InvalidEvent as error:
        return error
    return None


def taken(kind: type[Event[Any]], data: bytes) -> bool:
    """Whether a consumer of this one type would take these bytes."""
    try:
        parse_as(kind, data)
    except InvalidEvent:
        return False
    return True


def test_every_pattern_of_the_schemas_has_a_maker() -> None:
    r = random.Random(SEED)  # noqa: S311 - test data
    for type_, schema in SCHEMAS.items():
        assert value(r, schema, schema).get("type", type_) == type_


@pytest.mark.timeout(600)
def test_reading_never_raises_anything_else() -> None:
    r = random.Random(SEED)  # noqa: S311 - test data
    counts: Counter[str] = Counter()
    reasons = set(get_args(DeadLetter.model_fields["reason"].annotation))
    for _ in range(max(1, CASES // len(SCHEMAS))):
        for type_, schema in SCHEMAS.items():
            event = value(r, schema, schema) | {"type": type_}
            problem = refused(json.dumps(event).encode())
            # What a schema cannot say (one column given twice, say) is refused, by a sentence that says where.
            counts["sound"] += problem is None
            counts["beyond the schema"] += problem is not None
            problem = refused(spoilt(r, event))
            counts["spoilt, refused"] += problem is not None
            counts["spoilt, harmless"] += problem is None
            assert problem is None or (problem.code in reasons and str(problem))
    for data in SPECIAL:
        problem = refused(data)
        assert problem is not None
        assert problem.code in reasons
    print(f"seed {SEED}: " + ", ".join(f"{k} {n}" for k, n in sorted(counts.items())))
    assert counts["sound"] > counts["beyond the schema"]
    assert counts["spoilt, refused"] > counts["spoilt, harmless"]


@pytest.mark.timeout(600)
async def test_spoilt_events_are_dead_lettered_and_sound_ones_pass_between_them(platform: Platform) -> None:
    r = random.Random(SEED)  # noqa: S311 - test data
    handled: Counter[str] = Counter()
    settings = platform.settings(Settings)
    bus = Bus("fuzz", settings.redis, namespace=platform.namespace, delivery=DeliverySettings(block_seconds=0.2))
    kinds = {t: c for t, c in EVENTS.items() if c.plane == "control" and c is not EventDeadLettered}

    def handler(cls: Any) -> Any:
        async def on_event(event: Any) -> None:
            handled[event.type] += 1

        on_event.__annotations__ = {"event": cls, "return": None}
        return on_event

    for cls in kinds.values():
        bus.consume(handler(cls))
    await bus.connect()
    await bus.start()
    sent: Counter[str] = Counter()
    try:
        pipeline = platform.redis.pipeline(transaction=False)
        for _ in range(max(1, CASES // 6 // len(kinds))):
            for type_ in kinds:
                schema = SCHEMAS[type_]
                event = value(r, schema, schema) | {"type": type_}
                for data in (json.dumps(event).encode(), spoilt(r, event), r.choice(SPECIAL)):
                    sound = taken(kinds[type_], data)
                    sent["sound" if sound else "spoilt"] += 1
                    pipeline.xadd(stream_key(platform.namespace, type_), {FIELD: data})
        await pipeline.execute()
        letters = stream_key(platform.namespace, EventDeadLettered.type_name())
        deadline = asyncio.get_running_loop().time() + 60 + CASES / 50
        while handled.total() + await platform.redis.xlen(letters) < sent.total():
            assert asyncio.get_running_loop().time() < deadline, (handled.total(), sent)
            await asyncio.sleep(0.05)
        assert bus.failed() is None
    finally:
        await bus.stop()
    print(f"seed {SEED}: {sent['sound']} sound, {sent['spoilt']} spoilt events through Redis")
    assert handled.total() == sent["sound"]
    assert await platform.redis.xlen(letters) == sent["spoilt"]
    for event in await platform.events(EventDeadLettered):
        assert event.data.message
