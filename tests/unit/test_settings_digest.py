"""The function Digest of template.yaml: a change in the settings changes their digest, and nothing else does."""

import pytest

from tests.kit.cloudformation import TEMPLATE
from tests.kit.custom_resources import Heard, digest_handler

handler = digest_handler(TEMPLATE)


def test_the_same_settings_have_the_same_digest_whoever_asks_and_when():
    """A roll-back has to find the digest that was there before."""
    with Heard() as heard:
        first, again = (heard.answer(handler, {"Auth": ["jwt", ""]}, kind) for kind in ("Create", "Update"))
    assert first["Status"] == again["Status"] == "SUCCESS"
    assert first["Data"] == again["Data"]
    assert first["RequestId"] != again["RequestId"]


@pytest.mark.parametrize("other", [{"Auth": ["", "jwt"]}, {"Auth": ["jwt"]}, {"Logs": ["jwt", ""]}])
def test_any_difference_makes_another_digest(other):
    with Heard() as heard:
        digests = {heard.answer(handler, properties)["Data"]["Digest"] for properties in ({"Auth": ["jwt", ""]}, other)}
    assert len(digests) == 2


def test_the_physical_id_stays_or_cloudformation_would_delete_the_old_one():
    with Heard() as heard:
        handler(heard.event("Update", {}, PhysicalResourceId="given"), None)
        assert heard.bodies[0]["PhysicalResourceId"] == "given"


def test_deleting_succeeds():
    with Heard() as heard:
        assert heard.answer(handler, {"Auth": []}, "Delete")["Status"] == "SUCCESS"


def test_no_value_is_told_and_none_can_be_guessed_quickly(capsys):
    with Heard() as heard:
        answer = heard.answer(handler, {"Mysql": "mysql://chat:pass-word@db"})
    assert "pass-word" not in str(answer) + capsys.readouterr().out
    assert "hashlib.scrypt" in TEMPLATE["Resources"]["Digest"]["Properties"]["Code"]["ZipFile"]
