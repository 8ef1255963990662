"""`rie_user.py COMMAND...`: exec a command as the root of a user namespace whose user 993 is the root outside.

With a concurrency the runtime interface emulator starts the function as user 993 of group 990, who could read neither
this checkout nor its interpreter. Run as a script, in an interpreter that knows nothing of this project.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_USER, _GROUP = 993, 990
_NOBODY = 65534


def _write_maps(parent: int) -> None:
    Path(f"/proc/{parent}/uid_map").write_text(f"{_USER} 0 1\n0 {_NOBODY} 1\n")
    Path(f"/proc/{parent}/gid_map").write_text(f"{_GROUP} 0 1\n0 {_NOBODY} 1\n")


def _enter_namespace() -> None:
    """Source: user_namespaces(7): the maps are written from outside, once the namespace is there."""
    entered, mapped = os.pipe(), os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        os.read(entered[0], 1)
        _write_maps(parent)
        os.write(mapped[1], b"x")
        os._exit(0)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        sys.exit(f"no user namespace: {os.strerror(ctypes.get_errno())}")
    os.write(entered[1], b"x")
    os.read(mapped[0], 1)
    os.wait()
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


if __name__ == "__main__":
    _enter_namespace()
    os.execvp(sys.argv[1], sys.argv[1:])
