"""The sockets that the service listens on: bound in one place, for one worker and for several."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spikehead.settings import PREFIX, Settings

UNIX = "unix:"
"""Before the path of a unix socket, as gunicorn and nginx write it."""

UNIX_MODE = 0o666
"""Mode of a unix socket's file: as for a port of this machine, its folder says who may connect."""

BACKLOG = 2048
"""Connections that may wait until they are taken."""

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class ListenError(Exception):
    """The address cannot be listened on."""


@contextmanager
def listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """Bind the address of the settings; at the end close what is still open and remove a unix socket's file.

    A port refuses connections until somebody listens on its sockets. A unix socket listens at once: another process
    would take it for one that was left behind. Raises ListenError.
    """
    try:
        if settings.host.startswith(UNIX):
            path = Path(settings.host.removeprefix(UNIX))
            sockets = [_unix_socket(path)]
        else:
            path = None
            sockets = _tcp_sockets(settings.host, settings.port)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host
        expected = f"expected an address that is free to listen on ({PREFIX}HOST, {PREFIX}PORT)"
        reason = getattr(error, "strerror", None) or str(error)
        at = "" if settings.host.startswith(UNIX) else f" port {settings.port}"
        raise ListenError(f"{expected}, got {settings.host}{at}: {reason}") from error
    ours = path.stat() if path else None
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()
        with suppress(OSError):  # somebody else may have removed it
            if path and ours and os.path.samestat(path.stat(), ours):
                path.unlink()


def address_of(sock: socket.socket) -> str:
    """The address of a listening socket, as a person would ask for it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"{UNIX}{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def plain_address(address: tuple[str, int]) -> tuple[str, int]:
    """An IPv4 address that came by a socket of both families, as IPv4: `127.0.0.1` of `::ffff:127.0.0.1`."""
    host, port = address
    return (host.removeprefix("::ffff:") if "." in host else host, port)


def waiting_at(sock: socket.socket) -> Iterator[socket.socket]:
    """Take the connections that wait in the kernel's queue, until there are none."""
    sock.setblocking(False)
    while True:
        try:
            connection, _ = sock.accept()
        except ConnectionAbortedError:
            continue  # that one did not wait
        except OSError:
            return
        connection.setblocking(False)
        yield connection


def _tcp_sockets(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host, all with one port."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            name = (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])
            try:
                sockets.append(_tcp_socket(family, name))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error  # a name may have addresses of a family that this machine has not
        if missing and not sockets:
            raise missing
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _tcp_socket(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # systems differ in their default
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _unix_socket(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_behind(path)
        sock.bind(str(path))
        path.chmod(UNIX_MODE)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_left_behind(path: Path) -> None:
    """Remove the file of a socket on which nobody listens any more: a process that was killed leaves it."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(1)
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except TimeoutError:
            pass  # its queue is full: somebody listens, and `bind` says so
