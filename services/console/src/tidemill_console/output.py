"""What a person sees: results on stdout, everything else on stderr, one sentence for an error."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.console import Console

from tidemill_console.connection import Unreachable
from tidemill_shared.errors import Retryable, TidemillError

T = TypeVar("T")
OK, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
notes = Console(stderr=True, highlight=False, soft_wrap=True)
results = Console(highlight=False, soft_wrap=True)


def say(sentence: str) -> None:
    """What is going on, on stderr."""
    notes.print(sentence, markup=False)


def show_json(value: Any) -> None:
    """One JSON value on stdout, for scripts."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    """Say what was wrong and what to do, and end."""
    notes.print(f"[bold red]error:[/] {_escape(sentence)}")
    raise typer.Exit(code)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; expected errors become a sentence and an exit code, never a traceback."""
    try:
        return asyncio.run(work)
    except Unreachable as error:
        fail(str(error), UNREACHABLE)
    except (Retryable, RedisError, ConnectionError) as error:
        fail(f"the stack does not answer: {error}", UNREACHABLE)
    except ValidationError as error:
        fail(describe(error), USAGE)
    except TidemillError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def describe(error: ValidationError) -> str:
    """A validation error as lines of `where: what`."""
    lines = [
        f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}"
        for e in error.errors(include_url=False, include_input=False)
    ]
    return "; ".join(lines)
