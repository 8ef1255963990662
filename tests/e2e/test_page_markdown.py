"""The page's Markdown in Chromium: what each construct becomes, however it is split, and what a piece costs."""

import random

import pytest
import pytest_asyncio

from tests.kit.browser import chromium
from tests.kit.stub_service import StubService

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("page_markdown"), pytest.mark.asyncio(loop_scope="module")]

SHOW = """async ([texts, sizes]) => {
    const { Markdown } = await import("/markdown.js");
    return texts.map((text) => {
        const root = document.createElement("div");
        const markdown = new Markdown(root);
        for (let at = 0, turn = 0; at < text.length; ) {
            const size = sizes[turn++ % sizes.length];
            markdown.append(text.slice(at, at + size));
            at += size;
        }
        markdown.end();
        root.normalize();
        return root.innerHTML;
    });
}"""

WHOLE = [1_000_000]


def link(url, text):
    return f'<a href="{url}" title="{url}" rel="noopener noreferrer" target="_blank">{text}</a>'


def table(head, *rows):
    columns = "".join(f'<th scope="col">{text}</th>' for text in head)
    body = "".join(f"<tr>{''.join(f'<td>{text}</td>' for text in row)}</tr>" for row in rows)
    return (
        f'<div class="table" tabindex="0"><table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>'
    )


CASES = {
    "emphasis": (
        "**bold** *em* ***both*** ~~no~~ `co de` **a *b* c**",
        "<p><strong>bold</strong> <em>em</em> <em><strong>both</strong></em> <del>no</del> <code>co de</code> "
        "<strong>a <em>b</em> c</strong></p>",
    ),
    "signs that are no emphasis": (
        "2 * 3 * 4 snake_case_name 1~3 \\*no\\* **open",
        "<p>2 * 3 * 4 snake_case_name 1~3 *no* **open</p>",
    ),
    "Korean particles after emphasis": (
        '**"인용"**은 **굵게**는 *기울임*을 ~~취소~~됨',
        '<p><strong>"인용"</strong>은 <strong>굵게</strong>는 <em>기울임</em>을 <del>취소</del>됨</p>',
    ),
    "headings": ("# T #\n## C#\nHead\n===\nSub\n---", "<h1>T</h1><h2>C#</h2><h1>Head</h1><h2>Sub</h2>"),
    "lines": ("a\nb  \nc<br>d\n\ne", "<p>a\nb\nc<br>d</p><p>e</p>"),
    "rules": ("a\n\n---\n\n* * *\nb", "<p>a</p><hr><hr><p>b</p>"),
    "lists": (
        "- a\n- b\n  - c\n- d",
        "<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p></li></ul></li><li><p>d</p></li></ul>",
    ),
    "bullets two deep under a number": (
        "3. a\n  - b\n4. c",
        '<ol start="3"><li><p>a</p><ul><li><p>b</p></li></ul></li><li><p>c</p></li></ol>',
    ),
    "a list with space": ("- a\n\n- b", '<ul class="loose"><li><p>a</p></li><li><p>b</p></li></ul>'),
    "a year does not begin a list": ("It was\n1986. Or was it?", "<p>It was\n1986. Or was it?</p>"),
    "tasks": (
        "- [ ] a\n- [x] b",
        '<ul><li><input type="checkbox" disabled=""><p>a</p></li>'
        '<li><input type="checkbox" disabled=""><p>b</p></li></ul>',
    ),
    "quotations": ("> q\nlazy\n> > r", "<blockquote><p>q\nlazy</p><blockquote><p>r</p></blockquote></blockquote>"),
    "code": ("```js\na < b\n\n  `x`\n```\nafter", "<pre><code>a &lt; b\n\n  `x`</code></pre><p>after</p>"),
    "code that is not closed": ("~~~\n```\nx", "<pre><code>```\nx</code></pre>"),
    "code in a list": (
        "- x\n  ```\n  code\n   in\n  ```\n- y",
        "<ul><li><p>x</p><pre><code>code\n in</code></pre></li><li><p>y</p></li></ul>",
    ),
    "a table": (
        "Here:\n| a | b |\n|---|---|\n| 1 \\| 2 | **3** |\n| 4 |\n\nz",
        f"<p>Here:</p>{table(['a', 'b'], ['1 | 2', '<strong>3</strong>'], ['4', ''])}<p>z</p>",
    ),
    "a table without outer bars": ("a | b\n--- | ---\n1 | 2", table(["a", "b"], ["1", "2"])),
    "a bar that is no table": ("| no table\nmore", "<p>| no table\nmore</p>"),
    "links": (
        '[t](https://e.x/a_(b)) **[u](https://e.y/ "title")** <https://e.z/p>',
        f"<p>{link('https://e.x/a_(b)', 't')} <strong>{link('https://e.y/', 'u')}</strong> "
        f"{link('https://e.z/p', 'https://e.z/p')}</p>",
    ),
    "addresses in text": (
        "See https://e.x/a, (https://e.x/b) and https://e.x/c에서.",
        f"<p>See {link('https://e.x/a', 'https://e.x/a')}, ({link('https://e.x/b', 'https://e.x/b')}) and "
        f"{link('https://e.x/c', 'https://e.x/c')}에서.</p>",
    ),
    "links that are none": (
        "[x](javascript:alert(1)) [y](data:text/html,z) [z](/relative) <javascript:alert(1)>",
        "<p>[x](javascript:alert(1)) [y](data:text/html,z) [z](/relative) &lt;javascript:alert(1)&gt;</p>",
    ),
    "a picture is a link, so that its server learns nothing": (
        "![pic](https://e.x/p.png)",
        f"<p>{link('https://e.x/p.png', 'pic')}</p>",
    ),
    "HTML": (
        "<script>alert(1)</script> <b onclick=x>y</b> &amp; &#44032; &nope;",
        '<p>&lt;script&gt;alert(1)&lt;/script&gt; &lt;b onclick=x&gt;y&lt;/b&gt; &amp; 가 &amp;nope;</p>',
    ),
}  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def page():
    async with chromium() as browser, StubService() as stub:
        page = await browser.new_page()
        await page.goto(stub.url)
        yield page


