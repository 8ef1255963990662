"""Says what was raised, and where, without the error's own words."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import PurePath


def describe(error: BaseException) -> str:
    """Say on one line what was raised and where, never in the error's own words.

    Those may quote a message, a token or a URL with a password, as the database driver's do.
    """
    return " caused by ".join(f"{type(one).__qualname__} at {_place(one)}" for one in _chain(error))


def _place(error: BaseException) -> str:
    frames = [
        f"{PurePath(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return " > ".join(frames[-8:]) or "an unknown place"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(5):
        if error is None:
            return
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
        error = inner or (None if error.__suppress_context__ else error.__context__)
