"""The table of bad tokens, and the good ones beside it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from chat.domain.model import is_name
from chat.http.auth.jwks import UnusableKeySet, read_keys
from chat.http.auth.tokens import MAX_TOKEN_CHARS, InvalidToken, SharedSecret, Tokens
from chat.http.problems import problem_headers
from chat.settings import AuthSettings, Secret
from tests.kit.issuer import AUDIENCE, ISSUER, claims, private_key, public_jwk, token

SECRET = "0123456789abcdef0123456789abcdef"


def now():
    return int(time.time())


class Published:
    """The issuer's keys without the issuer; counts how often they are asked for."""

    def __init__(self, *jwks):
        self.asked = 0
        self._keys = read_keys(json.dumps({"keys": jwks}).encode(), ("RS256", "ES256"))

    async def find(self, kid, algorithm):
        self.asked += 1
        return self._keys.get((kid, algorithm))


def public_key_tokens():
    auth = AuthSettings("jwt", "http://unused", None, ("RS256", "ES256"), ISSUER, (AUDIENCE,))
    return Tokens(auth, Published(public_jwk("k1"), public_jwk("e1", "ES256")))


def secret_tokens(secret=SECRET):
    auth = AuthSettings("jwt", None, Secret(secret), ("HS256",), ISSUER, (AUDIENCE,))
    return Tokens(auth, SharedSecret(Secret(secret), ("HS256",)))


async def user_id(tokens, sent):
    return (await tokens.user(sent)).id