@pytest.mark.parametrize("name", CASES)
async def test_it_becomes_what_it_says_however_it_is_split(page, name):
    text, expected = CASES[name]
    for sizes in (WHOLE, [1], [2], [3], [1, 4, 2], [7]):
        assert await page.evaluate(SHOW, [[text], sizes]) == [expected], sizes


# fmt: off
SIGNS = [
    "*", "**", "_", "`", "```", "~~", "|", "---", "-", "#", ">", "1.", "[", "]", "(", "\\", "<br>", "&amp;", "!", "=",
    "|-|-|", "가", '"', "a", "bc", "https://x.y", "](https://x.y)", " ", "  ", "\n", "\n\n", "- ", "> ", "# ",
    "| a | b |\n|-|-|\n", "- [x] ", "\n  ",
]
# fmt: on


async def test_any_text_becomes_the_same_in_pieces_as_at_once(page):
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    texts = ["".join(rng.choices(SIGNS, k=rng.randrange(1, 30))) for _ in range(1500)]
    whole = await page.evaluate(SHOW, [texts, WHOLE])
    pieces = await page.evaluate(SHOW, [texts, [1, 2, 1, 3]])
    differing = [text for text, one, other in zip(texts, whole, pieces, strict=True) if one != other]
    assert differing == [], f"seed {seed}"


COUNT = """async (piece) => {
    const { Markdown } = await import("/markdown.js");
    const root = document.createElement("div");
    const markdown = new Markdown(root);
    let made = 0;
    for (const name of ["createTextNode", "createElement"]) {
        const make = Document.prototype[name];
        document[name] = (...given) => ((made += 1), make.apply(document, given));
    }
    const during = (pieces) => {
        made = 0;
        for (let n = 0; n < pieces; n++) markdown.append(piece);
        return made / pieces;
    };
    try {
        during(1000);
        return [during(200), (during(1000), during(200))];
    } finally {
        delete document.createTextNode;
        delete document.createElement;
    }
}"""


@pytest.mark.parametrize(
    "piece",
    [
        "word ",
        "unbroken",
        "*a ",
        "[a ",
        "`a ",
        "> ",
        "line\n",
        "- item\n",
        "|cell",
        "_a_b ",
        "```\nx",
        "&amp;",
        "a\n\n",
    ],
)
async def test_a_piece_costs_the_same_however_long_the_answer_is(page, piece):
    """Counted in nodes made, which no machine's speed changes."""
    early, late = await page.evaluate(COUNT, piece)
    assert late <= early * 1.25 + 1
