"""`python -m local`: see `local.command`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Run the command; Ctrl-C while its modules are still being loaded ends this quietly."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from local.command import run

    return run(sys.argv[1:], os.environ)


if __name__ == "__main__":
    sys.exit(main())
