"""Settings reach the code as arguments. Which module may import which is checked by import-linter (`make lint`)."""

import re
from pathlib import Path

CHAT = Path(__file__).parents[2] / "layers" / "common" / "chat"


def test_nobody_reads_the_environment_behind_the_functions_backs():
    modules = sorted(CHAT.rglob("*.py"))
    assert modules
    assert not [path.name for path in modules if re.search(r"\bos\.(environ|getenv)|from os import", path.read_text())]
