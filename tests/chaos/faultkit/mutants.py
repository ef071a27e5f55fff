"""Mutation checks: break a safety line in a copy of the source, and see the tests fail.

A guarantee whose removal no test notices is not guarded. Each mutant names the file, the line as it is, the line as it
becomes, and the tests that must fail then.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_SHARED = "shared/src/tidemill_shared"


@dataclass(frozen=True)
class Mutant:
    """One safety line, broken."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "no owner check in the completion step",
        f"{_SHARED}/complete.lua",
        "#call('XPENDING', stream, group, id, id, 1, consumer) > 0",
        "true",
        "shared/tests/test_bus.py::test_a_zombie_cannot_complete_what_was_taken_over",
    ),
    Mutant(
        "acknowledged before the outputs are written",
        f"{_SHARED}/bus.py",
        "                outputs = await self._handle(sub, event, delivery)\n",
        "                await self.redis.xack(delivery.stream, self.group, delivery.entry)\n"
        "                outputs = await self._handle(sub, event, delivery)\n",
        "shared/tests/test_bus.py",
    ),
    Mutant(
        "groups created at $",
        f"{_SHARED}/delivery.py",
        'xgroup_create(stream, self.group, "0", mkstream=True)',
        'xgroup_create(stream, self.group, "$", mkstream=True)',
        "shared/tests/test_bus.py::test_an_event_published_before_the_first_start_is_handled_once",
    ),
    Mutant(
        "streams cut by length",
        f"{_SHARED}/trim.lua",
        "'MINID', '~', bound, 'LIMIT', ARGV[2]",
        "'MAXLEN', '1'",
        "shared/tests/test_delivery_once.py",
    ),
    Mutant(
        "trimming does not look at what is pending",
        f"{_SHARED}/trim.lua",
        "if group['pending'] > 0 then",
        "if false then",
        "shared/tests/test_delivery_once.py",
    ),
    Mutant(
        "the last answer wins",
        f"{_SHARED}/complete.lua",
        "if not (answered and answered[words[once + i]]) then",
        "if true then",
        "shared/tests/test_delivery_once.py",
    ),
    Mutant(
        "digests are not checked",
        f"{_SHARED}/store.py",
        "if len(data) != ref.size or hashlib.sha256(data).hexdigest() != ref.sha256:",
        "if False:",
        "shared/tests",
    ),
    Mutant(
        "state changes without its guard",
        f"{_SHARED}/complete.lua",
        "if value ~= ARGV[5] then return redis.status_reply('STALE') end",
        "",
        "shared/tests/test_bus.py::test_state_and_acknowledgement_change_together_or_not_at_all",
    ),
    Mutant(
        "a stale heartbeat steals the entry back",
        f"{_SHARED}/renew.lua",
        "#redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0",
        "true",
        "shared/tests",
    ),
    Mutant(
        "nothing is taken over from the dead",
        f"{_SHARED}/delivery.py",
        "async for entry in self._idle(stream, lease_ms):",
        "async for entry in self._idle(stream, 10**12):",
        "shared/tests/test_bus.py::test_what_a_dead_consumer_left_is_taken_over",
    ),
    Mutant(
        "an entry that always fails is tried for ever",
        f"{_SHARED}/bus.py",
        "if delivery.deliveries > self.delivery.max_deliveries:",
        "if False:",
        "shared/tests/test_bus.py::test_an_entry_that_always_fails_ends_in_the_dead_letters",
    ),
    Mutant(
        "one that must wait longer hides those behind it",
        f"{_SHARED}/delivery.py",
        '            if entry["time_since_delivered"] < wait_ms:\n                continue\n',
        '            if entry["time_since_delivered"] < wait_ms:\n                break\n',
        "shared/tests/test_bus.py::test_an_entry_that_must_wait_longer_hides_no_other",
    ),
    Mutant(
        "a full Redis costs a delivery",
        f"{_SHARED}/room.py",
        "            if not is_full(error):\n                raise",
        "            if True:\n                raise",
        "shared/tests/test_room.py",
    ),
    Mutant(
        "publishers fill Redis to the brim",
        f"{_SHARED}/room.py",
        "if share >= settings.shed_memory_share:",
        "if False:",
        "shared/tests/test_room.py",
    ),
    Mutant(
        "a stream of poison is drained",
        f"{_SHARED}/halts.py",
        "if not self._limit.note(stream, handled, buried) or stream in self.streams:",
        "if True:",
        "shared/tests/test_limits.py",
    ),
    Mutant(
        "a halt is forgotten by a restart",
        f"{_SHARED}/bus.py",
        "        await self.halts.look()\n        self._tails",
        "        self._tails",
        "shared/tests/test_limits.py",
    ),
    Mutant(
        "an id is accepted with any rows",
        f"{_SHARED}/inbox.py",
        "    if (first.pipeline,",
        "    if False and (first.pipeline,",
        "shared/tests/test_keeping_order.py",
    ),
    Mutant(
        "signatures are not checked",
        f"{_SHARED}/signing.py",
        "                return key.verify(signature, message)\n        raise InvalidSignature",
        "                return key.verify(signature, message)",
        "tests/integration/test_forged_promotions.py",
    ),
)


@contextlib.contextmanager
def _copied() -> Iterator[Path]:
    """The source in a place where it may be broken."""
    with tempfile.TemporaryDirectory(prefix="tidemill-mutant-") as folder:
        copy = Path(folder) / "src"
        shutil.copytree(ROOT / "shared" / "src", copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        yield copy


def _tested(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """The tests, up to the first that fails on this source."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def caught(mutant: Mutant) -> bool:
    """Whether the tests fail on the mutant; that they pass on the source as it is, ``run_all`` has seen."""
    with _copied() as copy:
        target = copy / Path(mutant.file).relative_to("shared/src")
        source = target.read_text()
        if source.count(mutant.old) != 1:
            raise LookupError(f"{mutant.name}: the line to break is not in {mutant.file} exactly once")
        target.write_text(source.replace(mutant.old, mutant.new))
        return _tested(copy, mutant.tests).returncode == 1


def run_all(say: Callable[[str], None], mutants: Sequence[Mutant] = MUTANTS) -> Iterator[tuple[str, bool]]:
    """Each mutant in turn; none counts as caught when the tests fail on the source as it is."""
    with _copied() as copy:
        whole = _tested(copy, *sorted({mutant.tests for mutant in mutants}))
    if whole.returncode:
        say(f"no mutant can be judged: the tests do not pass on the source as it is\n{whole.stdout[-1500:]}")
    for mutant in mutants:
        found = not whole.returncode and caught(mutant)
        say(f"mutant {'caught' if found else 'LIVED '}  {mutant.name}")
        yield mutant.name, found
