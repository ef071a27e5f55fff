"""Environment variables, read off the settings classes of the kit and of every service."""

import importlib
import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tidemill_shared.settings import Settings

PREFIX = "TIDEMILL_"
_BOUNDS = ((annotated_types.Ge, "ge", "≥"), (annotated_types.Gt, "gt", ">"))
_LIMITS = ((annotated_types.Le, "le", "≤"), (annotated_types.Lt, "lt", "<"))


@dataclass(frozen=True)
class Variable:
    """One environment variable."""

    name: str
    default: str
    """As one would write it; empty when there is none, and for every secret."""
    meaning: str
    bounds: str


def common() -> list[Variable]:
    """The variables every service reads."""
    return list(_variables(Settings.model_fields, PREFIX))


def of_service(root: Path, service: str) -> list[Variable]:
    """The variables only ``service`` reads; empty when it has no settings class of its own."""
    if not (root / "services" / service / "src" / f"tidemill_{service}" / "settings.py").exists():
        return []
    module = importlib.import_module(f"tidemill_{service}.settings")
    own: dict[str, FieldInfo] = {}
    for cls in vars(module).values():
        if isinstance(cls, type) and issubclass(cls, Settings) and cls.__module__ == module.__name__:
            own |= {name: field for name, field in cls.model_fields.items() if name not in Settings.model_fields}
    return list(_variables(own, PREFIX))


def _variables(fields: dict[str, FieldInfo], prefix: str) -> Iterator[Variable]:
    for name, field in fields.items():
        group = _group(field.annotation)
        if group:
            yield from _variables(group.model_fields, f"{prefix}{name.upper()}__")
        else:
            yield Variable(
                f"{prefix}{name.upper()}", _default(field), " ".join((field.description or "").split()), _bounds(field)
            )


def _group(annotation: Any) -> type[BaseModel] | None:
    candidates = get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or isinstance(value, SecretStr):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list | dict | set | frozenset):
        return _json(value)
    return str(value)


def _json(value: Any) -> str:
    return json.dumps(sorted(value) if isinstance(value, set | frozenset) else value)


def _bounds(field: FieldInfo) -> str:
    parts = [
        f"{sign} {_number(getattr(constraint, attribute))}"
        for kinds in (_BOUNDS, _LIMITS)
        for kind, attribute, sign in kinds
        for constraint in field.metadata
        if isinstance(constraint, kind)
    ]
    return ", ".join(parts)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
