"""Web sessions: they end by themselves, and are touched while somebody is there.

    python examples/logins.py [HOST:PORT]

prints, in about seven seconds

    alice is logged in
    alice is still logged in
    alice has to log in again: expired
"""

import secrets
import sys
import time
from datetime import timedelta

import everwrite

TTL = timedelta(seconds=4)  # a site would take half an hour


def visit(logins: everwrite.Bucket, cookie: str) -> everwrite.Found:
    """One request of a browser: who is it, and shall the login live on?"""
    found = logins.get(cookie)
    # The cluster's clock says how much is left, not ours. At half of it one write is enough.
    if found and found.expires_in is not None and found.expires_in < TTL / 2:
        logins.touch(cookie)
    return found


def main() -> None:
    where = sys.argv[1:]
    with everwrite.connect_sync(where) if where else everwrite.open(None, engine="memory") as db:
        logins = db.bucket("logins", ttl=TTL)
        cookie = secrets.token_urlsafe()
        logins.put(cookie, {"user": "alice"})
        print(visit(logins, cookie).value["user"], "is logged in")

        time.sleep(2.5)
        visit(logins, cookie)  # touches
        time.sleep(2)
        found = logins.get(cookie)
        print(found.value["user"], "is still logged in")

        time.sleep(found.expires_in.total_seconds() + 0.1)
        print("alice has to log in again:", visit(logins, cookie).quality.absent)


if __name__ == "__main__":
    main()
