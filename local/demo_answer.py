"""What the demo model says: a few sentences about the question, in its language. Pure; it knows no facts at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from local.demo_phrases import ENGLISH, KOREAN, Phrases

_PIECE = re.compile(r"\s*\S{1,5}|\s+")
_WORD = re.compile(r"[^\W_][\w'’-]*")
_HANGUL = re.compile(r"[가-힣ㄱ-ㅎㅏ-ㅣ]")
_PARTICLE = re.compile(r"(에서는|에서|으로|에게|까지|부터|이란|란|은|는|이|가|을|를|의|에|로|와|과|도)$")
_COMMON = (
    " about again all and any are but can could describe detail detailed did does each else every explain for from "
    "give had has have hello her here him his how into its just know like little long longer make many may might mine "
    "more most much must not now off once only other our out please reason reasoning say shall she should show some "
    "step story such tell than thank thanks that the their them then there these they thing things think thinking "
    "this those too very want was well were what when where which while who whom whose why will with would write yes "
    "you your 무엇 무엇인가요 무엇입니까 뭐야 뭔가요 어떻게 어디 언제 누구 왜 이유 생각 설명 설명해 설명해줘 주세요 "
    "알려줘 알려주세요 해줘 해주세요 길게 자세히 대해 대해서 그리고 그런데 저는 나는 제가 내가 안녕 안녕하세요 "
)
_VERB = re.compile(r"(나요|까요|가요|니까|니다|는지|세요|어요|아요|해요|해줘|해봐)$")
_GREETS = re.compile(r"\W*(hello|hi|hey|안녕)", re.IGNORECASE)
_ASKS_TO_THINK = re.compile(r"\b(why|think(ing)?|reason(ing)?|step by step)\b|왜|이유|생각|추론", re.IGNORECASE)
_ASKS_FOR_MORE = re.compile(
    r"\b(long(er)?|details?|detailed|essay|story)\b|길게|긴 |자세히|자세하게|이야기", re.IGNORECASE
)
_ASKS_FOR_MARKDOWN = re.compile(r"\bmarkdown\b|마크다운", re.IGNORECASE)
_QUOTED_CHARACTERS = 70
_NAMES_CHATS = "Reply with a title"
"""Stands in what the service asks for a chat's title with."""


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """One answer, before it is streamed."""

    text: str
    reasoning: str
    """Empty unless the question asks why, or to think."""
    source_title: str
    source_url: str


def answer(questions: Sequence[str], system_prompt: str = "") -> DemoAnswer:
    """Answer the last of the user's messages, with an eye on the earlier ones."""
    question = questions[-1] if questions else ""
    if _NAMES_CHATS in system_prompt:
        return DemoAnswer(" · ".join(_topics(question)) or _shorten(question), "", "", "")
    voice = KOREAN if _HANGUL.search(question) else ENGLISH
    topics = _topics(question)
    wanted = quote(" ".join(topics) or "server-sent events")
    return DemoAnswer(
        text=_text(voice, questions, topics, system_prompt),
        reasoning=voice.thought.format(topics=_listed(topics, voice)) if _ASKS_TO_THINK.search(question) else "",
        source_title=voice.source.format(" ".join(topics) or "server-sent events"),
        source_url=f"https://{voice.encyclopedia}/w/index.php?search={wanted}",
    )


def pieces(text: str) -> list[str]:
    """Part a text into what a model would send at a time; joined they are the text."""
    return [found.group() for found in _PIECE.finditer(text)]


def _text(voice: Phrases, questions: Sequence[str], topics: list[str], system_prompt: str) -> str:
    question, earlier = questions[-1] if questions else "", questions[:-1]
    opening = voice.question if question.rstrip().endswith(("?", "？")) else voice.statement
    sentences = [
        voice.greeting if _GREETS.match(question) else "",
        opening.format(quote=_shorten(question)),
        "" if not topics else (voice.two_topics if len(topics) > 1 else voice.one_topic).format(*topics),
        voice.memory.format(count=len(earlier), quote=_shorten(earlier[-1])) if earlier else "",
        voice.role.format(quote=_shorten(system_prompt)) if system_prompt else "",
    ]
    paragraphs = [" ".join(filter(None, sentences)), voice.about]
    if _ASKS_FOR_MORE.search(question):
        paragraphs += [f"{number}. {more}" for number, more in enumerate(voice.more * 3, 1)]
    if _ASKS_FOR_MARKDOWN.search(question):
        paragraphs.append(voice.markdown)
    return "\n\n".join(paragraphs)


def _topics(question: str) -> list[str]:
    """Return the two most telling words of a question, in its order: the longest that are not common ones."""
    words = [_PARTICLE.sub("", word) for word in _WORD.findall(question) if not _VERB.search(word)]
    telling = [word for word in dict.fromkeys(words) if f" {word.lower()} " not in _COMMON and len(word) > _least(word)]
    longest = sorted(telling, key=len, reverse=True)[:2]
    return [word for word in telling if word in longest]


def _least(word: str) -> int:
    return 1 if _HANGUL.search(word) or word.isdecimal() else 2


def _listed(topics: list[str], voice: Phrases) -> str:
    return ", ".join(topics) or voice.nothing


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _QUOTED_CHARACTERS else text[:_QUOTED_CHARACTERS].rstrip() + "…"
