"""Takes a body's content coding off in steps of bounded size, so that a few bytes never become gigabytes at once.

The request asks for `identity`; some proxies compress nevertheless. Source: RFC 9110, section 8.4.1; RFC 1952, section
2.2 (a gzip body may have several members).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Protocol, cast

import httpx

STEP_BYTES = 64 << 10
"""How many decoded bytes one step yields at most."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def aiter_decoded(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Return the body as it arrives, past httpx's own iterators, whose steps are as long as the body makes them.

    Raises, while iterated:
        httpx.DecodingError: its coding is none that can be read, or the body is not what its coding says.
        httpx.TransportError: it broke off.
    """
    decoder = decoder_for(response.headers.get("content-encoding", ""))
    body = aiter(cast(httpx.AsyncByteStream, response.stream))
    return cast(AsyncGenerator[bytes, None], body) if decoder is None else _decoded(body, decoder)


async def _decoded(body: AsyncIterator[bytes], decoder: Decoder) -> AsyncGenerator[bytes, None]:
    async for data in body:
        for step in decoder.decode(data):
            yield step
            await asyncio.sleep(0)  # many steps may come from few bytes: others have their turn
    decoder.finish()


class Decoder(Protocol):
    """One body's decoder."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, at most STEP_BYTES at a time. Raises httpx.DecodingError."""
        ...

    def finish(self) -> None:
        """Take the end of the body. Raises httpx.DecodingError: it ended within its coding."""
        ...


def decoder_for(content_encoding: str) -> Decoder | None:
    """Return the decoder for a Content-Encoding header, None where there is nothing to decode.

    Raises:
        httpx.DecodingError: neither gzip nor deflate, or more than one.
    """
    codings = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if not codings:
        return None
    if codings in (["gzip"], ["x-gzip"]):
        return _Zlib(_GZIP_WINDOW)
    if codings == ["deflate"]:
        return _Zlib(zlib.MAX_WBITS)
    raise httpx.DecodingError("the body's content coding is not supported")


class _Zlib:
    """gzip of one or several members, or deflate, also without the zlib header that some servers leave out."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._inflate = zlib.decompressobj(window_bits)
        self._is_within = False
        """A member has begun and not ended."""
        self._has_begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if not self._is_within and not self._next_member(data):
                return
            try:
                step = self._inflate.decompress(data, STEP_BYTES)
            except zlib.error as error:
                raise httpx.DecodingError("the body cannot be decompressed") from error
            if step:
                yield step
            if self._inflate.eof:
                self._is_within = False
                data = self._inflate.unused_data
            else:
                data = self._inflate.unconsumed_tail
        while self._is_within and (step := self._inflate.decompress(b"", STEP_BYTES)):
            yield step

    def finish(self) -> None:
        if self._is_within:
            raise httpx.DecodingError("the body ended early")

    def _next_member(self, data: bytes) -> bool:
        """Begin a member; False where what follows the last one is padding, which gzip allows to be ignored."""
        if self._has_begun:
            if self._window_bits != _GZIP_WINDOW or not data.strip(b"\0"):
                return False
            self._inflate = zlib.decompressobj(self._window_bits)
        elif self._window_bits == zlib.MAX_WBITS and data[0] & 0x0F != zlib.DEFLATED:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._is_within = self._has_begun = True
        return True
