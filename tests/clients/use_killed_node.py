"""redis-py while a node dies under it: no command fails that may be retried once, nothing is lost.

Half of the clients know one node that lives. The others were given one name for all nodes: it has
three addresses, and the node of the first is the one that is killed. One of them is made as the
page tells. The script says "ready" when all are at work, and goes on once somebody has killed the
node and says so.
"""

from __future__ import annotations

import socket
import sys
import threading

import checks
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

NAME = "everwrite.internal"
CLIENTS = 6
BEFORE, AFTER = 20, 80

real = socket.getaddrinfo


def with_a_name(host: object, *rest: object, **more: object) -> object:
    """Answer as a name server does that knows all nodes; here they differ in their ports."""
    if host != NAME:
        return real(host, *rest, **more)
    return [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        for port in (checks.PORTS[2], checks.PORTS[0], checks.PORTS[1])
    ]


socket.getaddrinfo = with_a_name


def client(number: int) -> redis.Redis:
    """Return the page's client, or one that makes one retry of whatever failed."""
    if number == CLIENTS - 1:
        return checks.recipe("All nodes under one name")["r"]
    host, port = (NAME, 7500) if number % 2 else ("127.0.0.1", checks.PORTS[number % 4 // 2])
    return redis.Redis(
        host=host,
        port=port,
        db=checks.DATABASE,
        socket_timeout=10,
        retry=Retry(ConstantBackoff(2.0), 1),  # when whoever a busy machine held up is back
        retry_on_error=[redis.RedisError],
    )


def check_a_kill_fails_no_command_after_one_retry() -> None:
    ready, killed = threading.Barrier(CLIENTS + 1), threading.Event()
    failures: list[str] = []
    done: list[int] = []

    def work(number: int) -> None:
        with client(number) as r:
            for at in range(BEFORE + AFTER):
                key = f"{number}:{at % 10}"
                try:
                    assert r.set(key, at, ex=1000)
                    found = r.get(key)
                    assert found == b"%d" % at, f"{found!r} under {key}, not {at}"
                    r.incr("all")
                except (AssertionError, redis.RedisError) as error:
                    failures.append(f"client {number}, round {at}: {error!r}")
                if at == BEFORE:
                    ready.wait()
                    killed.wait()
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    ready.wait()
    print("\nready", flush=True)
    assert sys.stdin.readline() == "killed\n"
    killed.set()
    for thread in threads:
        thread.join()

    assert not failures, "\n".join(failures)
    assert sorted(done) == list(range(CLIENTS))
    with client(0) as r:
        # An increment whose answer was lost is retried, and may then count twice.
        assert CLIENTS * (BEFORE + AFTER) <= int(r.get("all")) <= CLIENTS * (BEFORE + AFTER + 1)
        for number in range(CLIENTS):
            last = [b"%d" % at for at in range(BEFORE + AFTER - 10, BEFORE + AFTER)]
            keys = [f"{number}:{at}" for at in range(10)]
            checks.seen(lambda keys=keys: r.mget(keys), last)


def check_the_name_leads_to_a_node_that_lives() -> None:
    with client(1) as r:
        assert r.ping()
        connection = r.connection_pool.get_connection()
        assert connection._sock.getpeername()[1] in checks.PORTS[:2]
        r.connection_pool.release(connection)


checks.run(globals())
