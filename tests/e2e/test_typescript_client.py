"""clients/typescript on the real service; its answers over broken connections are tested with the other examples."""

import asyncio
import json
import subprocess

import pytest

from tests.kit.ai_server import AIServer, say
from tests.kit.node import put, workshop
from tests.kit.service import running
from tests.kit.typescript_client import SOURCE, compiler, install, package

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("clients"), pytest.mark.timeout(180)]

SCENARIO = """
import { ChatClient, ChatServiceError } from "aiva-chat-client";

const [urls] = process.argv.slice(2);
const client = new ChatClient({ urls, headers: async () => ({ "X-User-Id": "user-1" }) });
const told = {};
const chatId = await client.createChat({ systemPrompt: "Be brief." });
const first = client.ask(chatId, "첫 질문");
const kinds = [];
for await (const event of first) kinds.push(event.type);
told.kinds = [...new Set(kinds)];
told.text = first.text;
told.done = [first.done.status, first.done.characters];
told.again = await client.watch(chatId, first.messageId).read();
const edited = client.ask(chatId, "고친 질문", { parentMessageId: null });
await edited.read();
const other = client.regenerate(chatId, edited.userMessageId);
told.other = [await other.read(), other.messageId !== edited.messageId];
const collect = async (all) => { const found = []; for await (const one of all) found.push(one); return found; };
told.branch = (await collect(client.messages(chatId, { limit: 1 }))).map((message) => message.content);
told.old = (await collect(client.messages(chatId, { leaf: first.messageId })))[1].content;
await client.rate(chatId, other.messageId, "up", "좋아요");
await client.rate(chatId, other.messageId, null);
told.renamed = (await client.updateChat(chatId, { title: "새 제목" })).title;
told.read = (await client.chat(chatId)).title;
await client.createChat();
told.listed = (await collect(client.chats({ limit: 1 }))).length;
told.found = (await collect(client.chats({ q: "고친" }))).map((chat) => chat.chatId === chatId);
told.models = (await client.models()).length;
told.nothing = await collect(client.watch(await client.createChat()));
told.cancelled = (await client.cancel(chatId)).success;
await client.deleteChat(chatId);
told.gone = await client.chat(chatId).catch((error) => [error instanceof ChatServiceError, error.status, error.code]);
told.deleted = await client.deleteAllChats();
const stop = new AbortController();
stop.abort(new Error("left"));
told.left = await client.ask(chatId, "x", { signal: stop.signal }).read().catch((error) => error.message);
console.log(JSON.stringify(told));
"""


async def test_a_chat_from_its_beginning_to_its_end(tmp_path):
    folder = workshop()
    install(folder)
    (tmp_path / "scenario.mjs").write_text(SCENARIO)
    script = put(folder, tmp_path / "scenario.mjs")
    async with AIServer() as ai:
        ai.default = say("안녕", "하세요 👋")
        loop = asyncio.get_running_loop()
        context = running({"OPENAI_BASE_URL": ai.url})
        service = await loop.run_in_executor(None, context.__enter__)
        try:
            process = await asyncio.create_subprocess_exec(
                *("node", str(script), service.url), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            out, errors = await process.communicate()
        finally:
            await loop.run_in_executor(None, context.__exit__, None, None, None)
    assert errors.decode() == ""
    assert json.loads(out) == {
        "kinds": ["start", "delta", "done"],
        "text": "안녕하세요 👋",
        "done": ["completed", 7],
        "again": "안녕하세요 👋",
        "other": ["안녕하세요 👋", True],
        "branch": ["안녕하세요 👋", "고친 질문"],
        "old": "첫 질문",
        "renamed": "새 제목",
        "read": "새 제목",
        "listed": 2,
        "found": [True],
        "models": 1,
        "nothing": [],
        "cancelled": False,
        "gone": [True, 404, "chat_not_found"],
        "deleted": 2,
        "left": "left",
    }


def test_its_types_are_those_of_the_openapi_document(tmp_path):
    """Otherwise: npm ci && npm run types, in clients/typescript."""
    tools, made = compiler(), tmp_path / "openapi.ts"
    command = ["node", "node_modules/openapi-typescript/bin/cli.js", str(SOURCE.parents[1] / "docs" / "openapi.json")]
    subprocess.run([*command, "--output", str(made)], cwd=tools, check=True, capture_output=True)
    assert made.read_text() == (SOURCE / "src" / "openapi.ts").read_text()


def test_the_package_is_what_its_sources_make():
    files = {path.name for path in (package() / "dist").iterdir()}
    assert files == {f"{name}.{kind}" for name in ("index", "openapi", "sse") for kind in ("js", "d.ts")}
    listed = json.loads((SOURCE / "package.json").read_text())
    assert "dependencies" not in listed
