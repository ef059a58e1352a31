"""Sign-in with an OpenID provider: through a real one over HTTP, and with ID tokens that are wrong in each way there is."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from treadle.access import oidc, people, throttle
from treadle.access.id_token import checked
from treadle.access.provider import client_of
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import SystemClock
from treadle.core.errors import Forbidden, Unauthorized, Unavailable, UsageError
from treadle.settings import Settings, read_settings
from treadle.testing.openid import Issuer, openid_provider

from .conftest import SetClock

NOW = SystemClock()
BACK = "http://127.0.0.1:8080/sign-in/oidc"
USERS: dict[str, dict[str, Any]] = {
    "sub-1": {"preferred_username": "Ada.Lovelace", "name": "Ada Lovelace", "email": "ada@example.org", "groups": ["ML team", "all"]},
    "sub-2": {"preferred_username": "ada.lovelace", "name": "Another Ada", "groups": []},
    "sub-3": {"name": "Nameless"},
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with openid_provider(USERS) as running:
        yield running


def settings(issuer: Issuer, tmp_path: Path, **said: str) -> Settings:
    given = {"oidc_issuer": issuer.url, "oidc_client_id": "treadle", "oidc_client_secret": "s3cret", **said}
    return read_settings(tmp_path, {f"TREADLE_{k.upper()}": v for k, v in given.items()})


def sign_in(issuer: Issuer, found: Settings, ledger: MemoryLedger, subject: str) -> people.Person:
    url, kept = oidc.begin(found, BACK)
    return oidc.finish(found, kept, issuer.answer(url, subject), ledger, NOW, address="10.0.0.7")


def test_a_person_is_made_at_the_first_sign_in_and_has_no_role(issuer: Issuer, tmp_path: Path, ledger: MemoryLedger) -> None:
    person = sign_in(issuer, settings(issuer, tmp_path), ledger, "sub-1")
    assert (person.name, person.full, person.email, person.kind) == ("ada.lovelace", "Ada Lovelace", "ada@example.org", "oidc")
    assert person.roles == ()
    assert person.permissions == frozenset()
    again = sign_in(issuer, settings(issuer, tmp_path), ledger, "sub-1")
    assert again == person
    assert len(people.people(ledger)) == 1
    sent = issuer.asked[-1]
    assert sent["code_challenge_method"] == "S256"
    assert len(sent["nonce"]) > 30
    assert len(sent["state"]) > 30
    assert issuer.asked[-1]["nonce"] != issuer.asked[-2]["nonce"]


def test_a_name_that_somebody_else_has_is_not_taken_over(issuer: Issuer, tmp_path: Path, ledger: MemoryLedger) -> None:
    local = people.add_person("ada.lovelace", ledger, NOW, actor="test", roles=["administrator"])
    first, second, third = (sign_in(issuer, settings(issuer, tmp_path), ledger, f"sub-{n}") for n in (1, 2, 3))
    assert len({local.name, first.name, second.name, third.name}) == 4
    assert first.name.startswith("ada.lovelace-")
    assert third.name == "sub-3"
    assert people.find_person("ada.lovelace", ledger) == local
    assert first.permissions == second.permissions == frozenset()


def test_roles_and_groups_follow_what_the_provider_says_each_time(issuer: Issuer, tmp_path: Path, ledger: MemoryLedger) -> None:
    people.add_group("modellers", ledger, NOW, actor="test", roles=["data_scientist"])
    rules = settings(issuer, tmp_path, oidc_roles="groups:ML team=ml_engineer, groups:all=@modellers, groups:chiefs=architect")
    person = sign_in(issuer, rules, ledger, "sub-1")
    assert person.own_roles == ("ml_engineer",)
    assert person.groups == ("modellers",)
    people.change_person(person.name, ledger, NOW, actor="test", roles=["ml_engineer", "architect", "stakeholder"])
    assert sign_in(issuer, rules, ledger, "sub-1").own_roles == ("ml_engineer", "stakeholder"), "what the mapping speaks of is the provider's to say"
    assert sign_in(issuer, rules, ledger, "sub-2").roles == ()
    assert sign_in(issuer, settings(issuer, tmp_path, oidc_roles="email:ada@example.org=administrator"), ledger, "sub-1").own_roles == ("ml_engineer", "stakeholder"), "nobody verified it"
    with pytest.raises(UsageError, match="oidc_roles"):
        sign_in(issuer, settings(issuer, tmp_path, oidc_roles="groups:all=boss"), ledger, "sub-1")


def test_somebody_disabled_is_not_let_in(issuer: Issuer, tmp_path: Path, ledger: MemoryLedger) -> None:
    person = sign_in(issuer, settings(issuer, tmp_path), ledger, "sub-1")
    people.change_person(person.name, ledger, NOW, actor="test", disabled=True)
    with pytest.raises(Forbidden):
        sign_in(issuer, settings(issuer, tmp_path), ledger, "sub-1")
    assert ledger.events_since()[-1].kind == "access.refused"
    assert ledger.events_since()[-1].body["address"] == "10.0.0.7"


def test_what_does_not_belong_to_the_sign_in_that_was_begun_is_refused(issuer: Issuer, tmp_path: Path, ledger: MemoryLedger) -> None:
    found = settings(issuer, tmp_path)
    url, kept = oidc.begin(found, BACK)
    answer = issuer.answer(url, "sub-1")
    other_url, other = oidc.begin(found, BACK)
    stranger = issuer.answer(other_url, "sub-2")

    def changed(**said: object) -> str:
        begun = json.loads(base64.urlsafe_b64decode(kept)) | said
        return base64.urlsafe_b64encode(json.dumps(begun).encode()).decode()

    later = NOW.now().timestamp()
    for wrong, query in (
        (kept, {**answer, "state": "x"}),
        (kept, {"code": answer["code"]}),
        (kept, {"state": answer["state"]}),
        (other, answer),
        (kept, {**stranger, "state": answer["state"]}),  # a code of another sign-in: its verifier is another
        (changed(nonce="another"), None),  # a token of another sign-in
        (changed(at=later - 601), answer),
        (changed(at=later + 3600), answer),
        (kept, {**answer, "iss": "https://other.example.org"}),
        (kept, {"state": answer["state"], "error": "access_denied<script>"}),
        ("", answer), ("nonsense", answer), ("é", answer), (base64.urlsafe_b64encode(b"[1]").decode(), answer),
    ):  # fmt: skip
        with pytest.raises(Unauthorized) as told:
            oidc.finish(found, wrong, issuer.answer(url, "sub-1") if query is None else query, ledger, NOW)
        assert "<" not in str(told.value)
    assert people.people(ledger) == []
    assert oidc.finish(found, kept, issuer.answer(url, "sub-1"), ledger, NOW).name == "ada.lovelace"
    denied = issuer.answer(url, "sub-1", deny=True)
    with pytest.raises(Unauthorized):
        oidc.finish(found, kept, denied, ledger, NOW)


def test_refused_answers_fill_no_log(issuer: Issuer, tmp_path: Path, ledger: MemoryLedger, clock: SetClock) -> None:
    found = settings(issuer, tmp_path)
    for _ in range(100):
        with pytest.raises(Unauthorized):
            oidc.finish(found, "", {}, ledger, clock, address="10.0.0.7")
    assert len(ledger.events_since()) == 5
    assert throttle.allowed("ada", "10.0.0.7", ledger, clock) == 0


def test_a_code_is_good_once(issuer: Issuer, tmp_path: Path, ledger: MemoryLedger) -> None:
    found = settings(issuer, tmp_path)
    url, kept = oidc.begin(found, BACK)
    answer = issuer.answer(url, "sub-1")
    oidc.finish(found, kept, answer, ledger, NOW)
    with pytest.raises(Unauthorized):
        oidc.finish(found, kept, answer, ledger, NOW)


def test_the_address_of_the_provider_is_the_only_one_that_is_asked(issuer: Issuer, tmp_path: Path) -> None:
    for wrong in ("http://login.example.org", "ftp://127.0.0.1", "127.0.0.1", "https://", "https://user:word@login.example.org", "file:///etc/passwd", "https://["):
        with pytest.raises(UsageError):
            client_of(settings(issuer, tmp_path, oidc_issuer=wrong))
    port = urlsplit(issuer.url).port
    with pytest.raises(UsageError, match="another name"):
        oidc.begin(settings(issuer, tmp_path, oidc_issuer=issuer.url + "/"), BACK)
    with pytest.raises((UsageError, Unavailable)):
        oidc.begin(settings(issuer, tmp_path, oidc_issuer=f"http://localhost:{port}/no/such"), BACK)
    with pytest.raises(Unavailable, match="does not answer"):
        oidc.begin(settings(issuer, tmp_path, oidc_issuer="http://127.0.0.1:9"), BACK)
    with pytest.raises(UsageError, match="no OpenID provider"):
        oidc.begin(read_settings(tmp_path, {}), BACK)


def test_a_client_that_does_not_know_its_secret_gets_nothing(tmp_path: Path, ledger: MemoryLedger) -> None:
    with openid_provider(USERS, registered=True) as strict:
        id, secret = strict.register(BACK, "client_secret_basic")
        for wrong in ("", "guess", secret + "x"):
            with pytest.raises(Unauthorized, match="did not take"):
                sign_in(strict, settings(strict, tmp_path, oidc_client_id=id, oidc_client_secret=wrong), ledger, "sub-1")
        assert people.people(ledger) == []
        assert sign_in(strict, settings(strict, tmp_path, oidc_client_id=id, oidc_client_secret=secret), ledger, "sub-1").name == "ada.lovelace"


@contextmanager
def answering(status: int, text: bytes, **headers: str) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Says(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            own = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(text.replace(b"OWN", own.encode()))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Says) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_answer_that_is_no_description_of_a_provider_is_said_to_be_none(issuer: Issuer, tmp_path: Path) -> None:
    for status, text, headers in (
        (302, b"", {"Location": f"{issuer.url}/.well-known/openid-configuration"}), (500, b"", {}), (200, b"<html>", {}), (200, b"[1]", {}),
        (200, b'{"a": "' + b"a" * 1_100_000 + b'"}', {}), (200, b"\xff\xfe", {}),
    ):  # fmt: skip
        with answering(status, text, **headers) as url, pytest.raises(Unavailable):
            oidc.begin(settings(Issuer(url), tmp_path), BACK)
    for wrong in (b'{"issuer": "OWN"}', b'{"issuer": "OWN", "authorization_endpoint": 7, "token_endpoint": [], "jwks_uri": {}}', b"{}"):
        with answering(200, wrong) as url, pytest.raises(UsageError):
            oidc.begin(settings(Issuer(url), tmp_path), BACK)


@pytest.mark.parametrize("named", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
def test_a_provider_that_sends_us_to_another_host_is_refused(tmp_path: Path, named: str) -> None:
    places = dict.fromkeys(("authorization_endpoint", "token_endpoint", "jwks_uri"), "OWN/x") | {named: "https://169.254.169.254/latest"}
    with answering(200, json.dumps({"issuer": "OWN", **places}).encode()) as url, pytest.raises(UsageError, match="another host"):
        oidc.begin(settings(Issuer(url), tmp_path), BACK)


def test_the_secret_may_lie_in_a_file_that_others_cannot_read_and_is_never_shown(issuer: Issuer, tmp_path: Path, ledger: MemoryLedger) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    file.chmod(0o644)
    with pytest.raises(UsageError, match="Others may read"):
        client_of(settings(issuer, tmp_path, oidc_client_secret=f"file:{file}"))
    file.chmod(0o600)
    found = settings(issuer, tmp_path, oidc_client_secret=f"file:{file}")
    assert client_of(found).secret == "s3cret"
    assert "s3cret" not in repr(client_of(found))
    sign_in(issuer, found, ledger, "sub-1")
    assert "s3cret" not in str(ledger.events_since())
    file.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        client_of(found)


def test_a_mapping_that_cannot_be_read_is_named() -> None:
    assert oidc.mapping("groups:a b=architect, hd:example.org=@all") == [("groups", "a b", "architect"), ("hd", "example.org", "@all")]
    with pytest.raises(UsageError, match="groups=architect"):
        oidc.mapping("groups=architect")


# ID tokens

CLIENT, ISSUER, NONCE, AT = "treadle", "https://login.example.org", "n-1", datetime(2026, 3, 1, tzinfo=UTC)
GOOD = {"iss": ISSUER, "aud": CLIENT, "sub": "s", "exp": AT.timestamp() + 300, "iat": AT.timestamp() - 1, "nonce": NONCE}


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    from joserfc import jwk

    return {"RS256": jwk.RSAKey.generate_key(2048, {"kid": "r"}), "ES256": jwk.ECKey.generate_key("P-256", {"kid": "e"}), "stranger": jwk.RSAKey.generate_key(2048, {"kid": "r"})}


def token(claims: dict[str, Any], key: Any, alg: str = "RS256", **header: Any) -> str:
    from joserfc import jwt

    return jwt.encode({"alg": alg, "kid": key.kid, **header}, claims, key, algorithms=[alg])


def check(text: str, keys: dict[str, Any]) -> dict[str, Any]:
    known = {"keys": [keys["RS256"].as_dict(private=False), keys["ES256"].as_dict(private=False)]}
    return checked(text, known, issuer=ISSUER, client=CLIENT, nonce=NONCE, now=AT)


def unsigned(claims: dict[str, Any], alg: str) -> str:
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": alg, "kid": "r"}, claims)) + "."


def test_a_good_id_token_is_read(keys: dict[str, Any]) -> None:
    for alg in ("RS256", "ES256"):
        assert check(token(GOOD, keys[alg], alg), keys)["sub"] == "s"
    assert check(token({**GOOD, "aud": [CLIENT, "other"], "azp": CLIENT}, keys["RS256"]), keys)["azp"] == CLIENT
    assert check(token({**GOOD, "exp": AT.timestamp() - 30}, keys["RS256"]), keys), "two clocks may differ by a minute"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"iss": "https://evil.example.org"}, "issuer"), ({"iss": None}, "issuer"), ({"iss": [ISSUER]}, "issuer"),
        ({"aud": "other"}, "audience"), ({"aud": ["other"]}, "audience"), ({"aud": []}, "audience"), ({"aud": None}, "audience"),
        ({"aud": [CLIENT, "other"]}, "audience"), ({"aud": [CLIENT, "other"], "azp": "other"}, "audience"), ({"azp": "other"}, "audience"),
        ({"aud": {CLIENT: 1}}, "audience"), ({"aud": "treadle2"}, "audience"), ({"aud": "TREADLE"}, "audience"),
        ({"exp": AT.timestamp() - 61}, "ended"), ({"exp": None}, "ended"), ({"exp": "9999999999"}, "ended"), ({"exp": True}, "ended"), ({"exp": 1e300}, "ended"),
        ({"iat": AT.timestamp() + 120}, "future"), ({"iat": None}, "future"), ({"nbf": AT.timestamp() + 120}, "future"), ({"nbf": "x"}, "future"),
        ({"nonce": "n-2"}, "another sign-in"), ({"nonce": None}, "another sign-in"), ({"nonce": ""}, "another sign-in"), ({"nonce": ["n-1"]}, "another sign-in"),
        ({"sub": ""}, "who it is for"), ({"sub": None}, "who it is for"), ({"sub": 7}, "who it is for"), ({"sub": "s" * 256}, "who it is for"),
    ],
)  # fmt: skip
def test_an_id_token_that_is_not_for_this_sign_in_is_refused(keys: dict[str, Any], said: dict[str, Any], why: str) -> None:
    with pytest.raises(Unauthorized, match=why):
        check(token({**GOOD, **said}, keys["RS256"]), keys)
    with pytest.raises(Unauthorized):
        check(token({k: v for k, v in GOOD.items() if k not in said} | {k: v for k, v in said.items() if v is not None}, keys["RS256"]), keys)


def test_an_id_token_that_the_provider_did_not_sign_is_refused(keys: dict[str, Any]) -> None:
    from joserfc import jwk, jwt

    good = token(GOOD, keys["RS256"])
    head, body, signature = good.split(".")
    public = keys["RS256"].as_pem(private=False)
    forged = base64.urlsafe_b64encode(json.dumps({**GOOD, "sub": "admin"}).encode()).decode().rstrip("=")
    wrong = [
        *(unsigned(GOOD, alg) for alg in ("none", "None", "NONE", "nOnE", "", "RS256", "XX999")),
        jwt.encode({"alg": "HS256", "kid": "r"}, GOOD, jwk.OctKey.import_key(base64.b64encode(public)), algorithms=["HS256"]),
        jwt.encode({"alg": "HS256", "kid": "r"}, GOOD, jwk.OctKey.import_key("a client secret of some length!!"), algorithms=["HS256"]),
        token(GOOD, keys["stranger"]), token(GOOD, keys["stranger"], jwk=keys["stranger"].as_dict(private=False)),
        token(GOOD, keys["RS256"], kid="unknown"), f"{head}.{forged}.{signature}", f"{head}.{body}.", f"{head}.{body}.AAAA", f"{head}.{body}",
        "", "...", "a.b.c", "é.é.é", good + "A" * 70_000,
    ]  # fmt: skip
    for text in wrong:
        with pytest.raises(Unauthorized):
            check(text, keys)
    for nothing in ({}, {"keys": []}, {"keys": [{"kty": "oct", "k": "AAAA", "kid": "r"}]}, {"keys": [{"kty": "RSA"}]}, {"keys": [7]}, {"keys": 7}):
        with pytest.raises(Unauthorized):
            checked(good, nothing, issuer=ISSUER, client=CLIENT, nonce=NONCE, now=AT)


def test_where_to_send_the_browser_says_nothing_that_is_secret(issuer: Issuer, tmp_path: Path) -> None:
    url, kept = oidc.begin(settings(issuer, tmp_path), BACK)
    begun = json.loads(base64.urlsafe_b64decode(kept))
    query = parse_qs(urlsplit(url).query)
    assert begun["verifier"] not in url
    assert "s3cret" not in url + kept
    assert query["redirect_uri"] == [BACK]
    assert query["response_type"] == ["code"]
