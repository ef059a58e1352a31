"""The ID token of an OpenID provider, checked as OpenID Connect Core 1.0, section 3.1.3.7 says: signature, issuer, audience, times, nonce."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from treadle.core.errors import Unauthorized, Unavailable

# Signatures with a key pair. Not 'none'; and not HS256, with which whoever knows a public key or the client's secret could write a token.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
LEEWAY = 60  # seconds that two clocks may differ
_LONGEST = 65_536


def checked(token: str, keys: Mapping[str, Any], *, issuer: str, client: str, nonce: str, now: datetime) -> dict[str, Any]:
    """The claims of an ID token. Raises Unauthorized, saying what is wrong with it and nothing of what it says.

    Args:
        keys: the provider's JSON Web Key Set.
        client: the id under which Treadle is registered there, which the token must be for.
        nonce: what was sent along when the person was sent to the provider.
    """
    try:
        from joserfc import errors, jwk, jwt
    except ImportError:
        what = "Signing in with an OpenID provider needs the package joserfc."
        raise Unavailable(what, hint="Install it with: pip install 'treadle[console]'") from None
    if len(token) > _LONGEST:
        raise _wrong("is too long")
    try:
        pairs = [k for k in keys.get("keys", ()) if k.get("kty") in ("RSA", "EC", "OKP") and k.get("use", "sig") == "sig"]
        found = jwt.decode(token, jwk.KeySet.import_key_set({"keys": pairs}), algorithms=list(ALGORITHMS))
    except errors.UnsupportedAlgorithmError:
        raise _wrong("is not signed by an algorithm that is allowed") from None
    except (errors.JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise _wrong("is not signed by a key of the provider") from None
    claims: dict[str, Any] = found.claims
    at = now.timestamp()
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    ends, made, begins = (_moment(claims.get(k)) for k in ("exp", "iat", "nbf"))
    if claims.get("iss") != issuer:
        raise _wrong("is of another issuer")
    alone = all(a == client for a in named)
    if client not in named or claims.get("azp", client if alone else "") != client:
        raise _wrong("is for another audience")
    if ends is None or at >= ends + LEEWAY:
        raise _wrong("has ended")
    if made is None or made > at + LEEWAY or (claims.get("nbf") is not None and (begins is None or begins > at + LEEWAY)):
        raise _wrong("is of the future")
    if not nonce or not isinstance(claims.get("nonce"), str) or not hmac.compare_digest(claims["nonce"].encode(), nonce.encode()):
        raise _wrong("belongs to another sign-in")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise _wrong("does not say who it is for")
    return claims


def _moment(value: Any) -> float | None:
    """Seconds since 1970, if it is a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 else None


def _wrong(why: str) -> Unauthorized:
    return Unauthorized(f"The provider's ID token {why}.", hint="Start the sign-in again.")
