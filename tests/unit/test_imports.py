"""Every arrow points down: who may import whom."""

import ast
import re
from pathlib import Path

import pytest

LAYER = Path(__file__).parents[2] / "layers" / "common"
EDGES = {
    "redis",
    "hiredis",
    "sqlalchemy",
    "pymysql",
    "httpx",
    "httptools",
    "boto3",
    "starlette",
    "aws_lambda_powertools",
    "jwt",
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def modules(package: str) -> list[Path]:
    found = sorted((LAYER / package).rglob("*.py"))
    assert found
    return found


def offending(paths: list[Path], *forbidden: str) -> list[str]:
    return [
        f"{path.relative_to(LAYER)} imports {name}"
        for path in paths
        for name in imports(path)
        for bad in forbidden
        if name == bad or name.startswith(f"{bad}.")
    ]


GROUND = [
    LAYER / "chat" / f"{name}.py"
    for name in ("errors", "faults", "trace", "model", "answer", "context", "replay", "ports")
]


def test_the_ground_knows_no_library_and_nothing_above_it():
    assert not offending(GROUND, *EDGES, "chat.use_cases", "chat.adapters", "chat.web", "chat.wiring", "chat.settings")


def test_use_cases_know_no_library_of_the_edges_and_no_adapter():
    assert not offending(modules("chat/use_cases"), *EDGES, "os", "chat.adapters", "chat.web", "chat.wiring")


def test_adapters_know_neither_use_cases_nor_web_nor_each_other():
    assert not offending(modules("chat/adapters"), "chat.use_cases", "chat.web", "chat.wiring")
    kinds = ("redis", "mysql", "ai", "aws", "telemetry")
    for kind in kinds:
        others = [f"chat.adapters.{other}" for other in kinds if other != kind]
        assert not offending(modules(f"chat/adapters/{kind}"), *others)


def test_web_knows_no_adapter():
    assert not offending(modules("chat/web"), "chat.adapters", "redis", "sqlalchemy", "pymysql")


@pytest.mark.parametrize(("package", "other"), [("chat", "lambda_stream"), ("lambda_stream", "chat")])
def test_the_two_packages_of_the_layer_do_not_know_each_other(package: str, other: str):
    assert not offending(modules(package), other)


def test_nobody_reads_the_environment_behind_the_functions_backs():
    assert not offending(modules("chat"), "os.environ", "os.getenv")
    readers = [path.name for path in modules("chat") if re.search(r"\bos\.(environ|getenv)", path.read_text())]
    assert not readers
