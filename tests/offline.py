"""A machine without a network, made of this one: only addresses of the machine itself can be reached.

What tries to go further fails as it would with the cable pulled, so that the tests show what works offline.
Run as a program, it starts the Streamlit server under the same rule: ``python tests/offline.py run app.py``.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any

_connect, _connect_ex, _getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo


def cut_the_network() -> None:
    """From now on and for this whole process, every connection beyond the loopback interface is refused."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # a proxy on this machine would lead out again
    socket.socket.connect = _guarded_connect  # type: ignore[method-assign]
    socket.socket.connect_ex = _guarded_connect_ex  # type: ignore[method-assign]
    socket.getaddrinfo = _guarded_getaddrinfo


def _guarded_connect(sock: socket.socket, address: Any) -> None:
    if not _is_local(sock.family, address):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")
    _connect(sock, address)


def _guarded_connect_ex(sock: socket.socket, address: Any) -> int:
    return _connect_ex(sock, address) if _is_local(sock.family, address) else errno.ENETUNREACH


def _guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if not (_names_this_machine(host) or _is_number(host)):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _getaddrinfo(host, *args, **kwargs)


def _is_local(family: int, address: Any) -> bool:
    return family not in (socket.AF_INET, socket.AF_INET6) or _names_this_machine(address[0])


def _is_number(host: Any) -> bool:
    """An address in figures, which is looked up without asking anybody."""
    try:
        return bool(ipaddress.ip_address(_text(host)))
    except ValueError:
        return False


def _names_this_machine(host: Any) -> bool:
    if _text(host) in (None, "", "localhost", socket.gethostname()):
        return True
    if not _is_number(host):
        return False
    address = ipaddress.ip_address(_text(host))
    return address.is_loopback or address.is_unspecified


def _text(host: Any) -> Any:
    return host.decode() if isinstance(host, bytes) else host


if __name__ == "__main__":
    cut_the_network()
    from streamlit.web.cli import main

    main()
