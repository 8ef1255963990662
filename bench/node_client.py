"""AWS's streaming client for Node.js, which builds C++ when it is installed: used where that has worked once.

python -m bench.node_client     builds it: needs npm, cmake, a C++ compiler, autoconf, libtool and Node's headers
"""

from __future__ import annotations

import os
import subprocess

from bench.peer import NODE_CLIENT

VERSION = "4.0.2"


def is_there() -> bool:
    """Tell whether it was built."""
    return NODE_CLIENT.with_name("rapid-client.node").exists()


def main() -> None:
    """Install and build it below `.build`."""
    folder = NODE_CLIENT.parents[2]
    folder.mkdir(parents=True, exist_ok=True)
    environ = {**os.environ, "npm_config_nodedir": os.environ.get("NODE_HOME", "/usr")}
    package = f"aws-lambda-ric@{VERSION}"
    command = ["npm", "install", "--no-fund", "--no-audit", "--no-save", "--allow-scripts", package, package]
    subprocess.run(command, cwd=folder, env=environ, check=True)


if __name__ == "__main__":
    main()
