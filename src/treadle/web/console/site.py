"""What a console is for: the workspace it shows, and how it is reached."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from treadle.assemble import Workspace
from treadle.core.canonical import digest
from treadle.core.errors import UsageError
from treadle.web.console.operation import Check
from treadle.web.guard import local


@dataclass(frozen=True)
class Site:
    """A console.

    Args:
        ws: the workspace it shows.
        url: the address people open, where it is not this machine only ('https://treadle.example.com').
        check: says which commands of the command line the server runs; none if not given.
    """

    ws: Workspace
    url: str = ""
    check: Check | None = None

    def __post_init__(self) -> None:
        if self.url:
            parts = urlsplit(self.url)
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or parts.path.strip("/")
                or parts.query
                or parts.fragment
                or parts.username
            ):
                raise UsageError(
                    f"{self.url!r} is no address of a console.",
                    where="the setting 'console_url'",
                    hint="Give one such as https://treadle.example.com",
                )

    @property
    def secure(self) -> bool:
        """Whether people reach it over HTTPS only."""
        return self.url.startswith("https://")

    @property
    def cookie(self) -> str:
        """The name of the session's cookie. Cookies are shared by all ports of a machine: each ledger has its own."""
        name = "treadle_" + digest([str(self.ws.folder), self.ws.settings["ledger"]])[:8]
        return f"__Host-{name}" if self.secure else name

    def answers_to(self, host: str) -> bool:
        """Whether a Host header names this console."""
        return local(host) or (bool(self.url) and host.lower() == urlsplit(self.url).netloc.lower())

    def own(self, origin: str, host: str) -> bool:
        """Whether an Origin header is that of this console's own pages."""
        if self.url and origin.lower() == self.url.rstrip("/").lower():
            return True
        return local(host) and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
