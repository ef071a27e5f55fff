"""Whether anything of a pipeline has to leave, asked of all pipelines together: most of them are idle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidemill_monitoring.keys import Keys
from tidemill_monitoring.spool import mark_of
from tidemill_shared.bus import Bus
from tidemill_shared.scripts import Script

_TOGETHER = 200
"""Pipelines a question: Redis does nothing else meanwhile."""
_GLANCE = Script("""
local found = {}
for k = 1, #KEYS, 5 do
  local waiting = redis.call('LLEN', KEYS[k + 1]) + redis.call('LLEN', KEYS[k + 3])
  if waiting == 0 then
    for m = k + 2, k + 4, 2 do
      local mark = redis.call('GET', KEYS[m])
      if mark and string.sub(mark, -2) ~= ':0' then waiting = 1 end
    end
  end
  found[#found + 1] = redis.call('GET', KEYS[k]) or ''
  found[#found + 1] = waiting
end
return found
""")


@dataclass(frozen=True, slots=True)
class Glance:
    """What was seen of a pipeline: the version of its state (empty where there is none), and whether rows wait."""

    version: bytes
    waiting: bool


async def glance(bus: Bus, pipelines: Sequence[str]) -> dict[str, Glance]:
    """One round trip for some hundred pipelines (in a cluster, for those of one slot). Raises redis errors."""
    by_slot: dict[int, list[Keys]] = {}
    for pipeline in pipelines:
        keys = Keys(bus.namespace, pipeline)
        by_slot.setdefault(bus.nodes.slot(keys.version), []).append(keys)
    found: dict[str, Glance] = {}
    for there in by_slot.values():
        for begin in range(0, len(there), _TOGETHER):
            some = there[begin : begin + _TOGETHER]
            names = [name for k in some for name in (k.version, k.feedback, mark_of(k.feedback), k.log, mark_of(k.log))]
            reply: Any = await _GLANCE(bus.nodes.of(names[0]), names, [])
            for keys, version, waiting in zip(some, reply[::2], reply[1::2], strict=True):
                found[keys.pipeline] = Glance(version, waiting > 0)
    return found
