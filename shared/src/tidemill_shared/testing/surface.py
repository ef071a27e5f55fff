"""Requests that schemathesis makes out of an OpenAPI document, and some that break it, against a running service."""

import contextlib
import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from starlette.routing import BaseRoute, Mount, Route

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def paths(routes: Sequence[BaseRoute], before: str = "") -> Iterator[str]:
    """Every path the service answers, with its parameters in braces."""
    for route in routes:
        if isinstance(route, Mount):
            yield from paths(route.routes, before + route.path)
        elif isinstance(route, Route):
            yield before + route.path


ROUNDS = 8
"""Sweeps over a document until as many requests were sent as were asked for."""


def attack(
    document: Mapping[str, Any], base: str, *, key: str, cases: int, seed: int, path: Mapping[str, str]
) -> Counter[str]:
    """Send at least ``cases`` requests to what the document describes, check each answer, and count the outcomes.

    ``path`` gives values to parameters of paths, so that most requests reach a model. An operation that has few
    different requests gets fewer, the last one of the document the rest, and what is still missing then comes of
    further sweeps with other seeds. A document of which few requests can be made gets fewer. Raises what schemathesis
    finds.
    """
    import schemathesis

    operations = [
        found.ok() for found in schemathesis.openapi.from_dict(copy.deepcopy(dict(document))).get_all_operations()
    ]
    target = _Target(base, key, path)
    for sweep in range(ROUNDS):
        missing = cases - target.seen.total()
        if missing <= 0:
            break
        _sweep(target, operations, cases=missing, seed=seed + 1000 * sweep)
    return target.seen


class _Target:
    """The service under attack, and what it answered so far."""

    def __init__(self, base: str, key: str, path: Mapping[str, str]) -> None:
        import requests
        import schemathesis

        self._base, self._headers = base, {"Authorization": f"Bearer {key}"}
        self._session = requests.Session()
        self._checks = [schemathesis.checks.CHECKS.get_one(name) for name in CHECKS]
        self.path = path
        self.seen: Counter[str] = Counter()

    def ask(self, case: Any) -> None:
        answer = case.call(base_url=self._base, session=self._session, timeout=30, headers=self._headers)
        if answer.text == "Invalid HTTP request received.":  # it never came to a route
            self.seen["no HTTP"] += 1
            return
        self.seen[f"{answer.status_code // 100}xx"] += 1
        case.validate_response(answer, checks=self._checks)


def _sweep(target: _Target, operations: Sequence[Any], *, cases: int, seed: int) -> None:
    """Each operation in turn, with sound and with spoilt requests, each with its share of what is left of ``cases``."""
    import hypothesis
    from schemathesis import GenerationMode

    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    turns = [(operation, mode) for operation in operations for mode in modes]
    end = target.seen.total() + cases
    for turn, (operation, mode) in enumerate(turns):
        share = max(1, (end - target.seen.total()) // (len(turns) - turn))
        given = {name: value for name, value in target.path.items() if f"{{{name}}}" in operation.path}

        # hypothesis marks the function it is given: a bound method cannot be marked
        def ask(case: Any) -> None:
            target.ask(case)

        test = hypothesis.given(case=operation.as_strategy(mode, path_parameters=given or None))(ask)
        test = hypothesis.settings(
            max_examples=share,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )(hypothesis.seed(seed)(test))
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing about this operation can be wrong
            test()
