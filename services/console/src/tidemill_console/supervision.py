"""The embedded stack's processes under supervisord: its configuration, and talking to it."""

import hashlib
import http.client
import tempfile
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from tidemill_shared.embedded import Command


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    command: Command
    log: Path
    priority: int
    stop_seconds: int = 25


def socket_path(directory: Path) -> Path:
    """Supervisord's socket. Not in the directory itself: a socket's path may have 107 characters at most."""
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tidemill-{digest}.sock"


def _quoted(value: str) -> str:
    return '"' + value.replace("%", "%%").replace('"', '\\"') + '"'


def configuration(directory: Path, programs: list[Program]) -> str:
    """supervisord.conf; secrets are named by file in it."""
    socket, logs = socket_path(directory), directory / "logs"
    sections = [
        f"[unix_http_server]\nfile={socket}\nchmod=0700",
        f"[supervisord]\nlogfile={logs}/supervisord.log\nlogfile_maxbytes=5MB\nlogfile_backups=1\n"
        f"pidfile={directory}/supervisord.pid\nchildlogdir={logs}\nnodaemon=false\nsilent=true\n"
        f"directory={directory}",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        f"[supervisorctl]\nserverurl=unix://{socket}",
    ]
    for program in programs:
        environment = ",".join(f"{k}={_quoted(v)}" for k, v in sorted(program.command.env.items()))
        command = " ".join(_quoted(word) for word in program.command.argv)
        sections.append(
            f"[program:{program.name}]\ncommand={command}\nenvironment={environment}\npriority={program.priority}\n"
            "autostart=true\nautorestart=true\nstartsecs=1\nstartretries=1000000\n"
            # A service drains on SIGTERM; its children die with it, and the group is killed to be sure.
            f"stopsignal=TERM\nstopwaitsecs={program.stop_seconds}\nkillasgroup=true\n"
            f"redirect_stderr=true\nstdout_logfile={program.log}\nstdout_logfile_maxbytes=20MB\n"
            "stdout_logfile_backups=1"
        )
    return "\n\n".join(sections) + "\n"


class Supervisor:
    """A running supervisord, by its socket."""

    def __init__(self, directory: Path) -> None:
        self._address = f"unix://{socket_path(directory)}"

    def _call(self, method: str, *arguments: Any) -> Any:
        # A connection for each call: a transport whose first connection failed refuses every later request.
        with xmlrpc.client.ServerProxy(
            "http://127.0.0.1", transport=SupervisorTransport(None, None, self._address)
        ) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def alive(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def processes(self) -> list[dict[str, Any]]:
        """Name, state, pid, start time of each program."""
        return list(self._call("getAllProcessInfo"))

    def stop(self, name: str) -> None:
        """Stop one program and wait for its end."""
        self._call("stopProcess", name, True)

    def start(self, name: str) -> None:
        """Start one program that was stopped."""
        self._call("startProcess", name, True)

    def shutdown(self) -> None:
        """Stop everything, supervisord too."""
        self._call("shutdown")
