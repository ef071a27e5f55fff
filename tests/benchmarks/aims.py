"""What serving is to show, and which figure of a run shows it.

Imported by ``serving_all.py``. A figure without an aim is shown all the same.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

_HOLDS = {"≥": operator.ge, "≤": operator.le, "=": operator.eq}


class Aim(NamedTuple):
    """``figure`` is where it stands: the part of the run, and the keys below it."""

    name: str
    figure: tuple[str, ...]
    sign: Literal["≥", "≤", "="] | None = None
    bound: float | None = None

    def met(self, value: float) -> bool | None:
        """None where nothing is aimed at."""
        return None if self.sign is None else bool(_HOLDS[self.sign](value, self.bound))


AIMS = (
    Aim("stream_to_the_loop_without_a_model", ("stream", "ratio_to", "own_loop_no_model"), "≥", 0.6),
    Aim("stream_to_the_loop_with_one_answer", ("stream", "ratio_to", "own_loop_one_answer")),
    Aim("stream_to_redis_py_loop", ("stream", "ratio_to", "redis_py_loop"), "≥", 0.6),
    Aim("stream_events_per_second", ("stream", "events_per_second", "serving"), "≥", 20_000),
    Aim("stream_to_faststream_sklearn", ("stream", "ratio_to", "faststream_sklearn"), "≥", 200),
    Aim("stream_to_faststream_onnx_batch", ("stream", "ratio_to", "faststream_onnx_batch"), "≥", 2),
    Aim("stream_p50_ms_at_2000", ("stream", "latency_ms", "2000", "p50"), "≤", 3),
    Aim("stream_p99_ms_at_2000", ("stream", "latency_ms", "2000", "p99"), "≤", 15),
    Aim("stream_p99_ms_at_10000", ("stream", "latency_ms", "10000", "p99"), "≤", 30),
    Aim("fenced_step_to_bare_step", ("delivery", "fenced_ratio")),
    Aim("tables_rows_to_onnx_runtime", ("tables", "ratio"), "≥", 0.6),
    Aim("large_table_rows_to_onnx_runtime", ("large_tables", "ratio_of_the_largest")),
    Aim("http_single_to_bare_app", ("http", "single_to_bare"), "≥", 1),
    Aim("http_single_to_constant", ("http", "single_to_constant"), "≥", 0.6),
    Aim("http_p99_ms_at_0.7", ("http", "open_loop_at_0.7", "p99_ms"), "≤", 50),
    Aim("http_64_rows_to_bare_app", ("http", "rows_of_64_to_bare"), "≥", 1),
    Aim("http_single_to_best_product_as_it_comes", ("http", "single_to_best_product_as_it_comes"), "≥", 30),
    Aim("http_single_to_mlserver_onnx_batching", ("http", "ratio_to", "mlserver_onnx_batching", "single")),
    Aim("http_single_to_bentoml_onnx_batching", ("http", "ratio_to", "bentoml_onnx_batching", "single")),
    Aim("kills_lost", ("kills", "lost"), "=", 0),
    Aim("kills_doubled", ("kills", "doubled"), "=", 0),
    Aim("swap_lost", ("swap", "lost"), "=", 0),
    Aim("swap_failed", ("swap", "failed"), "=", 0),
    Aim("swap_doubled", ("swap", "doubled"), "=", 0),
    Aim("swap_p99_ratio", ("swap", "ratio_p99"), "≤", 2),
    Aim("swap_rollback_seconds", ("swap", "rollback_seconds"), "≤", 2),
    Aim("rollback_seconds_from_alarm", ("rollback", "alarm_to_old_model_seconds"), "≤", 2),
    Aim("rollback_lost", ("rollback", "lost"), "=", 0),
    Aim("rollback_failed", ("rollback", "failed"), "=", 0),
    Aim("pipelines_megabytes_idle", ("pipelines", "megabytes_an_idle_pipeline")),
    Aim("pipelines_load_ms", ("pipelines", "load_on_demand_ms")),
    Aim("pipelines_all_at_random_to_one", ("pipelines", "ratio_all_to_one")),
    Aim("quiet_p99_beside_a_flood_to_alone", ("pipelines", "ratio_quiet_p99")),
    Aim("batch_rows_without_exactly_one_result", ("batch", "rows_without_exactly_one_result"), "=", 0),
    Aim("batch_resident_mb", ("batch", "resident_mb"), "≤", 500),
)


def judged(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each figure that was measured, with its aim. Of a part that failed there are none."""
    told: dict[str, dict[str, Any]] = {}
    for aim in AIMS:
        value = figure(found, aim.figure)
        if isinstance(value, (int, float)):
            told[aim.name] = {"value": value}
            if aim.sign:
                told[aim.name] |= {"aim": f"{aim.sign} {aim.bound:g}", "met": aim.met(value)}
    return told


def figure(found: Any, keys: Iterable[str]) -> Any:
    """What stands there; None where nothing does."""
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def table(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Lines for a person."""
    for name, row in told.items():
        met = {None: "", True: "met", False: "MISSED"}[row.get("met")]
        yield f"{name:42}{row['value']:>12,}  {row.get('aim', ''):>10}  {met}".rstrip()
