"""Real client libraries, each in an environment of its own, against three nodes (make clients).

A script beside this file does what users of a library do and prints what failed. All of them, two
at a time, have one cluster, and each a database of its own. What needs an environment, or a program
of Debian's, that is not there is skipped, and named.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

import pytest
from tests.clients import environments

from everwrite.cli.devcluster import DevCluster
from everwrite.client.sync import new_loop

pytestmark = [pytest.mark.clients, pytest.mark.process, pytest.mark.timeout(120)]

HERE = Path(__file__).parent
SCRIPT_S = 60.0
AT_A_TIME = 2
RUNS = [
    ("redis8", "use_redis"),
    ("redis5", "use_redis"),
    ("redis8", "use_redis_asyncio"),
    ("redis5", "use_redis_asyncio"),
    ("django", "use_django"),
    ("django", "use_django_redis"),
    ("flask", "use_flask_session"),
    ("flask", "use_cachelib"),
    ("aiocache", "use_aiocache"),
    ("fastapi", "use_fastapi_cache"),
    ("limits", "use_limits"),
    ("starsessions", "use_starsessions"),
    ("redis8", "use_redis_pubsub"),
    ("redis5", "use_redis_pubsub"),
]
"""Environment and script; the place in this list is the database."""

FOR_A_KILL = 14
FOR_PROGRAMS = 15
KILLED = "use_killed_node"
WORKS = "test_a_client_works_as_its_users_expect"


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not environments.is_made(name), reason=f"needs the environment {name!r} of `make clients`"
    )


def command(cluster: DevCluster, environment: str, script: str, database: int) -> list[str]:
    ports = [node.redis.rpartition(":")[2] for node in cluster.nodes]
    python = str(environments.python_of(environment))
    return [python, "-u", str(HERE / f"{script}.py"), str(database), *ports]


def bare() -> dict[str, str]:
    """Return an environment in which a script finds its own packages only."""
    ours = ("PYTHON", "EVERWRITE_", "VIRTUAL_ENV")
    return {name: text for name, text in os.environ.items() if not name.startswith(ours)}


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env=bare(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=SCRIPT_S,
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    directory = tmp_path_factory.mktemp("clients") / "cluster"
    with DevCluster.create(directory, nodes=3, fsync=False, partitions=64) as made:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(made.start())
        yield made


Started = dict[tuple[str, str], "Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture(scope="module")
def started(cluster: DevCluster, request: pytest.FixtureRequest) -> Iterator[Started]:
    """Start the scripts that were asked for; each test waits for its own."""
    chosen = {item.name for item in request.session.items}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {
            which: pool.submit(run, command(cluster, *which, number))
            for number, which in enumerate(RUNS)
            if environments.is_made(which[0]) and f"{WORKS}[{'-'.join(which)}]" in chosen
        }


@pytest.mark.parametrize(
    "which", [pytest.param(each, id="-".join(each), marks=needs(each[0])) for each in RUNS]
)
def test_a_client_works_as_its_users_expect(which: tuple[str, str], started: Started) -> None:
    ended = started[which].result()

    assert ended.returncode == 0, f"{which}\n{ended.stdout}"
    assert re.search(r"^Ran [1-9]\d* tests? in", ended.stdout, re.MULTILINE)


def test_every_script_is_run_and_every_environment_is_used() -> None:
    scripts = {path.stem for path in HERE.glob("use_*.py")}

    assert scripts == {script for _, script in RUNS} | {KILLED}
    assert set(environments.NAMES) == {environment for environment, _ in RUNS}
    assert len(RUNS) <= FOR_A_KILL


def test_every_block_of_the_page_is_run() -> None:
    page = (HERE.parents[1] / "docs/recipes.md").read_text()
    recipes = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).*\n)*?```python$", page, re.MULTILINE)
    scripts = "".join(path.read_text() for path in HERE.glob("use_*.py"))

    assert len(recipes) == page.count("```python") >= 10
    assert [name for name in recipes if f'checks.recipe("{name}")' not in scripts] == []


# -- Debian's programs -----------------------------------------------------------------------------

# With the others only: a cluster is started for all of them, and `make test` need not wait for it.
TOOLS = all(map(shutil.which, ["redis-cli", "redis-benchmark"])) and environments.is_made("redis8")
programs = pytest.mark.skipif(not TOOLS, reason="needs Debian's redis-tools, and `make clients`")


def cli(cluster: DevCluster, node: int, *words: str, stdin: str = "") -> str:
    """Run redis-cli on one node; return what it prints."""
    host, _, port = cluster.node(node).redis.rpartition(":")
    ended = subprocess.run(
        ["redis-cli", "-e", "-h", host, "-p", port, "-n", str(FOR_PROGRAMS), *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=SCRIPT_S,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@programs
def test_redis_cli(cluster: DevCluster) -> None:
    assert cli(cluster, 1, "set", "cart", "tea", "ex", "100") == "OK\n"
    assert cli(cluster, 1, "-3", "hset", "user", "name", "bob", "age", "7") == "2\n"
    assert cli(cluster, 1, "get", "cart") == "tea\n"
    assert cli(cluster, 1, "--no-raw", "-3", "hgetall", "user") == (
        '1# "age" => "7"\n2# "name" => "bob"\n'
    )
    assert cli(cluster, 1, "--no-raw", stdin="multi\nincr n\nget n\nexec\n").endswith(
        '1) (integer) 1\n2) "1"\n'
    )
    mass = "".join(f"SET many:{number} {number}\r\n" for number in range(300))
    assert "errors: 0, replies: 300" in cli(cluster, 2, "--pipe", stdin=mass)
    names = cli(cluster, 2, "--scan", "--pattern", "many:*").split()
    assert set(names) == {f"many:{number}" for number in range(300)}
    assert "302 strings" in cli(cluster, 2, "--bigkeys")


@programs
def test_redis_benchmark(cluster: DevCluster) -> None:
    host, _, port = cluster.node(3).redis.rpartition(":")
    kinds = "ping,set,get,incr,sadd,hset,mset"
    where = ["-h", host, "-p", port, "--dbnum", str(FOR_PROGRAMS)]
    ended = subprocess.run(
        ["redis-benchmark", *where, "-t", kinds, "-n", "1000", "-c", "10", "-P", "4", "--csv"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SCRIPT_S,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "rror" not in ended.stdout + ended.stderr, ended.stdout + ended.stderr
    rates = dict(re.findall(r'^"(\w+)[^"]*","([\d.]+)"', ended.stdout, re.MULTILINE))
    assert {"PING_MBULK", "SET", "GET", "INCR", "SADD", "HSET", "MSET"} <= set(rates)
    assert all(float(rate) > 0 for rate in rates.values())


# -- last, as a node is gone afterwards ------------------------------------------------------------


@needs("redis8")
def test_no_command_fails_when_a_node_is_killed(cluster: DevCluster) -> None:
    words = command(cluster, "redis8", KILLED, FOR_A_KILL)
    with subprocess.Popen(
        words, env=bare(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as script:  # fmt: skip
        assert script.stdin is not None and script.stdout is not None
        try:
            said = list(takewhile(lambda line: line != "ready\n", script.stdout))
            cluster.kill(3)
            rest, _ = script.communicate("killed\n", timeout=SCRIPT_S)
        finally:
            script.kill()

    assert script.returncode == 0, "".join(said) + rest
    assert "Ran 2 tests" in rest
