"""What must hold of what a run left behind: pure functions of ``Evidence``, a sentence for every violation."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from faultkit import timeline
from faultkit.evidence import Evidence
from tidemill_contracts.events import (
    DataArrived,
    DatasetPrepared,
    DatasetRejected,
    ModelDeployed,
    ModelPromoted,
    ModelRejected,
    ModelTrained,
    ModelValidated,
    TrainingFailed,
    TrainingGranted,
)


def _documents(evidence: Evidence, part: str, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, data in evidence.documents.items():
        if key.startswith(folder) and part in key:
            yield key, json.loads(data)


def i1_every_accepted_event_has_one_outcome(evidence: Evidence) -> Iterator[str]:
    """Every accepted new-data event ends in exactly one dataset version or one rejection, and all say the same one."""
    accepted = {
        key.removeprefix("inbox/").removesuffix(".json") for key in evidence.documents if key.startswith("inbox/")
    }
    accepted |= {e.id for e in evidence.events if isinstance(e, DataArrived)}
    ends, said = _ends(evidence), _said(evidence)
    for id_ in sorted(accepted):
        if f"outcomes/{id_}.json" not in evidence.documents:
            yield f"data.arrived {id_} has no outcome"
        elif len(ends[id_]) != 1 or said[id_] - ends[id_]:
            found = [" and ".join(sorted(of[id_])) or "nothing" for of in (ends, said)]
            yield f"data.arrived {id_} ended as {found[0]}, and was said to be {found[1]}"


def _ends(evidence: Evidence) -> dict[str, set[str]]:
    """By event: its places in a pipeline's order of datasets, and its rejection."""
    found: dict[str, set[str]] = defaultdict(set)
    for key, entry in _documents(evidence, "/datasets/", "registry/"):
        manifest = json.loads(evidence.documents.get(entry["manifest"]["key"], b"{}"))
        for cause in manifest.get("causes", ()):
            found[cause].add(f"dataset {int(key[-13:-5])} {entry['version']}")
    for _, outcome in _documents(evidence, "", "outcomes/"):
        if outcome["rejected"]:
            found[outcome["event_id"]].add("rejection")
    for event in evidence.events:
        if isinstance(event, DatasetRejected):
            found[event.causationid or ""].add("rejection")
    return found


def _said(evidence: Evidence) -> dict[str, set[str]]:
    """By event: the datasets that its outcome and events name."""
    found: dict[str, set[str]] = defaultdict(set)
    for _, outcome in _documents(evidence, "", "outcomes/"):
        if made := outcome["prepared"]:
            found[outcome["event_id"]].add(f"dataset {made['sequence']} {made['version']}")
    for event in evidence.events:
        if isinstance(event, DatasetPrepared):
            found[event.causationid or ""].add(f"dataset {event.data.sequence} {event.data.version}")
    return found


def i2_one_id_is_one_event(evidence: Evidence) -> Iterator[str]:
    """An id is a function of content: two entries with one id carry the same payload; no entry takes effect twice."""
    payloads: dict[tuple[str, str], set[str]] = defaultdict(set)
    for event in evidence.events:
        if event.type != "training.progressed.v1":
            body = event.data.model_dump(mode="json")
            # Which replica it was, and how long it took, are facts about the run.
            for volatile in ("seconds", "instance", "at", "deliveries"):
                body.pop(volatile, None)
            payloads[event.type, event.id].add(json.dumps(body, sort_keys=True))
    for (kind, id_), found in payloads.items():
        if len(found) > 1:
            yield f"{kind} {id_} has {len(found)} different payloads"
    for step in timeline.completed_twice(evidence.steps):
        yield f"{step.stream} {step.entry} ({step.id}) was completed twice, the second time by {step.consumer}"


def i3_each_request_is_answered_once(evidence: Evidence) -> Iterator[str]:
    """At least one result, exactly one after de-duplication by id; duplicates are byte-identical."""
    by_request: dict[str, set[bytes]] = defaultdict(set)
    for answer in evidence.answers:
        by_request[answer.prediction_id].add(answer.body)
    for id_ in evidence.sent:
        if len(by_request.get(id_, ())) != 1:
            yield f"request {id_} has {len(by_request.get(id_, ()))} different answers"


