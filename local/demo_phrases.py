"""The demo model's sentences, in two languages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrases:
    """What is said in one language; the fields in braces are filled in."""

    greeting: str
    question: str
    statement: str
    one_topic: str
    two_topics: str
    memory: str
    role: str
    about: str
    thought: str
    nothing: str
    source: str
    encyclopedia: str
    more: tuple[str, ...]
    markdown: str
    """Every kind of Markdown that the page shows."""


ENGLISH = Phrases(
    greeting="Hello!",
    question="You asked: “{quote}”",
    statement="You wrote: “{quote}”",
    one_topic="It seems to be about {0}.",
    two_topics="It seems to be about {0}, and how that goes with {1}.",
    memory="What came before has reached me too: your earlier messages in this chat number {count}, the last of them "
    "was: “{quote}”",
    role="My instructions for this chat are: “{quote}”",
    about="I am only the demo model that comes with this chat service, so I know nothing about it. But everything "
    "around me is real: these words stream one by one through the same functions that run on AWS Lambda. You can stop "
    "me half-way, or follow me from a second device. Set OPENAI_API_KEY and start again to talk to a real model.",
    thought="The message is about {topics}. I should find out what is really being asked … but I am a demo model and "
    "have no knowledge to reason with. The honest thing is to say so, to repeat what I understood, and to name a place "
    "where one could look.",
    nothing="nothing in particular",
    source="Wikipedia: {0}",
    encyclopedia="en.wikipedia.org",
    more=(
        "You wanted more, so here is more. Nothing of it is about your question, but it gives you the time to press "
        "stop, to close this page and come back, or to open a second one and watch the same answer there.",
        "Each piece that you see arriving is one server-sent event. It has a number, so that a client that was cut "
        "off can say which was its last and go on from there, without a gap and without a repetition.",
        "If you stop me, the text up to that point is kept and counts as my answer. The next question will show that "
        "I still know it. If you only close the page, I talk on to the end, and you find all of it when you return.",
        "A real model would have finished by now, or would be saying something useful. I have just this one paragraph "
        "left, and then I begin again from the first.",
    ),
    markdown="""## What an answer can hold

Text may be **bold**, *italic*, ***both***, ~~struck out~~ or `code`, and it may hold a [link](https://example.com/) \
or a bare address such as https://www.rfc-editor.org/rfc/rfc9457.

### Lists

1. Numbered items, with more below them:
   - a bullet
   - another one, with `code`
     - and one deeper
2. The second item
   ```sh
   make run
   ```
3. The third

- [x] a task that is done
- [ ] a task that is not

### Code

```python
async def deltas(answer):
    \"\"\"Yield the pieces of an answer as they come.\"\"\"
    async for piece in answer:
        yield f"data: {piece}\\n\\n"  # one event each, and this line is so long that it has to be scrolled sideways
```

### A table

| event | when | times |
|:------|:----:|------:|
| `start` | always first | 1 |
| (message) | as the model writes | **n** |
| `done` | always last, once the text is stored | 1 |

> A quotation, in which **Markdown** goes on.
>
> > And one inside it.

---

What looks like HTML stays text: <script>alert("no")</script>, and a [link like this](javascript:alert(1)) is none.""",
)

KOREAN = Phrases(
    greeting="안녕하세요!",
    question="이렇게 물어보셨네요: “{quote}”",
    statement="이렇게 말씀하셨네요: “{quote}”",
    one_topic="핵심은 ‘{0}’인 것 같습니다.",
    two_topics="핵심은 ‘{0}’, 그리고 ‘{1}’인 것 같습니다.",
    memory="앞서 나눈 이야기도 저에게 전달되었습니다. 이 대화에서 먼저 보내신 메시지는 {count}개이고, "
    "그중 마지막은 이것입니다: “{quote}”",
    role="이 대화에서 제가 받은 지시는 이것입니다: “{quote}”",
    about="저는 이 채팅 서비스에 들어 있는 데모 모델이라서 실제 지식은 없습니다. 하지만 저를 둘러싼 나머지는 모두 "
    "진짜입니다. 지금 이 글은 AWS Lambda에서 도는 것과 똑같은 함수를 거쳐 한 조각씩 도착하고 있습니다. "
    "중간에 멈출 수도 있고, 다른 기기에서 이어서 볼 수도 있습니다. OPENAI_API_KEY를 설정하고 다시 시작하면 "
    "진짜 모델과 대화할 수 있습니다.",
    thought="메시지의 주제: {topics}. 정말로 무엇을 묻는지 따져 봐야 하지만, 나는 데모 모델이라 추론에 쓸 지식이 "
    "없다. 모른다고 솔직하게 말하고, 이해한 내용을 되짚은 다음, 찾아볼 곳을 하나 알려 주는 것이 좋겠다.",
    nothing="특별한 것 없음",
    source="위키백과: {0}",
    encyclopedia="ko.wikipedia.org",
    more=(
        "길게 답해 달라고 하셨으니 조금 더 이어 가겠습니다. 질문에 대한 내용은 아니지만, 그동안 멈추기를 눌러 보거나, "
        "페이지를 닫았다가 돌아오거나, 다른 창에서 같은 답변을 지켜볼 수 있습니다.",
        "화면에 나타나는 조각 하나하나가 서버에서 보낸 이벤트입니다. 이벤트마다 번호가 있어서, 연결이 끊긴 "
        "클라이언트는 마지막으로 받은 번호를 알려 주고 빠짐도 반복도 없이 이어서 받을 수 있습니다.",
        "저를 멈추면 그때까지의 글이 저장되어 제 답변으로 남고, 다음 질문에서도 기억합니다. 페이지만 닫으면 저는 "
        "끝까지 말하고, 돌아왔을 때 전체를 볼 수 있습니다.",
        "진짜 모델이라면 이미 말을 마쳤거나 쓸모 있는 이야기를 하고 있을 것입니다. 저에게 남은 문단은 이것뿐이라서, "
        "이제 처음부터 다시 시작합니다.",
    ),
    markdown="""## 답변에 담을 수 있는 것

글은 **굵게**, *기울임*, ***둘 다***, ~~취소선~~, `코드`로 쓸 수 있고, **"인용"**에 조사가 붙어도 됩니다. \
[링크](https://example.com/)나 \
https://www.rfc-editor.org/rfc/rfc9457 같은 주소도 들어갑니다.

### 목록

1. 번호가 있는 항목과 그 아래 항목:
   - 글머리표
   - `코드`가 있는 글머리표
     - 한 단계 더 깊은 항목
2. 두 번째 항목
   ```sh
   make run
   ```
3. 세 번째 항목

- [x] 끝난 일
- [ ] 남은 일

### 코드

```python
async def deltas(answer):
    \"\"\"답변의 조각을 도착하는 대로 내보낸다.\"\"\"
    async for piece in answer:
        yield f"data: {piece}\\n\\n"  # 조각마다 이벤트 하나. 이 줄은 길어서 옆으로 스크롤해야 끝까지 볼 수 있다.
```

### 표

| 이벤트 | 시점 | 횟수 |
|:------|:----:|------:|
| `start` | 항상 처음 | 1 |
| (메시지) | 모델이 쓰는 대로 | **n** |
| `done` | 항상 마지막, 저장된 뒤 | 1 |

> 인용문 안에서도 **마크다운**은 이어집니다.
>
> > 인용문 속의 인용문.

---

HTML처럼 보이는 것은 그대로 글자입니다: <script>alert("no")</script>. \
[이런 링크](javascript:alert(1))는 링크가 되지 않습니다.""",
)
