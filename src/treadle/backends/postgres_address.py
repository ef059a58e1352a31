"""Where a PostgreSQL store lies: `postgresql://user:password@host:5432/database?schema=treadle`, and never a password where it could be read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from treadle.core.errors import UsageError

_HINT = "Write postgresql://user@host:5432/database?schema=treadle, and '@' or '%' in a password as %40 or %25; or set PGPASSWORD."


@dataclass(frozen=True)
class Address:
    """`url` as it was given, what it tells libpq, the schema its tables are in, and a name that may be shown."""

    url: str = field(repr=False)
    told: Mapping[str, Any] = field(repr=False)
    schema: str
    shown: str

    @property
    def lock(self) -> int:
        """The number of the advisory lock that writers take turns by: one for everybody who means the same schema of a database."""
        return int.from_bytes(hashlib.sha256(f"treadle:{self.schema}".encode()).digest()[:7], "big")

    def parameters(self, settings: Mapping[str, object], connect_seconds: int) -> dict[str, Any]:
        """What to connect with: our settings first, so that the address has the last word about them."""
        said = self.told.get("options") or os.environ.get("PGOPTIONS", "")
        ours = {"search_path": f"{self.schema},pg_temp", "timezone": "UTC", **settings}
        alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        options = " ".join([*(f"-c {name}={value}" for name, value in ours.items()), str(said)]).strip()
        usual = {"connect_timeout": connect_seconds, "application_name": "treadle"}
        return {**usual, **alive, **self.told, "options": options, "client_encoding": "UTF8"}

    def without_password(self, text: str) -> str:
        """`text`, should a password have got into it."""
        for secret in (self.told.get("password"), os.environ.get("PGPASSWORD")):
            if secret:
                text = text.replace(str(secret), "***").replace(quote(str(secret), safe=""), "***")
        return text

    def safe(self, error: Exception) -> Exception | None:
        """The error as a cause that may be shown, or None."""
        return error if self.without_password(str(error)) == str(error) else None


def address(url: str) -> Address:
    """Read an address; what it leaves out libpq takes from PGHOST, PGUSER, PGPASSWORD, ~/.pgpass and so on. Raises UsageError."""
    scheme, _, rest = url.partition(":")
    try:
        parts = urlsplit(f"postgresql:{rest or '//'}")
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        # An '@' or '#' that belongs to a password would make the rest of it a host or a fragment, and hosts are shown.
        if scheme not in ("postgresql", "postgres") or not (rest or "//").startswith("//") or parts.netloc.count("@") > 1 or parts.fragment:
            raise ValueError
        for pair in (part for part in parts.netloc.rpartition("@")[2].split(",") if not part.startswith("[")):
            if pair.count(":") > 1 or not (pair.partition(":")[2] or "0").isdigit():
                raise ValueError
        for_libpq = urlencode([pair for pair in query if pair[0] != "schema"], quote_via=quote)
        told = conninfo_to_dict(f"postgresql://{parts.netloc}{parts.path}" + (f"?{for_libpq}" if for_libpq else ""))
    except (ValueError, psycopg.Error):  # its text may quote the password
        raise UsageError("The address of the PostgreSQL store cannot be read.", hint=_HINT) from None
    schema = dict(query).get("schema", "treadle")
    if not (schema.isascii() and schema.isidentifier() and schema == schema.lower() and len(schema) <= 63) or schema.startswith("pg_"):
        raise UsageError(f"{schema!r} is no name for a schema.", hint="Use small letters, digits and '_'.")
    host = parts.netloc.rpartition("@")[2] or str(told.get("host") or os.environ.get("PGHOST", ""))
    database = unquote(parts.path) or f"/{told.get('dbname') or os.environ.get('PGDATABASE', '')}"
    return Address(url, told, schema, f"postgresql://{host}{database}")
