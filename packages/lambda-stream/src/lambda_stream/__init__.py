"""Any ASGI application on the AWS Lambda Runtime API, with response streaming.

`python -m lambda_stream` runs what `_HANDLER` names, as a Lambda runtime's bootstrap does; `run` is the same as a
coroutine. Modules whose names begin with an underscore are private.
"""

from __future__ import annotations

from lambda_stream._invocation import Context
from lambda_stream._process import run
from lambda_stream._settings import Timeouts
from lambda_stream._snapshot import after_restore, before_snapshot
from lambda_stream._trace import trace_id

__all__ = ["Context", "Timeouts", "after_restore", "before_snapshot", "run", "trace_id"]
__version__ = "0.1.0"
