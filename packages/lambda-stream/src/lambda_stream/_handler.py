"""Finding the ASGI application that `_HANDLER` names: `module.attribute`, with `/` or `.` between packages."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from lambda_stream._errors import InitError, type_of

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def load(handler: str, task_root: str) -> Application:
    """Return the application that `_HANDLER` names; its module is imported from `task_root`, put first on the path.

    Raises:
        InitError: with the error types that Lambda's own Python runtime uses where it has one.
    """
    application: Application = load_named("_HANDLER", handler, task_root)
    return application


def load_named(setting: str, handler: str, task_root: str) -> Any:
    """Return the callable that a setting names, in the same way.

    Raises:
        InitError: with the error types that Lambda's own Python runtime uses where it has one.
    """
    module_name, dot, attribute = handler.rpartition(".")
    if not dot or not module_name or not attribute:
        raise InitError("Runtime.MalformedHandlerName", f"{setting} must be module.attribute, not {handler!r}")
    if task_root and task_root not in sys.path:
        sys.path.insert(0, task_root)
    application = getattr(_import(module_name.replace("/", ".")), attribute, None)
    if application is None:
        raise InitError("Runtime.HandlerNotFound", f"Module {module_name!r} has no {attribute!r}")
    if not callable(application):
        raise InitError("Runtime.HandlerNotCallable", f"{handler!r} cannot be called")
    return application


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InitError("Runtime.ImportModuleError", f"Unable to import module {name!r}: {error}") from error
    except SyntaxError as error:
        raise InitError("Runtime.UserCodeSyntaxError", f"Syntax error in module {name!r}: {error}") from error
    except Exception as error:  # a module may raise anything while it is imported; all of it is an init failure
        raise InitError(type_of(error), f"Module {name!r} failed: {type(error).__name__}: {error}") from error
