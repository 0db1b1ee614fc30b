"""Execute a notebook without a network and keep it with its pictures: ``notebook_run.py NOTEBOOK OUT.ipynb``.

A process of its own, in a network namespace of its own where the system allows one (see ``test_96_notebooks.py``).
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def loopback_up():
    """Bring up the loopback device of a new network namespace: Dask workers talk over it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def reachable():
    """Whether anything but this machine can be reached: asked below what a test may have put over ``connect``."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("192.0.2.1", 80)) != errno.ENETUNREACH


def main(notebook, out):
    if "--namespace" in sys.argv:
        loopback_up()
        assert not reachable(), "the network is not blocked"
    book = jupytext.read(notebook)
    client = NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(Path.cwd())}})
    try:
        client.execute()
    finally:
        nbformat.write(book, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
