"""The programs of the service: commands, environments, folders, logs. Starts none of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from local import stores
from local.plan import DEMO_MODEL, FunctionPlan, Plan
from local.process import Program, python
from local.server import LOOPBACK, port_of


def log_of(plan: Plan, name: str) -> Path:
    """Return where a program's output goes."""
    return plan.state / "logs" / f"{name}.log"


def valkey(plan: Plan, port: int) -> Program:
    """Return the embedded Valkey."""
    return stores.valkey(plan.state / "valkey", log_of(plan, "valkey"), port, plan.environ)


def migrations(plan: Plan, mysql_url: str) -> Program:
    """Return what brings the database to its schema, and ends."""
    environ = _python_path(plan.environ, plan.root, plan.root / "layers" / "common") | {"MYSQL_URL": mysql_url}
    return Program("migrations", python("-m", "local.migrate"), environ, plan.root, log_of(plan, "migrations"))


def retention(plan: Plan, settings: Mapping[str, str]) -> Program:
    """Return what deletes chats that are kept no longer, and ends."""
    environ = _python_path(plan.environ, plan.root, plan.root / "layers" / "common") | dict(settings)
    command = python(str(plan.root / "functions" / "manage_chats" / "retention.py"))
    return Program("retention", command, environ, plan.root, log_of(plan, "retention"))


def demo(plan: Plan, listener: socket.socket) -> Program:
    """Return the demo model, serving on a socket that stays open when it dies."""
    return Program(
        "demo_model",
        python("-m", "local.demo_model", str(listener.fileno())),
        _python_path(plan.environ, plan.root, plan.root / "layers" / "common"),
        plan.root,
        log_of(plan, "demo_model"),
        inherited=(listener.fileno(),),
        probe=lambda: stores.answers(port_of(listener), b"GET /v1/models HTTP/1.0\r\n\r\n", b"HTTP/1.1 200"),
    )


def demo_settings(listener: socket.socket) -> dict[str, str]:
    """Return the settings that lead a function to the demo model."""
    return {
        "OPENAI_API_KEY": DEMO_MODEL,
        "OPENAI_BASE_URL": f"http://{LOOPBACK}:{port_of(listener)}/v1",
        "OPENAI_MODEL": DEMO_MODEL,
    }


def function(plan: Plan, one: FunctionPlan, settings: Mapping[str, str], api: socket.socket) -> Program:
    """Return a process of a function, which finds its Runtime API at `api`.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html (defined runtime variables)
    """
    own = {
        "AWS_LAMBDA_RUNTIME_API": f"{LOOPBACK}:{port_of(api)}",
        "_HANDLER": one.handler,
        "LAMBDA_TASK_ROOT": str(one.folder),
        "AWS_LAMBDA_FUNCTION_NAME": one.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{one.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"local/[$LATEST]{port_of(api)}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    }
    if one.concurrency > 1:
        own["AWS_LAMBDA_MAX_CONCURRENCY"] = str(one.concurrency)
    inherited = {name: value for name, value in plan.environ.items() if name != "AWS_LAMBDA_MAX_CONCURRENCY"}
    inherited["CHAT_ALLOWED_ORIGINS"] = inherited.get("CHAT_ALLOWED_ORIGINS") or "http://localhost:*"
    environ = (
        _python_path(
            inherited, one.folder, plan.root / "layers" / "common", plan.root / "packages" / "lambda-stream" / "src"
        )
        | dict(settings)
        | own
    )
    return Program(one.name, python(*one.runtime), environ, plan.root, log_of(plan, one.name))


def _python_path(environ: Mapping[str, str], *folders: Path) -> dict[str, str]:
    return dict(environ) | {"PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONUNBUFFERED": "1"}
