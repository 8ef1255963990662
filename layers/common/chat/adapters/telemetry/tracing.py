"""OpenTelemetry: a span for each answer, below it its calls to the stores and the AI; no text, no ids of people.

Loaded only where `CHAT_TRACING` is on. Standard variables say where spans go and how many: OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_TRACES_SAMPLER and their like. Source: OpenTelemetry, "Environment Variable Specification", semantic conventions
for HTTP and for generative AI.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chat import trace_context
from chat.application.ports import AI, AnswerTelemetry, Chats, Leases, RateLimiter, StreamPart
from chat.application.telemetry_events import AnswerEnded, AnswerStarted, FirstDeltaSent, TelemetryEvent
from chat.domain.model import ChatMessage, Status, Usage

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

FLUSH_MILLISECONDS = 2000
"""How long a response that has been sent waits for its spans to leave: on Lambda nothing runs after it."""
_ID = re.compile(r"/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_UI_CHAT = re.compile(r"^(/api/ui/chat)/[^/]+(/stream)$")
_XRAY = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24})(?:.*?Parent=([0-9a-f]{16}))?(?:.*?Sampled=([01]))?")
"""Source: AWS X-Ray developer guide, "Tracing header"."""
_CHATS = {"open_answer": "mysql open answer", "finish": "mysql store end", "checkpoint": "mysql checkpoint"}
_LEASE = {"register": "redis register", "release": "redis release", "stash_final": "redis stash end"}
_LIMITS = {"acquire": "redis limits", "release": "redis give back"}


class Tracing:
    """One for each process; `exporter` is OTLP over HTTP unless a test gives another."""

    def __init__(self, service: str, exporter: SpanExporter | None = None) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("chat")

    def app(self, app: ASGIApp) -> ASGIApp:
        """Return the application with a span round each of its API's requests."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or not scope["path"].startswith("/api/"):
                await app(scope, receive, send)
                return
            with self._request(scope) as span:

                async def sending(message: Any) -> None:
                    if message["type"] == "http.response.start":
                        span.set_attribute("http.response.status_code", message["status"])
                    await send(message)

                await app(scope, receive, sending)
            await asyncio.to_thread(self._provider.force_flush, FLUSH_MILLISECONDS)

        return traced

    def ai(self, ai: AI) -> AI:
        """Return the AI with a span round each answer."""
        return _TracedAI(ai, self._tracer)

    def chats(self, chats: Chats) -> Chats:
        """Return the store with a span round what an answer asks of it."""
        return cast(Chats, _Traced(chats, self._tracer, _CHATS))

    def rate_limiter(self, rate_limiter: RateLimiter) -> RateLimiter:
        """Return the limits with a span round what an answer asks of them."""
        return cast(RateLimiter, _Traced(rate_limiter, self._tracer, _LIMITS))

    def leases(self, leases: Leases) -> Leases:
        """Return the leases, each with a span round what its answer asks of it."""
        return cast(Leases, _TracedLeases(leases, self._tracer))

    def telemetry(self, telemetry: AnswerTelemetry) -> AnswerTelemetry:
        """Return what also notes on the request's span what becomes of its answer."""
        return _TracedTelemetry(telemetry)

    async def close(self) -> None:
        """Send what is left."""
        await asyncio.to_thread(self._provider.shutdown)

    @contextmanager
    def _request(self, scope: Scope) -> Iterator[Span]:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        xray = _xray(getattr(scope.get("aws.context"), "trace_id", None) or headers.get("x-amzn-trace-id"))
        parent = trace.get_current_span(TraceContextTextMapPropagator().extract(headers)).get_span_context()
        if parent.is_valid:
            links = [Link(xray)] if xray is not None else []
        else:
            parent, links = xray or parent, []
        route = _ID.sub("/{id}", _UI_CHAT.sub(r"\1/{id}\2", scope["path"]))
        with self._tracer.start_as_current_span(
            f"{scope['method']} {route}",
            trace.set_span_in_context(NonRecordingSpan(parent)) if parent.is_valid else None,
            SpanKind.SERVER,
            {"http.request.method": scope["method"], "http.route": route},
            links,
            record_exception=False,
        ) as span:
            yield span


class _Traced:
    """Delegates everything, with a span round the calls that are named."""

    def __init__(self, target: object, tracer: trace.Tracer, names: Mapping[str, str]) -> None:
        self._target, self._tracer, self._names = target, tracer, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name not in self._names:
            return found

        async def call(*arguments: Any, **more: Any) -> Any:
            with _span(self._tracer, self._names[name]):
                return await found(*arguments, **more)

        return call


class _TracedLeases(_Traced):
    def __init__(self, leases: Leases, tracer: trace.Tracer) -> None:
        super().__init__(leases, tracer, {})

    def claim(self, *arguments: Any) -> _Traced:
        return _Traced(cast(Leases, self._target).claim(*arguments), self._tracer, _LEASE)


class _TracedAI:
    def __init__(self, ai: AI, tracer: trace.Tracer) -> None:
        self._ai, self._tracer = ai, tracer

    @property
    def models(self) -> tuple[str, ...]:
        return self._ai.models

    async def answer(
        self, turns: Sequence[ChatMessage], max_tokens: int, model: str
    ) -> AsyncGenerator[Sequence[StreamPart], None]:
        asked: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
        asked["gen_ai.request.max_tokens"] = max_tokens
        # Not the current span: what a generator sets, its caller has between two batches.
        span = self._tracer.start_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=asked)
        told: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(told, trace.set_span_in_context(span))
        try:
            async with aclosing(self._ai.answer(turns, max_tokens, model)) as batches:
                with trace_context.carry(told.get("traceparent")):  # the request is made with the first batch
                    first = await anext(batches, ())
                _note_usage(span, first)
                yield first
                async for batch in batches:
                    _note_usage(span, batch)
                    yield batch
        except Exception as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()


def _note_usage(span: Span, batch: Sequence[StreamPart]) -> None:
    for part in batch:
        if isinstance(part, Usage):
            span.set_attribute("gen_ai.usage.input_tokens", part.input_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", part.output_tokens)


class _TracedTelemetry:
    def __init__(self, telemetry: AnswerTelemetry) -> None:
        self._telemetry = telemetry

    def record(self, event: TelemetryEvent) -> None:
        self._telemetry.record(event)
        span = trace.get_current_span()
        match event:
            case AnswerStarted():
                who = event.answer.identity
                span.set_attribute("chat.id", who.chat_id)
                span.set_attribute("chat.message.id", who.message_id)
            case FirstDeltaSent():
                span.add_event("first delta")
            case AnswerEnded() if (outcome := event.answer.outcome) is not None:
                span.set_attribute("chat.answer.status", outcome.status)
                span.set_attribute("chat.answer.characters", event.answer.characters)
                if outcome.status not in (Status.COMPLETED, Status.CANCELLED):
                    span.set_status(StatusCode.ERROR, outcome.error_code)


@contextmanager
def _span(tracer: trace.Tracer, name: str) -> Iterator[Span]:
    """Run the block in a span, which tells of an error its kind alone: messages may quote what was said."""
    with tracer.start_as_current_span(
        name, kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def _xray(header: str | None) -> SpanContext | None:
    """Return where X-Ray's trace stands."""
    found = _XRAY.search(header or "")
    if found is None or found[3] is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if found[4] == "1" else TraceFlags.DEFAULT)
    return SpanContext(int(found[1] + found[2], 16), int(found[3], 16), is_remote=True, trace_flags=flags)
