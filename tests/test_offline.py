"""The ground that "works without a network" stands on: in these tests there is none."""

from __future__ import annotations

import errno
import socket
import threading
import urllib.error
import urllib.request

import pytest


def test_a_page_on_the_internet_cannot_be_reached() -> None:
    with pytest.raises(urllib.error.URLError, match="name resolution"):
        urllib.request.urlopen("https://example.com", timeout=5)


@pytest.mark.parametrize(("address", "family"), [("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6)])
def test_an_address_in_figures_cannot_be_reached_either(address: str, family: socket.AddressFamily) -> None:
    with socket.socket(family) as sock:
        sock.settimeout(5)
        assert sock.connect_ex((address, 80)) == errno.ENETUNREACH
        with pytest.raises(OSError, match="unreachable"):
            sock.connect((address, 80))


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = threading.Thread(target=lambda: listener.accept()[0].sendall(b"here"))
        answer.start()
        with socket.create_connection(("localhost", listener.getsockname()[1]), timeout=5) as sock:
            assert sock.recv(4) == b"here"
        answer.join()
