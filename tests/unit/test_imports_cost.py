"""What each function has imported when it is ready: every package is paid for at every cold start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOWHERE = {
    *("fastapi", "pydantic", "alembic", "uvicorn", "requests", "h11", "httpcore", "pytest"),
    *(
        "boto3",
        "botocore.session",
        "botocore.client",
        "jwt",
        "aiohttp",
        "orjson",
        "yaml",
        "multiprocessing",
        "sqlalchemy.orm",
        "sqlalchemy.ext",
    ),
    *("unittest", "xml", "sqlite3", "local", "tests", "migrations"),
}
DENIED = {
    "stream_chat": NOWHERE | {"mangum"},
    "create_chat": (NOWHERE - {"fastapi", "pydantic"}) | {"httpx", "httptools", "lambda_stream", "chat.adapters.llm"},
    "cancel_stream": NOWHERE | {"httpx", "httptools", "lambda_stream", "chat.adapters.llm"},
    "manage_chats": (NOWHERE - {"fastapi", "pydantic"}) | {"httpx", "httptools", "lambda_stream", "chat.adapters.llm"},
}
SETTINGS = {
    "REDIS_URL": "redis://localhost",
    "MYSQL_URL": "mysql://user:password@localhost/chat",
    "OPENAI_API_KEY": "key",
    "OPENAI_BASE_URL": "http://localhost/v1",
    "OPENAI_MODEL": "model",
}


def imported(function: str, **settings: str) -> set[str]:
    environ = {
        **SETTINGS,
        **settings,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(
            (str(ROOT / "layers" / "common"), str(ROOT / "packages" / "lambda-stream" / "src"))
        ),
    }
    # httpx looks for what its command line needs; the layer has neither
    code = """
import sys
sys.modules.update(click=None, rich=None)
import app
print(*[name for name, module in sys.modules.items() if module])
"""
    command = [sys.executable, "-c", code]
    folder = ROOT / "functions" / function
    return set(
        subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout.split()
    )


def denied(modules: set[str], names: set[str]) -> list[str]:
    return sorted(name for name in names if any(f"{module}.".startswith(f"{name}.") for module in modules))


@pytest.mark.parametrize("function", DENIED)
def test_a_function_imports_nothing_that_it_does_not_use(function: str):
    modules = imported(function)
    assert "chat.wiring" in modules
    assert not denied(modules, DENIED[function])


def test_what_a_setting_needs_is_imported_with_that_setting():
    settings = {"CHAT_JWT_SECRET": "s" * 32, "CHAT_JWT_ISSUER": "issuer", "CHAT_JWT_AUDIENCE": "audience"}
    modules = imported("stream_chat", CHAT_AUTH="jwt", **settings)
    assert denied(modules, NOWHERE) == ["jwt"]
