"""What each user may do in Redis, as redis-server's own access list, derived from the table of events in the contracts.

Valid from Redis 6.2 on, whose rules are one set of commands for one set of keys. What that cannot say, others do: a
service may add to the streams it consumes, so promotions, approvals and packages are signed; a script may be anything,
so it runs with its caller's rights and no more.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tidemill_contracts.registry import EVENTS
from tidemill_contracts.streams import dead_letter_key, state_key, stream_key

SERVICES = ("ingestion", "training", "packaging", "validation", "serving", "monitoring")
CLIENTS = ("operator", "producer", "consumer")
USERS = (*SERVICES, *CLIENTS)
"""Everybody with a password of their own. ``operator`` is the console, the other two are programs outside."""

_CONNECTION = ("+@connection", "-client", "+client|setname", "+client|id", "+cluster|slots")
_CONSUMING = (
    "+xread",
    "+xreadgroup",
    "+xack",
    "+xpending",
    "+xclaim",
    "+xautoclaim",
    "+xinfo",
    "+xlen",
    "+xrange",
    "+xrevrange",
    "+xgroup|create",
    "+xgroup|createconsumer",
    "+xgroup|delconsumer",
)
_STATE = ("+@string", "+@hash", "+@list", "+@set", "+@sortedset", "+del", "+unlink", "+exists", "+type")
_LIFETIME = ("+expire", "+pexpire", "+expireat", "+pexpireat", "+persist", "+ttl", "+pttl", "+time", "+info")
# EVAL stays forbidden. Loading is not: after a restart Redis has forgotten every script, and whoever needs one first
# loads it again.
_SCRIPTS = ("+evalsha", "+script|load", "+script|exists")
_SERVICE = (*_CONNECTION, *_CONSUMING, "+xadd", "+xtrim", *_STATE, *_LIFETIME, *_SCRIPTS)
_SHADOWING = ("+xgroup|destroy", "+xgroup|setid")
"""A group that lives as long as a shadow does, and leaves out what it cannot keep up with."""
_OPERATOR = ("+@all", "-@admin", "-@dangerous", "-@scripting", *_SCRIPTS, *_CONNECTION, "+info", "+xinfo", "+xgroup")


@dataclass(frozen=True)
class Rule:
    """One user's keys (Redis glob patterns) and commands."""

    user: str
    keys: tuple[str, ...]
    commands: tuple[str, ...]

    def line(self, password: str) -> str:
        """As a line of the access list; it holds the password's digest only."""
        digest = hashlib.sha256(password.encode()).hexdigest()
        keys = " ".join(f"~{key}" for key in self.keys)
        return f"user {self.user} reset on #{digest} {keys} -@all {' '.join(self.commands)}"


def _streams(namespace: str, user: str) -> tuple[set[str], set[str]]:
    """What a user consumes and publishes; ``*`` stands for any pipeline."""
    reads: set[str] = set()
    writes: set[str] = set()
    for type_, cls in EVENTS.items():
        stream = stream_key(namespace, type_, "*" if cls.plane == "data" else None)
        if user in cls.consumers:
            reads.add(stream)
        if user in cls.publishers or (user in SERVICES and "any service" in cls.publishers):
            writes.add(stream)
    return reads, writes


def _service(namespace: str, service: str) -> Rule:
    reads, writes = _streams(namespace, service)
    if service == "ingestion":
        # Its sweeper publishes accepted events again.
        writes.add(stream_key(namespace, "data.arrived.v1"))
    own = {state_key(namespace, service, "*"), state_key(namespace, service, "*", "*")}
    shared = {state_key(namespace, "lock", "*"), dead_letter_key(namespace)}
    commands = (*_SERVICE, *_SHADOWING) if service == "serving" else _SERVICE
    return Rule(service, tuple(sorted(reads | writes | own | shared)), commands)


def rules(namespace: str) -> tuple[Rule, ...]:
    """The rule of every user."""
    _, produced = _streams(namespace, "producer")
    consumed, _ = _streams(namespace, "consumer")
    return (
        *(_service(namespace, service) for service in SERVICES),
        Rule("operator", (f"{{{namespace}}}:*", f"{{{namespace}:*"), _OPERATOR),
        Rule("producer", tuple(sorted(produced)), (*_CONNECTION, "+xadd")),
        Rule("consumer", tuple(sorted(consumed)), (*_CONNECTION, *_CONSUMING)),
    )


def access_list(namespace: str, passwords: Mapping[str, str]) -> str:
    """The file for redis-server: the default user is off, and ``health`` may ask whether Redis has loaded its data."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", namespace):
        raise ValueError(f"{namespace!r} is no namespace")
    lines = ["user default reset off", "user health reset on nopass -@all +ping"]
    lines += [rule.line(passwords[rule.user]) for rule in rules(namespace)]
    return "\n".join(lines) + "\n"
