"""SnapStart: the end of init before a snapshot is taken, and what comes after each restore.

    init ─▶ lifespan startup, shutdown ─▶ before-snapshot hooks ─▶ GET /restore/next ┄ snapshot ┄ restored, many times
         ─▶ fresh randomness ─▶ after-restore hooks ─▶ lifespan startup ─▶ GET /invocation/next

The lifespan runs to its end before the snapshot, so that all code has run once and nothing that it opened is in the
snapshot; it starts again after each restore. What must be kept across is loaded when a module is imported.

Source: AWS Lambda developer guide, "Implementing SnapStart hooks for container images", and "Handling uniqueness with
Lambda SnapStart"; the order of hooks is that of AWS's client for Python.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from lambda_stream._errors import InitError, RestoreError, RuntimeApiError
from lambda_stream._handler import Application
from lambda_stream._lifespan import Lifespan
from lambda_stream._runtime_api import RuntimeApi

Hook = Callable[[], Any]
F = TypeVar("F", bound=Hook)

_before: list[Hook] = []
_after: list[Hook] = []


def before_snapshot(hook: F) -> F:
    """Call `hook`, a function or a coroutine function, at the end of init; the last one registered comes first.

    Without SnapStart it is never called. If it raises, the version cannot be published.
    """
    _before.append(hook)
    return hook


def after_restore(hook: F) -> F:
    """Call `hook`, a function or a coroutine function, after each restore; the first one registered comes first.

    Lambda allows 10 s for all of them. If one raises, this environment ends.
    """
    _after.append(hook)
    return hook


async def pass_through_snapshot(api: RuntimeApi, application: Application, lifespan: Lifespan) -> Lifespan:
    """Leave a lifespan that has started, wait for the restore, and return one that has started after it.

    Raises:
        InitError: something went wrong before the snapshot.
        RestoreError: something went wrong after the restore.
    """
    try:
        await lifespan.shutdown(api.timeouts.shutdown)
        await _run([*reversed(_before), *reversed(_registered_with_aws("get_before_snapshot"))])
        await api.restore_next()
    except RuntimeApiError as error:
        raise InitError("Runtime.BeforeSnapshotError", f"no restore: {error}") from error
    except Exception as error:  # a hook may raise anything
        raise InitError("Runtime.BeforeSnapshotError", f"A before-snapshot hook failed: {_name(error)}") from error
    try:
        renew_randomness()
        await _run([*_registered_with_aws("get_after_restore"), *_after])
        lifespan = Lifespan(application)
        await lifespan.startup()
    except InitError as error:
        raise RestoreError("Runtime.AfterRestoreError", error.message, error.details) from error
    except Exception as error:  # as above
        raise RestoreError("Runtime.AfterRestoreError", f"An after-restore hook failed: {_name(error)}") from error
    return lifespan


def renew_randomness() -> None:
    """Seed anew what had drawn its seed before the snapshot; the kernel's own randomness is fresh by itself."""
    if (random := sys.modules.get("random")) is not None:
        random.seed()
    if (ssl := sys.modules.get("ssl")) is not None:
        ssl.RAND_add(os.urandom(32), 32.0)  # TLS keys come from OpenSSL's own generator


async def _run(hooks: Iterable[Hook]) -> None:
    for hook in hooks:
        result = hook()
        if inspect.isawaitable(result):
            await result


def _registered_with_aws(which: str) -> list[Hook]:
    """Return what was registered with AWS's `snapshot_restore_py`, where that can be imported."""
    try:
        package = importlib.import_module("snapshot_restore_py")
    except ImportError:
        return []
    return [partial(hook, *positional, **named) for hook, positional, named in getattr(package, which)()]


def _name(error: Exception) -> str:
    return type(error).__name__
