"""Requests that schemathesis makes out of an OpenAPI document, and some that break it, against a running service."""

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


def attack(
    document: Mapping[str, Any], base: str, *, key: str, cases: int, seed: int, path: Mapping[str, str]
) -> Counter[str]:
    """Send about ``cases`` requests to what the document describes and check each answer; how many had which outcome.

    ``path`` gives values to parameters of paths, so that most requests reach a model. An operation that has few
    different requests gets fewer, the last one of the document the rest. Raises what schemathesis finds.
    """
    import hypothesis
    import requests
    import schemathesis
    from schemathesis import GenerationMode

    document = copy.deepcopy(dict(document))
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    checks = [schemathesis.checks.CHECKS.get_one(name) for name in CHECKS]
    session = requests.Session()
    seen: Counter[str] = Counter()
    for index, operation in enumerate(operations):
        modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        left = len(modes) * (len(operations) - index)
        for mode in modes:
            share = max(1, (cases - seen.total()) // left)
            left -= 1
            given = {name: value for name, value in path.items() if f"{{{name}}}" in operation.path}

            def send(case: Any) -> None:
                answer = case.call(
                    base_url=base, session=session, timeout=30, headers={"Authorization": f"Bearer {key}"}
                )
                if answer.text == "Invalid HTTP request received.":  # it never came to a route
                    seen["no HTTP"] += 1
                    return
                seen[f"{answer.status_code // 100}xx"] += 1
                case.validate_response(answer, checks=checks)

            test = hypothesis.given(case=operation.as_strategy(mode, path_parameters=given or None))(send)
            test = hypothesis.settings(
                max_examples=share,
                deadline=None,
                database=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )(hypothesis.seed(seed)(test))
            try:
                test()
            except hypothesis.errors.Unsatisfiable:
                continue  # nothing about this operation can be wrong
    return seen
