"""Who may ask: the secret where there is one, and never a page of another origin.

A node without a secret listens on loopback only. But every page that a browser on this machine
shows can send requests there, and one whose name was made to point to 127.0.0.1 can read the
answers too (DNS rebinding). So such a node answers only to the names of this machine, and no node
answers what a browser says comes from somewhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hmac import compare_digest

from everwrite.core.errors import DeniedError
from everwrite.server.http.problems import Refusal, without_secret
from everwrite.server.settings import is_loopback

OPEN_PATHS = (b"/health/live", b"/health/ready")
"""They say one bit, and those who ask for it (balancers, supervisors) hold no secrets."""

PAGES = b"/ui/"
"""The files of the dashboard: what is in every wheel. A link on any page may lead there, and who
follows it gives the secret there."""

HOSTS_MAX = 256


class Guard:
    """The guard of one node; ``names`` are hosts by which it is known beside loopback."""

    def __init__(self, secret: bytes, names: Collection[str]) -> None:
        self._secret = secret
        self._names = {name.lower() for name in names if name}
        self._known: set[bytes] = set()
        """Host headers that were looked at and found good."""

    def check(self, path: bytes, headers: Mapping[bytes, bytes]) -> None:
        """Raise a Refusal if this request is not to be answered."""
        host = headers.get(b"host", b"")
        if not self._secret and host not in self._known:
            self._check_host(host)
        is_page = path.startswith(PAGES) or path == PAGES[:-1]
        if is_page and headers.get(b"sec-fetch-mode") == b"navigate":
            return
        origin = headers.get(b"origin")
        if origin is not None and not _same(origin, host):
            raise _foreign(origin)
        site = headers.get(b"sec-fetch-site")
        if site is not None and site not in (b"same-origin", b"none"):
            raise _foreign(site)
        if self._secret and not is_page and path not in OPEN_PATHS:
            given = headers.get(b"authorization", b"")
            scheme, _, secret = given.partition(b" ")
            if not compare_digest(secret, self._secret) or scheme.lower() != b"bearer":
                raise without_secret(bool(given))

    def _check_host(self, host: bytes) -> None:
        name = host_in(host)
        if not is_loopback(name) and name not in self._names:
            raise Refusal(
                421,
                DeniedError(
                    f"This node does not answer to the name {name[:128]!r}.",
                    hint="It has no secret, so it answers only to names of its own machine, such "
                    "as 127.0.0.1 and localhost. With EVERWRITE_SECRET set it has any name.",
                ),
            )
        if len(self._known) < HOSTS_MAX:
            self._known.add(host)


def host_in(host: bytes) -> str:
    """Return the name in a Host header, without its port and brackets."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _same(origin: bytes, host: bytes) -> bool:
    return bool(host) and origin.lower() in (b"http://" + host.lower(), b"https://" + host.lower())


def _foreign(origin: bytes) -> Refusal:
    text = origin.decode("latin-1")[:128]
    return Refusal(
        403,
        DeniedError(
            f"A page of another origin ({text}) may not ask this node.",
            hint="Nothing was done. Ask from a program, or from a page that comes from this node.",
        ),
    )
