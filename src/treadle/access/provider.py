"""Talking to an OpenID provider: its description, its keys, and the exchange of a code for an ID token. With the standard library alone.

Only addresses at the issuer's host (and those the setting `oidc_hosts` names) are asked, over HTTPS; plain HTTP only on this machine. No redirect is
followed, and no answer is read beyond a megabyte.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import stat
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from treadle.core.errors import Unauthorized, Unavailable, UsageError
from treadle.settings import Settings

_TIMEOUT, _MOST = 10.0, 1_000_000


@dataclass(frozen=True)
class Client:
    """How this project is known to its provider. `hosts` are the only ones that are asked; the secret is never shown."""

    issuer: str
    id: str
    secret: str = field(repr=False)
    hosts: frozenset[str]


@dataclass(frozen=True)
class Provider:
    """What a provider says of itself, checked. `post`: whether the client's secret goes into the form, for those that take no header."""

    issuer: str
    authorize: str
    token: str
    keys: str
    post: bool


def configured(settings: Settings) -> bool:
    """Whether there is a provider to sign in with."""
    return bool(settings["oidc_issuer"])


def client_of(settings: Settings) -> Client:
    """The client that the settings describe. Raises UsageError for what is missing or cannot be."""
    issuer, id = settings["oidc_issuer"], settings["oidc_client_id"]
    if not issuer or not id:
        raise UsageError("There is no OpenID provider to sign in with.", hint="Set oidc_issuer and oidc_client_id.")
    hosts = frozenset({_host(issuer), *(h.lower() for h in settings["oidc_hosts"].split())})
    _address(issuer, hosts, "The setting oidc_issuer")
    return Client(issuer, id, _secret(settings["oidc_client_secret"]), hosts)


def discover(client: Client) -> Provider:
    """Read what the provider says of itself. Raises Unavailable when it does not answer, UsageError when it says what cannot be."""
    said = _read(f"{client.issuer.rstrip('/')}/.well-known/openid-configuration", client)
    if said.get("issuer") != client.issuer:
        raise UsageError(f"The provider at {client.issuer} calls itself by another name.", hint="Set oidc_issuer exactly as it calls itself.")
    places = {k: said.get(k) for k in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    for name, place in places.items():
        _address(place if isinstance(place, str) else "", client.hosts, f"The provider's {name}")
    methods = said.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    post = "client_secret_post" in methods and "client_secret_basic" not in methods
    return Provider(client.issuer, str(places["authorization_endpoint"]), str(places["token_endpoint"]), str(places["jwks_uri"]), post)


def key_set(provider: Provider, client: Client) -> dict[str, Any]:
    """The provider's keys as they are now."""
    return _read(provider.keys, client)


def exchange(provider: Provider, client: Client, code: str, verifier: str, redirect_uri: str) -> str:
    """The ID token for a code. Raises Unauthorized when the provider does not take the code, Unavailable when it does not answer."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}
    headers = {}
    if client.secret and not provider.post:
        pair = f"{quote(client.id, safe='')}:{quote(client.secret, safe='')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        form |= {"client_id": client.id, **({"client_secret": client.secret} if client.secret else {})}
    token = _read(provider.token, client, form=form, headers=headers).get("id_token")
    if not isinstance(token, str):
        raise Unauthorized("The provider gave no ID token.", hint="Start the sign-in again.")
    return token


def _read(url: str, client: Client, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    shown = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}"
    direct = [urllib.request.ProxyHandler({})] if _here(_host(url)) else []
    opener = urllib.request.build_opener(_NoRedirect, *direct)
    data = urlencode(form).encode() if form is not None else None
    try:
        asked = urllib.request.Request(url, data=data, headers={"Accept": "application/json", **(headers or {})})
        with opener.open(asked, timeout=_TIMEOUT) as answer:
            text = answer.read(_MOST + 1)
    except urllib.error.HTTPError as error:
        error.close()
        if form is not None and error.code in (400, 401, 403):
            raise Unauthorized("The provider did not take the sign-in.", hint="Start the sign-in again.") from None
        raise Unavailable(f"The OpenID provider at {shown} answered {error.code}.", hint="Try again later.") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error) if isinstance(error, OSError) else "it does not speak HTTP"
        raise Unavailable(f"The OpenID provider at {shown} does not answer ({reason}).", hint="Try again later.") from None
    try:
        found = json.loads(text) if len(text) <= _MOST else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unavailable(f"The OpenID provider at {shown} answered something else than JSON.", hint="Check the setting oidc_issuer.")
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Whoever redirects would choose another host to send the code and the secret to."""

    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str) -> None:
        return None


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(url: str, hosts: frozenset[str], what: str) -> None:
    host, scheme = _host(url), url.partition(":")[0].lower()
    if not host or scheme not in ("https", "http") or urlsplit(url).username is not None:
        raise UsageError(f"{what} is not a web address.", hint="It starts with https://.")
    if scheme == "http" and not _here(host):
        raise UsageError(f"{what} is not encrypted.", where=url, hint="It starts with https://; http:// is for this machine only.")
    if host not in hosts:
        raise UsageError(f"{what} is at another host than the issuer.", where=host, hint="If that is right, name it in the setting oidc_hosts.")


def _secret(given: str) -> str:
    """The client's secret: the setting itself, or what the file holds that it names. Raises UsageError; never says the secret."""
    if not given.startswith("file:"):
        return given
    path = Path(given.removeprefix("file://").removeprefix("file:"))
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise UsageError("Others may read the file that oidc_client_secret names.", where=str(path), hint=f"chmod 600 {path}")
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise UsageError(f"The file that oidc_client_secret names cannot be read: {error.strerror or error}.", where=str(path)) from None
