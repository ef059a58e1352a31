"""Addresses of sources: what their variables say is put in when one is opened, and is kept out of everything that is shown."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from treadle.core.errors import DataError

_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class SourceAddress:
    """An address taken apart. `shown` may be shown; `path` is without its first '/', `query` a mapping."""

    url: str = field(repr=False)
    scheme: str
    user: str
    password: str = field(repr=False)
    hosts: str
    path: str
    query: dict[str, str] = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)

    def host(self, port: int) -> tuple[str, int]:
        """The host and port, or the given one."""
        host, colon, given = self.hosts.rpartition(":")
        if not colon or "]" in given:
            return self.hosts.strip("[]") or "localhost", port
        return host.strip("[]") or "localhost", int(given)

    def safe(self, text: object) -> str:
        """`text`, should a secret have got into it."""
        said = str(text)
        for secret in self.secrets:
            said = said.replace(secret, "***").replace(quote(secret, safe=""), "***")
        return said


def scheme_of(url: str) -> str:
    """The scheme of a declared address. Raises DataError when the variable that holds it is not set."""
    return (_variable(url[4:]) if url.startswith("env:") else url).partition(":")[0]


def read_address(url: str) -> SourceAddress:
    """A declared address with its variables put in. Raises DataError, which names the variable and never its value."""
    secrets: list[str] = []
    name = ""
    if url.startswith("env:"):
        name = url[4:]
        url = _variable(name)

    def put(match: re.Match[str]) -> str:
        value = _variable(match[1])
        secrets.append(value)
        return quote(value, safe="")

    scheme, _, rest = url.partition(":")
    if not rest.startswith("//"):  # a file of this machine
        path = _NAMED.sub(lambda m: _variable(m[1]), rest)
        return SourceAddress(url, scheme, "", "", "", path, {}, f"{scheme}:{path}", ())
    try:
        url = _NAMED.sub(put, url)
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        if not all((h.rpartition(":")[2] or "0").isdigit() for h in hosts.split(",") if ":" in h.rpartition("]")[2]) or parts.fragment:
            raise ValueError
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise DataError(
            f"The address {f'in {name} ' if name else ''}cannot be read.",
            hint=f"Write {scheme[:12]}://user:password@host:port/name, and '@', '/' or '%' in a password as %40, %2F or %25.",
        ) from None
    password = unquote(password)
    if password:
        secrets.append(password)
    secrets += [value for key, value in query.items() if re.search("pass|secret|token|sig$", key, re.IGNORECASE)]
    path = unquote(parts.path).removeprefix("/") if hosts or scheme not in ("sqlite", "duckdb") else unquote(parts.path)
    shown = f"{scheme}://{hosts}/{path.lstrip('/')}".rstrip("/")
    distinct = sorted({s for s in secrets if len(s) > 2}, key=len, reverse=True)
    return SourceAddress(url, scheme, unquote(user), password, hosts, path, query, shown, tuple(distinct))


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise DataError(f"The environment variable {name} is not set.", hint=f"The address of the source needs it: set it with export {name}=...")
    return value