def i4_only_validated_models_answer(evidence: Evidence) -> Iterator[str]:
    """No model answers without a passed validation of that very package, older than its load."""
    passed = _passed(evidence)
    packages: dict[str, set[str]] = defaultdict(set)
    for key, digest in evidence.digests.items():
        if key.startswith("packages/") and key.endswith("/manifest.json"):
            packages[key.split("/")[-2]].add(digest)
    for version in {a.model_version for a in evidence.answers if a.model_version}:
        if not packages[version] & passed.keys():
            yield f"model {version} answered and has no passed validation of its package"
    judged = _judged_at(evidence)
    for event in evidence.events:
        if isinstance(event, ModelDeployed):
            loaded = evidence.published_at[event.id]
            reports = passed.get(event.data.manifest.sha256, set())
            # With Redis the events went that say when a report was written; the reports themselves did not.
            if not reports or not (evidence.redis_lost_at or any(judged.get(r, loaded + 1) <= loaded for r in reports)):
                yield f"model {event.data.version} was loaded before a validation of its package had passed"


def _passed(evidence: Evidence) -> dict[str, set[str]]:
    """By digest of a package's manifest: the reports that let it pass."""
    found: dict[str, set[str]] = defaultdict(set)
    for key, report in _documents(evidence, "/validation-", "reports/"):
        if report["passed"]:
            found[report["package"]["sha256"]].add(key)
    return found


def _judged_at(evidence: Evidence) -> dict[str, float]:
    """By key of a report: when it was first told of."""
    found: dict[str, float] = {}
    for event in evidence.events:
        if isinstance(event, ModelValidated | ModelRejected):
            at, key = evidence.published_at[event.id], event.data.report.key
            found[key] = min(found.get(key, at), at)
    return found


def i5_every_reference_can_be_read(evidence: Evidence) -> Iterator[str]:
    """No event or manifest names an object that cannot be read with its stated digest."""
    for event in evidence.events:
        for key, digest in _references(event.data.model_dump(mode="json")):
            # An accepted event may name a file that never existed: that is its sender's fault, and is refused.
            if evidence.digests.get(key) != digest and not isinstance(event, DataArrived):
                yield f"{event.type} {event.id} names {key} with another digest"
    for where, data in evidence.documents.items():
        for key, digest in _references(json.loads(data)):
            if not where.startswith("inbox/") and evidence.digests.get(key) != digest:
                yield f"{where} names {key} with another digest"


