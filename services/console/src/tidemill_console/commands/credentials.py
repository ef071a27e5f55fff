"""``redis-url``, ``rotate``: the installation's secrets, for programs outside and when they may have leaked."""

import sys
from typing import Annotated

import typer

from tidemill_console.connection import directory
from tidemill_console.output import USAGE, fail, say
from tidemill_console.stack import Stack
from tidemill_shared import credentials
from tidemill_shared.errors import TidemillError
from tidemill_shared.permissions import CLIENTS


def redis_url(
    user: Annotated[str, typer.Argument(help=f"{', '.join(CLIENTS)}: publish, read results, or operate.")],
) -> None:
    """Print the address of the embedded Redis with a user's password, for a program's environment."""
    if user not in CLIENTS:
        fail(f"no user {user!r}: {', '.join(CLIENTS)}", USAGE)
    stack = Stack(directory())
    try:
        port = stack.ports().redis
    except TidemillError as error:
        fail(str(error))
    password = stack.credentials.redis_password(user).read_text().strip()
    sys.stdout.write(f"redis://{user}:{password}@127.0.0.1:{port}/0\n")


def rotate(
    parts: Annotated[list[str], typer.Argument(help=f"{', '.join(credentials.PARTS)}.")],
    forget: Annotated[
        bool, typer.Option(help="Believe nothing that the old signing keys signed: their models answer no more.")
    ] = False,
) -> None:
    """Make secrets anew; a running stack is stopped before and started after."""
    wanted = [part for part in credentials.PARTS if part in parts]
    if len(wanted) != len(set(parts)):
        fail(f"what can be made anew: {', '.join(credentials.PARTS)}", USAGE)
    stack = Stack(directory())
    if not stack.exists():
        fail(f"no stack in {stack.directory}")
    running = stack.running()
    try:
        if running:
            stack.down(say)
        stack.rotate(wanted, forget=forget)
        say(f"made anew: {', '.join(wanted)}; the files are in {stack.credentials.directory}")
        if running:
            stack.up(say)
    except TidemillError as error:
        fail(str(error))