def encode(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(head, body=None, signature=b""):
    return f"{encode(head)}.{encode(body or claims())}.{encode(signature)}"


def hs256(head, body, secret):
    signed = f"{encode(head)}.{encode(body)}"
    return f"{signed}.{encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def tampered(good):
    head, _, signature = good.split(".")
    return f"{head}.{encode(claims(sub='mallory'))}.{signature}"


def other_signature(good):
    return good.rpartition(".")[0] + "." + encode(b"\x00" * 256)


def key_confusion():
    pem = private_key("k1").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hs256({"alg": "HS256", "kid": "k1"}, claims(), pem)


NOT_A_JWT = "The token is no signed JSON Web Token."
ALGORITHM = "The token is signed with an algorithm that is not accepted."
SIGNATURE = "The signature of the token is wrong."
UNKNOWN_KEY = "The token is signed with a key that its issuer does not publish."
CLAIMS = "The token must have the claims exp and iss."
AUDIENCE_ = "The token is for another audience."
ISSUER_ = "The token is from another issuer."
EXPIRED = "The token has expired."
EARLY = "The token is not valid yet."
SUBJECT = "The claim sub of the token must be a string of 1 to 255 characters."
NO_SUBJECT = "The token must have the claim sub."
NO_AUDIENCE = "The token must have the claim aud, client_id or azp."
MALFORMED = "The token is malformed."
EXTENSION = "The token needs an extension that is not understood."

BAD_TOKENS = {
    "no JWT": (lambda: "x", NOT_A_JWT),
    "two parts": (lambda: "a.b", NOT_A_JWT),
    "four parts": (lambda: f"{token()}.x", NOT_A_JWT),
    "encrypted (five parts)": (lambda: "a.b.c.d.e", NOT_A_JWT),
    "header is no JSON": (lambda: f"{encode(b'{')}.{encode(claims())}.{encode(b'x')}", NOT_A_JWT),
    "header is no object": (lambda: unsigned([1], signature=b"x"), NOT_A_JWT),
    "header is nested too deeply": (lambda: f"{encode(b'[' * 4000)}.{encode({})}.{encode(b'x')}", NOT_A_JWT),
    "not base64url": (lambda: "a+b.c/d.e=", NOT_A_JWT),
    "padded": (lambda: f"{token()}=", NOT_A_JWT),
    "too long": (lambda: "a" * (MAX_TOKEN_CHARS + 1), "The token is too long."),
    "alg none, no signature": (lambda: unsigned({"alg": "none"}), NOT_A_JWT),
    "alg none": (lambda: unsigned({"alg": "none", "kid": "k1"}, signature=b"x"), ALGORITHM),
    "alg nOnE": (lambda: unsigned({"alg": "nOnE", "kid": "k1"}, signature=b"x"), ALGORITHM),
    "no alg": (lambda: unsigned({"kid": "k1"}, signature=b"x"), ALGORITHM),
    "alg is a list": (lambda: unsigned({"alg": ["RS256"], "kid": "k1"}, signature=b"x"), ALGORITHM),
    "key confusion": (key_confusion, ALGORITHM),
    "an algorithm that is not pinned": (lambda: token("k1", "RS512"), ALGORITHM),
    "another algorithm than the key's": (lambda: token("e1", "ES256", {"kid": "k1"}), UNKNOWN_KEY),
    "an unknown key": (lambda: token("k9"), UNKNOWN_KEY),
    "an empty kid": (lambda: token("k1", headers={"kid": ""}), UNKNOWN_KEY),
    "kid is no string": (lambda: unsigned({"alg": "RS256", "kid": 1}, signature=b"x"), NOT_A_JWT),
    "a key of its own in the header": (lambda: token("k9", headers={"jwk": public_jwk("k9"), "kid": "k1"}), SIGNATURE),
    "another's key under a known kid": (lambda: token("k9", headers={"kid": "k1"}), SIGNATURE),
    "tampered": (lambda: tampered(token()), SIGNATURE),
    "another signature": (lambda: other_signature(token()), SIGNATURE),
    "another signature, elliptic": (lambda: other_signature(token("e1", "ES256")), SIGNATURE),
    "crit": (lambda: token(headers={"crit": ["exp"], "exp": 1}), NOT_A_JWT),
    "crit b64": (
        lambda: unsigned({"alg": "RS256", "kid": "k1", "crit": ["b64"], "b64": True}, signature=b"x"),
        EXTENSION,
    ),
    "expired": (lambda: token(exp=now() - 60), EXPIRED),
    "not yet valid": (lambda: token(nbf=now() + 300), EARLY),
    "issued in the future": (lambda: token(iat=now() + 300), EARLY),
    "no exp": (lambda: token(exp=None), CLAIMS),
    "exp is no number": (lambda: token(exp="soon"), MALFORMED),
    "exp is infinite": (lambda: token(exp=float("inf")), MALFORMED),
    "no iss": (lambda: token(iss=None), CLAIMS),
    "wrong iss": (lambda: token(iss=ISSUER + "x"), ISSUER_),
    "no aud": (lambda: token(aud=None), NO_AUDIENCE),
    "wrong aud": (lambda: token(aud="other"), AUDIENCE_),
    "wrong auds": (lambda: token(aud=["other", AUDIENCE + "x"]), AUDIENCE_),
    "no sub": (lambda: token(sub=None), NO_SUBJECT),
    "sub is a number": (lambda: token(sub=7), MALFORMED),
    "sub is empty": (lambda: token(sub=""), SUBJECT),
    "sub is too long": (lambda: token(sub="a" * 256), SUBJECT),
    "aud is empty": (lambda: token(aud=""), AUDIENCE_),
    "aud is an empty list beside a right client_id": (lambda: token(aud=[], client_id=AUDIENCE), AUDIENCE_),
    "wrong aud beside a right client_id": (lambda: token(aud="other", client_id=AUDIENCE), AUDIENCE_),
    "wrong aud beside a right azp": (lambda: token(aud="other", azp=AUDIENCE), AUDIENCE_),
    "wrong client_id beside a right azp": (lambda: token(aud=None, client_id="other", azp=AUDIENCE), AUDIENCE_),
    "client_id is a list": (lambda: token(aud=None, client_id=[AUDIENCE]), AUDIENCE_),
    "aud is a list of lists": (lambda: token(aud=[[AUDIENCE]]), AUDIENCE_),
    "aud is an object": (lambda: token(aud={AUDIENCE: 1}), AUDIENCE_),
}


@pytest.mark.parametrize(("make", "why"), BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
async def test_a_bad_token_is_refused_with_a_reason_that_is_safe_in_a_header(make, why):
    with pytest.raises(InvalidToken) as caught:
        await user_id(public_key_tokens(), make())
    assert caught.value.detail == why
    assert problem_headers(caught.value) == {
        "WWW-Authenticate": f'Bearer realm="chat", error="invalid_token", error_description="{why}"'
    }


@pytest.mark.parametrize(
    "make",
    [
        token,
        lambda: token("e1", "ES256"),
        lambda: token(aud=["other", AUDIENCE]),
        lambda: token(aud=None, client_id=AUDIENCE),
        lambda: token(aud=None, azp=AUDIENCE),
        lambda: token(exp=now() - 2),
        lambda: token(nbf=now() + 5),
        lambda: token(iat=None),
        lambda: token(headers={"typ": "at+jwt"}),
    ],
    ids=[
        "RS256",
        "ES256",
        "several audiences",
        "client_id",
        "azp",
        "leeway exp",
        "leeway nbf",
        "no iat",
        "access token",
    ],
)
async def test_a_good_token_names_its_subject(make):
    assert await user_id(public_key_tokens(), make()) == "alice"


@pytest.mark.parametrize("name", ["too long", "alg none", "key confusion", "crit b64", "two parts"])
async def test_what_is_wrong_by_its_form_alone_asks_for_no_key(name):
    keys = Published(public_jwk("k1"))
    auth = AuthSettings("jwt", "http://unused", None, ("RS256",), ISSUER, (AUDIENCE,))
    with pytest.raises(InvalidToken):
        await user_id(Tokens(auth, keys), BAD_TOKENS[name][0]())
    assert keys.asked == 0


async def test_with_a_secret_its_tokens_are_good_whatever_their_kid_and_others_are_not():
    good = jwt.encode(claims(), SECRET, "HS256", headers={"kid": "any"})
    assert await user_id(secret_tokens(), good) == "alice"
    for bad in (jwt.encode(claims(), SECRET[::-1], "HS256"), tampered(good)):
        with pytest.raises(InvalidToken, match="signature"):
            await user_id(secret_tokens(), bad)
    for bad in (token(), jwt.encode(claims(), SECRET * 2, "HS512"), unsigned({"alg": "none"}, signature=b"x")):
        with pytest.raises(InvalidToken, match="algorithm"):
            await user_id(secret_tokens(), bad)


segments = st.text("abcXYZ019-_", min_size=1, max_size=40)
heads = st.dictionaries(
    st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jku"]),
    st.sampled_from(["RS256", "ES256", "k1", "e1", "none", ["b64"], False, None, 1, {}]),
)


@given(
    st.one_of(
        st.text(max_size=200),
        st.tuples(segments, segments, segments).map(".".join),
        st.tuples(heads, st.binary(max_size=99), st.binary(min_size=1, max_size=99)).map(
            lambda parts: ".".join(encode(part) for part in parts)
        ),
    )
)
async def test_whatever_is_sent_as_a_token_is_refused_as_a_token(sent):
    with pytest.raises(InvalidToken):
        await user_id(public_key_tokens(), sent)


def table(*jwks, algorithms=("RS256", "ES256", "EdDSA")):
    return set(read_keys(json.dumps({"keys": jwks}).encode(), algorithms))


def test_keys_are_kept_by_id_and_by_each_algorithm_they_may_be_used_with():
    unnamed = public_jwk("k1", kid=None, alg=None, use=None)
    found = table(
        unnamed, public_jwk("e1", "ES256"), public_jwk("d1", "EdDSA"), algorithms=("RS256", "PS256", "ES256", "EdDSA")
    )
    assert found == {(None, "RS256"), (None, "PS256"), ("e1", "ES256"), ("d1", "EdDSA")}


def private_jwk(name, kind):
    return jwt.get_algorithm_by_name(kind).to_jwk(private_key(name, kind), as_dict=True) | {"key_ops": ["verify"]}


UNUSABLE_KEYS = {
    "for encryption": lambda: public_jwk("x", use="enc"),
    "for other operations": lambda: public_jwk("x", key_ops=["encrypt"]),
    "broken operations": lambda: public_jwk("x", key_ops=1),
    "another algorithm": lambda: public_jwk("x", alg="RS512"),
    "a symmetric algorithm": lambda: public_jwk("x", alg="HS256"),
    "1024 bits": lambda: public_jwk("short"),
    "another curve": lambda: public_jwk("x", "ES384", alg="ES256"),
    "another curve, no alg": lambda: public_jwk("x", "ES384", alg=None),
    "symmetric": lambda: {"kty": "oct", "k": encode(b"0" * 32), "kid": "x"},
    "symmetric in disguise": lambda: {"kty": "oct", "k": encode(b"0" * 32), "kid": "x", "alg": "RS256"},
    "private": lambda: private_jwk("x", "RS256"),
    "private, elliptic": lambda: private_jwk("x", "ES256"),
    "no modulus": lambda: public_jwk("x", n=None),
    "broken modulus": lambda: public_jwk("x", n=5),
    "broken type": lambda: public_jwk("x", kty=["RSA"]),
    "empty": lambda: {},
    "text": lambda: "key",
    "null": lambda: None,
}


@pytest.mark.parametrize("make", UNUSABLE_KEYS.values(), ids=UNUSABLE_KEYS.keys())
def test_a_key_that_is_not_meant_or_not_fit_for_signatures_is_passed_over_and_the_others_are_not(make):
    assert table(make(), public_jwk("k1")) == {("k1", "RS256")}
    with pytest.raises(UnusableKeySet):
        table(make())


def test_a_symmetric_key_is_never_taken_from_a_url_whatever_the_algorithms():
    with pytest.raises(UnusableKeySet):
        table({"kty": "oct", "k": encode(b"0" * 32), "kid": "x"}, algorithms=("HS256",))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b'{"keys": 1}', b"[" * 99999]
)
def test_what_is_no_key_set_is_told_apart(body):
    with pytest.raises(UnusableKeySet):
        read_keys(body, ("RS256",))


