"""An OpenID provider to test against: a real one over HTTP on this machine, which also insists on PKCE. It trusts whoever says who they are."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit


@dataclass
class Issuer:
    """A running provider. `asked` are the authorization requests it got, newest last."""

    url: str
    asked: list[dict[str, str]] = field(default_factory=list)

    def register(self, redirect_uri: str, method: str) -> tuple[str, str]:
        """Register a client that shows its secret in this way; returns its id and secret."""
        body = json.dumps({"redirect_uris": [redirect_uri], "token_endpoint_auth_method": method}).encode()
        asked = urllib.request.Request(f"{self.url}/oauth2/clients", data=body, headers={"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
            made = json.load(answer)
        return made["client_id"], made["client_secret"]

    def answer(self, address: str, subject: str, *, deny: bool = False) -> dict[str, str]:
        """Sign in there as `subject`, as a person in a browser would; returns the parameters they come back with."""
        form = urlencode({"action": "deny"} if deny else {"sub": subject}).encode()
        opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
        try:
            opener.open(address, data=form, timeout=30).close()
        except urllib.error.HTTPError as error:
            error.close()
            return dict(parse_qsl(urlsplit(error.headers["Location"]).query))
        raise AssertionError("the provider did not send the browser back")


@contextmanager
def openid_provider(users: Mapping[str, Mapping[str, Any]], *, registered: bool = False) -> Iterator[Issuer]:
    """A provider that knows these users: subject to claims. A code is only worth something with the verifier of its challenge.

    Args:
        registered: whether it knows the clients that were registered only, and asks for their secret.
    """
    import flask
    import werkzeug.serving

    with warnings.catch_warnings(record=True):  # of the provider's own libraries, which switch theirs on when they are imported
        from oidc_provider_mock import User, app

    known = [User(sub=sub, claims=dict(claims)) for sub, claims in users.items()]
    provider = app(require_client_registration=registered, require_nonce=True, user_claims=known)
    issuer = Issuer("")
    challenges: dict[str, str] = {}

    @provider.before_request
    def insist() -> Any:
        if flask.request.path == "/oauth2/authorize" and flask.request.method == "POST":
            issuer.asked.append(dict(flask.request.args))
        if flask.request.path == "/oauth2/token":
            said = hashlib.sha256(flask.request.form.get("code_verifier", "").encode()).digest()
            challenge = challenges.pop(flask.request.form.get("code", ""), "")
            if not challenge or base64.urlsafe_b64encode(said).decode().rstrip("=") != challenge:
                return flask.jsonify({"error": "invalid_grant"}), 400
        return None

    @provider.after_request
    def remember(response: Any) -> Any:
        asked = flask.request.args
        code = parse_qs(urlsplit(response.headers.get("Location", "")).query).get("code")
        if code and asked.get("code_challenge_method") == "S256":
            challenges[code[0]] = asked.get("code_challenge", "")
        return response

    server = werkzeug.serving.make_server("127.0.0.1", 0, provider, threaded=True)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str) -> None:
        return None
