"""The certificate of an endpoint: two files that are looked at before anything listens. There is no certificate of our own making."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from treadle.core.errors import UsageError
from treadle.settings import Settings


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What an endpoint answers over HTTPS with, TLS 1.2 or newer; None without a certificate.

    Raises: UsageError when one of the two settings is missing, a file cannot be read, they do not belong together, or others may read the key.
    """
    given = {name: settings[name] for name in ("tls_cert", "tls_key")}
    if not any(given.values()):
        return None
    for name, path in given.items():
        if not path:
            raise UsageError(f"The setting {name} is missing.", where="treadle.toml", hint="HTTPS needs both tls_cert and tls_key.")
        if not Path(path).is_file():
            raise UsageError(f"There is no file {path}.", where=f"setting {name}", hint="Give the path of a PEM file.")
    mode = stat.S_IMODE(os.stat(given["tls_key"]).st_mode)
    if mode & 0o077:
        raise UsageError(f"Others than its owner may read the private key ({mode:04o}).", where=given["tls_key"], hint="Run: chmod 600 on it.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(given["tls_cert"], given["tls_key"], password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise UsageError(
            f"The certificate and the key cannot be used: {getattr(error, 'reason', None) or error}.", where=given["tls_cert"],
            hint="Both are PEM files, the key has no password, and they belong together.",
        ) from None  # fmt: skip
    return context
