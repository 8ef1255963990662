"""deploy/front.yaml: one domain for the page and the functions, by CloudFront."""

import fnmatch
import json
from pathlib import Path

import pytest
from starlette.requests import Request

from chat.http.auth.identity import TokenUser, identify_caller
from chat.http.auth.token_place import TokenPlace
from chat.http.errors import Forbidden, Unauthenticated
from deploy.template import load
from lambda_stream._event import http_request
from tests.kit.cloudformation import Rendered
from tests.kit.events import load_event

ROOT = Path(__file__).parents[2]
FRONT = load((ROOT / "deploy" / "front.yaml").read_text())
HOST = "k3c2vq7mjn5xw4hdz6tyr8ab1epfgu0s.lambda-url.eu-north-1.on.aws"


@pytest.fixture(scope="module")
def stack():
    hosts = dict.fromkeys(("CreateChatHost", "StreamChatHost", "CancelStreamHost", "ManageChatsHost"), HOST)
    certificate = "arn:aws:acm:us-east-1:111122223333:certificate/1"
    return Rendered(
        {"Rules": {}, "Conditions": {}, **FRONT}, Domain="chat.example.com", CertificateArn=certificate, **hosts
    )


def behaviour(stack, path):
    """The cache behaviour that takes this path: the first whose pattern matches. CloudFront's `*` crosses slashes."""
    config = stack.of("Distribution")["DistributionConfig"]
    found = (entry for entry in config["CacheBehaviors"] if fnmatch.fnmatchcase(path, entry["PathPattern"]))
    return next(found, config["DefaultCacheBehavior"])


def test_every_route_reaches_the_function_that_serves_it(stack):
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]
    of_others = {"/api/chat/create": "create", "/api/chat/{chatId}/cancel": "cancel"}
    for path in paths:
        if path.startswith("/api/"):
            real = path.replace("{chatId}", "01900000-0000-7000-8000-000000000001").replace("{id}", "x")
            assert behaviour(stack, real)["TargetOriginId"] == of_others.get(
                path, "stream" if path.endswith("/stream") or "/ui/" in path else "manage"
            ), path
    for path in ("/", "/index.html", "/chat-view.js", "/health", "/c/01900000-0000-7000-8000-000000000001"):
        assert behaviour(stack, path)["TargetOriginId"] == "page"


def test_the_address_of_a_chat_is_the_page(stack):
    (association,) = behaviour(stack, "/c/01900000-0000-7000-8000-000000000001")["FunctionAssociations"]
    assert association == {"EventType": "viewer-request", "FunctionARN": "<ChatAddress.FunctionARN>"}
    assert "/index.html" in stack.of("ChatAddress")["FunctionCode"]


def test_nothing_of_the_functions_is_cached_gathered_or_sent_in_the_clear(stack):
    for path in ("/api/chat/create", "/api/chat/x/cancel", "/api/chat/x/stream", "/api/ui/chat", "/api/chats"):
        found = behaviour(stack, path)
        assert found["Compress"] is False, "a stream would be gathered into pieces"
        assert found["CachePolicyId"] == "4135ea2d-6df8-44a3-9df3-4b5a84be39ad", "Managed-CachingDisabled"
        assert found["OriginRequestPolicyId"] == "b689b0a8-53d0-40ab-baf2-68738e2966ac", "all but the host"
        assert found["ViewerProtocolPolicy"] == "https-only"
        assert "POST" in found["AllowedMethods"]


def test_cloudfront_signs_for_the_functions_and_waits_longer_than_a_heartbeat(stack):
    origins = {entry["Id"]: entry for entry in stack.of("Distribution")["DistributionConfig"]["Origins"]}
    for name in ("create", "stream", "cancel", "manage"):
        assert origins[name]["OriginAccessControlId"] == "<FunctionAccess>"
        assert origins[name]["CustomOriginConfig"]["OriginProtocolPolicy"] == "https-only"
    assert origins["stream"]["CustomOriginConfig"]["OriginReadTimeout"] > 2 * 15
    control = stack.of("FunctionAccess")["OriginAccessControlConfig"]
    assert (control["OriginAccessControlOriginType"], control["SigningBehavior"]) == ("lambda", "always")


def test_the_page_is_read_by_cloudfront_only(stack):
    assert all(stack.of("Page")["PublicAccessBlockConfiguration"].values())
    allow, deny = stack.of("PageForCloudFrontOnly")["PolicyDocument"]["Statement"]
    assert allow["Principal"] == {"Service": "cloudfront.amazonaws.com"}
    assert allow["Condition"]["StringEquals"]["aws:SourceArn"].endswith(":distribution/<Distribution>")
    assert deny["Effect"] == "Deny"


def test_whoever_asks_too_much_is_turned_away_as_by_us(stack):
    rate, *_ = stack.of("Acl")["Rules"]
    assert rate["Action"]["Block"]["CustomResponse"]["ResponseCode"] == 429
    assert stack.of("Distribution")["DistributionConfig"]["WebACLId"] == "<Acl.Arn>"


class Names:
    """A verifier for which the token is the user."""

    place = TokenPlace("X-Chat-Token", "chat")

    async def user(self, token):
        return TokenUser(token, token)


def asked(**changes):
    """A request as CloudFront hands it to a function, put together from its documentation."""
    event = load_event("cloudfront_oac", **changes)
    scope, *_ = http_request(event)
    return Request(scope)


def without(name):
    event = load_event("cloudfront_oac")
    return {"headers": {}, **{k: v for k, v in event.items() if k != "headers"}}, {
        header: value for header, value in event["headers"].items() if header != name
    }


class TestWhoIsAsking:
    async def test_the_token_has_a_header_of_its_own_beside_cloudfronts_signature(self):
        request = asked()
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256")
        assert await identify_caller(request, Names()) == ("alice", "phone-1")

    async def test_cloudfronts_signature_is_nobodys_token(self):
        with pytest.raises(Unauthenticated):
            await identify_caller(asked(headers={"x-chat-token": ""}), Names())

    async def test_an_event_source_comes_with_its_cookie(self):
        event, headers = without("x-chat-token")
        scope, *_ = http_request({**event, "headers": headers, "cookies": ["chat=alice"]})
        assert await identify_caller(Request({**scope, "method": "GET"}), Names()) == ("alice", "phone-1")

    async def test_a_form_of_another_site_does_not_get_through_with_it(self):
        event, headers = without("x-chat-token")
        headers = {name: value for name, value in headers.items() if name != "x-session-id"}
        scope, *_ = http_request({**event, "headers": headers, "cookies": ["chat=alice"]})
        with pytest.raises(Forbidden):
            await identify_caller(Request(scope), Names())
