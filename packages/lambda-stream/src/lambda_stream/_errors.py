"""What can go wrong, as one tree.

LambdaStreamError
├── InitError            the application cannot be loaded or started: reported to /init/error, then exit
├── RestoreError         it cannot go on from a snapshot: reported to /restore/error, then exit
├── InvalidInvocation    an event that this package does not serve: reported to the invocation's /error
├── ApplicationExit      the application asked the process to end while it served a request: only the request ends
├── InvalidResponse      the application broke ASGI; raised into it by `send`
├── ResponseClosed       (also an OSError, as ASGI asks) nobody takes the response any more; raised by `send`
└── RuntimeApiError      the Runtime API cannot be reached, or does not speak HTTP
    ├── Disconnected     a connection ended before the first byte of a response
    └── Unusable         it told us to exit, or stayed away: the process ends

Error types as Lambda wants them are strings of the form `Runtime.Something` or `Function.Something`.
"""

from __future__ import annotations

import re


class LambdaStreamError(Exception):
    """Base of everything this package raises."""


class _Typed(LambdaStreamError):
    """`message` goes to Lambda and into the log, `details` (perhaps a traceback as text) only into the log."""

    def __init__(self, error_type: str, message: str, details: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.details = details


class InitError(_Typed):
    """The application cannot be loaded or started."""


class RestoreError(_Typed):
    """The application cannot go on after its snapshot was restored."""


class InvalidInvocation(_Typed):
    """The Runtime API handed out something that is not served."""


class ApplicationExit(LambdaStreamError):
    """The application raised SystemExit or KeyboardInterrupt within a request."""


class InvalidResponse(LambdaStreamError, RuntimeError):
    """The application sent what ASGI or Lambda does not allow."""


class ResponseClosed(LambdaStreamError, OSError):
    """The response cannot be written any more: lost, stalled or already answered by the Runtime API."""


class RuntimeApiError(LambdaStreamError):
    """The Runtime API cannot be reached or understood."""


class Disconnected(RuntimeApiError):
    """The connection ended before the first byte of a response."""


class FatalRuntimeError(RuntimeApiError):
    """Going on is pointless or forbidden: the process must end."""


def type_of(error: BaseException) -> str:
    """Name an exception as Lambda wants it: `Function.` and the class's letters.

    Source: the pattern `(Runtime|Function)\\.[A-Z][a-zA-Z]+` of the runtime interface emulator.
    """
    letters = re.sub(r"[^a-zA-Z]", "", type(error).__name__)
    name = letters[:1].upper() + letters[1:]
    return f"Function.{name}" if len(name) > 1 else "Function.Error"
