"""What a tutorial builds: FastAPI, uvicorn, OpenAI's client, a Redis GET for each delta, SQLAlchemy's ORM.

Better than many in one thing: its clients are shared, none is made for each request.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel
from redis.asyncio import Redis
from sqlalchemy import String, Text, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

app = FastAPI()
engine = create_engine(os.environ["MYSQL_URL"].replace("mysql://", "mysql+pymysql://"), pool_size=20, max_overflow=200)
sessions = sessionmaker(engine, expire_on_commit=False)
redis = Redis.from_url(os.environ["REDIS_URL"])
client = AsyncOpenAI(base_url=f"http://{os.environ['BENCH_AI']}/v1", api_key="bench", timeout=None)


class Base(DeclarativeBase):
    pass


class Message(Base):
    __tablename__ = "naive_messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    chat_id: Mapped[str] = mapped_column(String(64), index=True)
    role: Mapped[str] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(Text().with_variant(Text(1 << 20), "mysql"))


Base.metadata.create_all(engine)


class Question(BaseModel):
    content: str


def database() -> Iterator[Session]:
    with sessions() as session:
        yield session


@app.get("/health")
async def health() -> dict[str, bool]:
    return {"ok": True}


@app.post("/chats/{chat_id}/cancel")
async def cancel(chat_id: str) -> dict[str, bool]:
    await redis.set(f"cancel:{chat_id}", 1, ex=60)
    return {"success": True}


@app.post("/chats/{chat_id}/messages")
async def ask(chat_id: str, question: Question, session: Session = Depends(database)) -> StreamingResponse:  # noqa: B008
    session.add(Message(chat_id=chat_id, role="user", content=question.content))
    session.commit()
    history = session.scalars(select(Message).where(Message.chat_id == chat_id).order_by(Message.id)).all()
    messages: list[Any] = [{"role": message.role, "content": message.content} for message in history]

    async def events() -> AsyncIterator[str]:
        text = ""
        async with await client.chat.completions.create(model="bench", messages=messages, stream=True) as chunks:
            async for chunk in chunks:
                if await redis.get(f"cancel:{chat_id}"):
                    break
                if chunk.choices and (delta := chunk.choices[0].delta.content):
                    text += delta
                    yield f"data: {json.dumps({'delta': delta})}\n\n"
        with sessions() as last:
            last.add(Message(chat_id=chat_id, role="assistant", content=text))
            last.commit()
        yield 'event: done\ndata: {"status": "completed"}\n\n'

    return StreamingResponse(events(), media_type="text/event-stream")
