"""What processes listen on, and what a stranger on the same machine gets there."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

NOBODY = 65534

# Connects as plain as can be, then with TLS but no certificate, and prints what is answered. For any Python.
STRANGER = """
import json, socket, ssl, sys

def plain(host, port):
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        return connection.recv(8)

def without_certificate(host, port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port), timeout=20) as connection:
        with context.wrap_socket(connection) as encrypted:
            return encrypted.recv(8)

def answer(ask, host, port):
    try:
        return ask(host, port).decode("latin-1")
    except ssl.SSLError as problem:
        return "refused: " + str(problem.reason)
    except OSError as problem:
        return "refused: " + type(problem).__name__

for host, port in json.load(sys.stdin):
    first = answer(plain, host, port)
    second = "" if first.startswith("HTTP") else answer(without_certificate, host, port)
    print(json.dumps([host, port, first, second]))
"""


@dataclass(frozen=True)
class Listener:
    """A socket that a process listens on."""

    command: str
    host: str
    port: int

    @property
    def is_local(self) -> bool:
        return self.host in ("127.0.0.1", "::1")

    @property
    def reached_at(self) -> str:
        host = ip_address(self.host)
        return {4: "127.0.0.1", 6: "::1"}[host.version] if host.is_unspecified else self.host

    @property
    def speaks_tls(self) -> bool:
        """Whether it shows a certificate before it takes anything else, and who has none gets no further."""
        anyone = ssl.create_default_context()
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((self.reached_at, self.port), timeout=30) as plain:
            try:
                with anyone.wrap_socket(plain) as connection:
                    shown = bool(connection.getpeercert(binary_form=True))
                    return shown and not _gets_an_answer(connection)
            except (ssl.SSLError, ConnectionError):
                return False


@dataclass(frozen=True)
class Answer:
    """What a stranger got at a port: the first bytes to a plain request, and to TLS without a certificate."""

    plain: str
    encrypted: str

    @property
    def is_refused(self) -> bool:
        """A TLS port: an alert (0x15) or nothing, never a word of a protocol."""
        return self.plain[:1] in ("", "\x15", "r") and self.encrypted[:8] in ("", "refused:")

    @property
    def is_web(self) -> bool:
        return self.plain.startswith("HTTP/1.")


def answers_to_nobody(listeners: Iterable[Listener]) -> dict[Listener, Answer]:
    """What these answer to another user of this machine; only root can ask."""
    listeners = list(listeners)
    where = [(one.reached_at, one.port) for one in listeners]
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", STRANGER],
        input=json.dumps(where),
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {one: Answer(plain, encrypted) for one, (_, _, plain, encrypted) in zip(listeners, rows, strict=True)}


def _gets_an_answer(connection: ssl.SSLSocket) -> bool:
    with suppress(ssl.SSLError, ConnectionError):
        return bool(connection.recv(1))
    return False


def listeners(pids: Mapping[int, str]) -> list[Listener]:
    """The TCP sockets that these processes listen on; their commands, or other names, by process id."""
    inodes = {inode: command for pid, command in pids.items() for inode in _sockets(pid)}
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[i] for i in (1, 3, 9))
            if state == "0A" and inode in inodes:
                address, port = local.split(":")
                host = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
                found.append(Listener(inodes[inode], socket.inet_ntop(family, host), int(port, 16)))
    return found


def _sockets(pid: int) -> Iterator[str]:
    with suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                if inode := re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink())):
                    yield inode[1]


def family(pid: int | None = None) -> dict[int, str]:
    """A process (this one) and all that it has started: `driver` and `child`, by process id."""
    first = pid or os.getpid()
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = {first: "driver"}
    while new := {child: "child" for child, parent in parents.items() if parent in found and child not in found}:
        found |= new
    return found
