"""A browser without a window: somebody signed in to the console of a workspace, in this process."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

from treadle.access import links, people
from treadle.assemble import Workspace
from treadle.cli.served import check
from treadle.web.console.app import make_app

HERE = "http://127.0.0.1"


class Browser(TestClient):
    """Somebody signed in. `csrf` is the word that the forms of the session carry."""

    csrf = ""

    def fill(self, path: str, **fields: Any) -> Any:
        """Send a form as the page's own form does; the answer is not followed."""
        return self.post(path, data={"csrf": self.csrf, **fields}, headers={"origin": HERE}, follow_redirects=False)

    def tell(self, path: str, **fields: Any) -> Any:
        """Call the API with a JSON body."""
        return self.post(path, json=fields, headers={"x-csrf-token": self.csrf})


def signed_in(ws: Workspace, name: str = "ann.admin", *roles: str) -> Browser:
    """A browser in which this person has signed in; made, as an administrator if no role is named, if there is no such person."""
    if people.find_person(name, ws.ledger) is None:
        people.add_person(name, ws.ledger, ws.clock, actor="a test", roles=roles or ["administrator"])
    client = Browser(make_app(ws, check=check), base_url=HERE)
    key = links.make_link(name, ws.ledger, ws.clock, actor="a test")
    answer = client.get(f"/sign-in/link?key={key}&next=/you", follow_redirects=False)
    assert answer.status_code == 303, answer.text
    client.csrf = client.get("/you").text.split('name="csrf" value="')[1].split('"')[0]
    return client