def _references(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if {"key", "sha256", "size"} <= value.keys():
            yield value["key"], value["sha256"]
        for member in value.values():
            yield from _references(member)
    elif isinstance(value, list):
        for member in value:
            yield from _references(member)


def i6_one_promotion_a_sequence_number(evidence: Evidence) -> Iterator[str]:
    """One promotion per sequence number, in objects as in events, without gaps, and only of validated models."""
    passed = _passed(evidence)
    numbers: dict[str, list[int]] = defaultdict(list)
    promoted: dict[tuple[str, int], set[str]] = defaultdict(set)
    for key, promotion in _documents(evidence, "/promotions/", "registry/"):
        pipeline, sequence = key.split("/")[1], int(key.rpartition("/")[2].removesuffix(".json"))
        numbers[pipeline].append(sequence)
        promoted[pipeline, sequence].add(promotion["version"])
        if promotion["manifest"]["sha256"] not in passed:
            yield f"{key} promotes {promotion['version']}, which has no passed validation"
    for event in evidence.events:
        if isinstance(event, ModelPromoted):
            promoted[event.pipeline, event.data.sequence].add(event.data.version)
    for (pipeline, sequence), versions in promoted.items():
        if len(versions) > 1 or sequence not in numbers[pipeline]:
            yield f"promotion {sequence} of {pipeline} is told of as {', '.join(sorted(versions))}"
    for pipeline, found in numbers.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            yield f"promotions of {pipeline} are {sorted(found)}"


def i7_everything_is_resumed(evidence: Evidence) -> Iterator[str]:
    """At the end nothing is pending: what crashes interrupted was resumed."""
    for name, count in evidence.pending.items():
        yield f"{name}: {count} pending"
    for step in timeline.abandoned([s for s in evidence.steps if s.at > evidence.redis_lost_at]):
        yield f"{step.stream} {step.entry} was taken by {step.consumer} and never completed"
    for death in timeline.deaths(evidence.steps, evidence.killed):
        if death.resumed is None or (evidence.longest_recovery and death.resumed > evidence.longest_recovery):
            yield f"{death.consumer} died at {death.step}, its work was taken up after {death.resumed} s"


def i8_the_store_outlives_redis(evidence: Evidence) -> Iterator[str]:
    """What was promoted, prepared, validated or accepted before Redis was lost is still there, byte by byte."""
    for key, digest in evidence.before.items():
        if evidence.digests.get(key) != digest:
            yield f"{key} has changed or is gone"


def i9_one_training_at_a_time(evidence: Evidence) -> Iterator[str]:
    """At most one training per pipeline takes effect at a time: a grant follows the end of the one before."""
    grants = [e for e in evidence.events if isinstance(e, TrainingGranted)]
    ends: dict[str, float] = {}
    for event in evidence.events:
        if isinstance(event, ModelTrained | TrainingFailed):
            run = event.data.run if isinstance(event, TrainingFailed) else event.causationid
            if run:
                at = evidence.published_at[event.id]
                ends[run] = min(ends.get(run, at), at)
    for pipeline in {g.pipeline for g in grants}:
        mine = {g.id: evidence.published_at[g.id] for g in grants if g.pipeline == pipeline}
        order = sorted(mine, key=lambda i: mine[i])
        for earlier, later in pairwise(order):
            if ends.get(earlier, float("inf")) > mine[later]:
                yield f"{pipeline}: training {later} was granted while {earlier} ran"


def i10_poison_is_found_in_the_dead_letters(evidence: Evidence) -> Iterator[str]:
    """Each malformed event is in the dead letters, with its original bytes, and every letter has a reason."""
    missing = evidence.poison - evidence.dead
    if missing:
        yield f"{sum(missing.values())} of {sum(evidence.poison.values())} malformed events are not in the dead letters"
    letters, reasoned = sum(evidence.dead.values()), sum(n for why, n in evidence.dead_reasons.items() if why)
    if reasoned != letters:
        yield f"{reasoned} of {letters} dead letters have a reason"


def i11_nothing_unacknowledged_is_trimmed(evidence: Evidence) -> Iterator[str]:
    """Every pending entry is still in its stream, and none left it before each group had taken it."""
    if evidence.vanished:
        yield f"{evidence.vanished} pending entries are no longer in their stream"
    for name in evidence.untaken:
        yield f"{name}: entries left the stream before the group had taken them"


def i12_the_gate_decides(evidence: Evidence) -> Iterator[str]:
    """A rejected model never became champion."""
    rejected = {(e.pipeline, e.data.version) for e in evidence.events if isinstance(e, ModelRejected)}
    for key, promotion in _documents(evidence, "/promotions/", "registry/"):
        version = (key.split("/")[1], promotion["version"])
        if version in rejected and version[1] not in _promotable(evidence):
            yield f"{key} promotes {version[1]}, which the gate rejected"


def i13_no_secret_or_row_in_logs(evidence: Evidence) -> Iterator[str]:
    """No secret or raw row in logs or control events."""
    events = "\n".join(e.to_json().decode() for e in evidence.events)
    for canary in evidence.canaries:
        for where, text in (("logs", evidence.logs), ("events", events)):
            if canary in text:
                yield f"a canary ({canary[:4]}…) is in the {where}"


def _promotable(evidence: Evidence) -> set[str]:
    return {report["version"] for _, report in _documents(evidence, "/validation-", "reports/") if report["promote"]}


INVARIANTS: dict[str, Callable[[Evidence], Iterator[str]]] = {
    "I1": i1_every_accepted_event_has_one_outcome,
    "I2": i2_one_id_is_one_event,
    "I3": i3_each_request_is_answered_once,
    "I4": i4_only_validated_models_answer,
    "I5": i5_every_reference_can_be_read,
    "I6": i6_one_promotion_a_sequence_number,
    "I7": i7_everything_is_resumed,
    "I8": i8_the_store_outlives_redis,
    "I9": i9_one_training_at_a_time,
    "I10": i10_poison_is_found_in_the_dead_letters,
    "I11": i11_nothing_unacknowledged_is_trimmed,
    "I12": i12_the_gate_decides,
    "I13": i13_no_secret_or_row_in_logs,
}