junk = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=2)
members = st.sampled_from(["kty", "crv", "n", "e", "x", "y", "kid", "use", "alg", "key_ops"])


@given(st.sampled_from([("k1", "RS256"), ("e1", "ES256"), ("d1", "EdDSA")]), st.dictionaries(members, junk))
def test_whatever_an_issuer_publishes_is_a_key_or_passed_over(base, changes):
    broken = public_jwk(*base) | changes
    assert ("good", "ES256") in table(broken, public_jwk("good", "ES256"))


@pytest.mark.parametrize(
    "subject", ["auth0|abc", "alice@example.com", "user+tag", "00u1abcd", "7f0e3c1a-0000-4000-8000-000000000000"]
)
async def test_a_subject_in_the_form_of_an_id_is_the_user(subject):
    assert await user_id(public_key_tokens(), token(sub=subject)) == subject


async def test_any_other_subject_is_known_by_a_digest_that_nobody_can_be_called_by():
    subjects = ["alice bob", "https://idp.example/users/7", "김철수", "a" * 255, "alice\r\nX: y", "x\u0000", "\ud800"]
    ids = [await user_id(public_key_tokens(), token(sub=subject)) for subject in subjects]
    assert ids == [await user_id(public_key_tokens(), token(sub=subject)) for subject in subjects]
    assert all(is_name(each) for each in ids)
    stolen = [await user_id(public_key_tokens(), token(sub=each)) for each in ids]
    assert len({*ids, *stolen}) == 2 * len(subjects)
    assert ids[0] == "sha256:" + hashlib.sha256(b"alice bob").hexdigest()


async def test_another_claim_may_name_the_user():
    auth = AuthSettings("jwt", "http://unused", None, ("RS256",), ISSUER, (AUDIENCE,), "oid")
    tokens = Tokens(auth, Published(public_jwk("k1")))
    assert await user_id(tokens, token(oid="object", sub=None)) == "object"
    for bad, why in ((token(), "must have the claim oid"), (token(oid=["object"]), "must be a string")):
        with pytest.raises(InvalidToken, match=why):
            await user_id(tokens, bad)
