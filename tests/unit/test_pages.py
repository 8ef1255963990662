"""The pages of this repository: their links lead somewhere, and README's settings are those of the code."""

import re
from pathlib import Path

import pytest

from chat.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "packages").rglob("*.md")])


def prose(page):
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page):
    """What GitHub makes of headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links():
    for page in PAGES:
        for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", prose(page)):
            if "://" not in link:
                yield pytest.param(page, link, id=f"{page.relative_to(ROOT)} to {link}")


@pytest.mark.parametrize(("page", "link"), list(links()))
def test_a_link_leads_to_a_file_or_a_heading_that_is_there(page, link):
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


BASE = {"REDIS_URL": "redis://localhost", "MYSQL_URL": "sqlite:///chat", "OPENAI_API_KEY": "sk"}
TOKENS = {"CHAT_AUTH": "jwt", "CHAT_JWT_SECRET": "s", "CHAT_JWT_ISSUER": "i", "CHAT_JWT_AUDIENCE": "a"}


class Recording(dict):
    """An environment that notes what is asked of it."""

    def __init__(self, values):
        super().__init__(values)
        self.asked = set()

    def get(self, name, default=None):
        self.asked.add(name)
        return super().get(name, default)


def settings_table():
    """Each row of README's table of settings: its variables, and the cell with their defaults."""
    rows = re.search(r"^\| variable \|.*\n\|.*\n((?:\|.*\n)+)", (ROOT / "README.md").read_text(), re.M)[1]
    for row in rows.splitlines():
        first, *_, last = row.strip("|").split(" | ")
        yield re.findall(r"`(\w+)`", first), last.strip()


def numbers():
    for variables, defaults in settings_table():
        if re.fullmatch(r"[\d, ]+", defaults):
            yield from zip(variables, defaults.split(", "), strict=True)


def test_readme_names_every_setting_that_the_code_reads_and_no_other():
    header, tokens = Recording(BASE), Recording(BASE | TOKENS)
    Settings.read(header, with_ai=True)
    Settings.read(tokens, with_ai=True)
    named = {variable for variables, _ in settings_table() for variable in variables}
    chosen_by_the_template = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"}
    asked = {name for name in header.asked | tokens.asked if not name.startswith("AWS_")}
    assert asked - chosen_by_the_template == named


@pytest.mark.parametrize(("variable", "default"), list(numbers()))
def test_a_default_on_the_page_is_the_default(variable, default):
    without = Settings.read(BASE, with_ai=True)
    assert Settings.read(BASE | {variable: default}, with_ai=True) == without
    assert Settings.read(BASE | {variable: str(int(default) + 100)}, with_ai=True) != without
