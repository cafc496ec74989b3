"""What one node of three can still do, and whether the hints about that can be followed."""

from __future__ import annotations

import asyncio
import json
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from tests.cli.commands import everwrite as run

import everwrite
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.exits import Exit

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Three nodes, of which the last one runs; each key was put while all did."""
    with DevCluster.create(tmp_path_factory.mktemp("dev"), nodes=3, fsync=False) as cluster:
        asyncio.run(cluster.start())
        with everwrite.connect_sync(cluster.addresses[0]) as db:
            for key in ("cli", "http", "word", "python"):
                db.bucket("few").put(key, "tea", w=3)
        cluster.kill(1)
        cluster.kill(2)
        yield cluster


def ask(url: str, method: str, context: str = "") -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body."""
    headers = {"Causal-Context": context} if context else {}
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_the_hint_of_a_delete_that_cannot_read_can_be_followed(cluster: DevCluster) -> None:
    url = cluster.addresses[2]
    numbers = ("--w", "1", "--dw", "0", "--n", "3")
    refused = run("delete", "few", "cli", *numbers, "--strict", "--url", url)
    assert refused.code == Exit.DEGRADED
    look, _, then = refused.err.partition("need not: ")[2].partition(" and then ")
    assert "--n 3 --strict" in look and "--n 3 --strict" in then
    assert "--w 1 --dw 0" in then

    found = run(*shlex.split(look)[1:], "-o", "json")
    context = found.json()["context"]
    deleted = run(*shlex.split(then.replace("CONTEXT", context))[1:])

    assert deleted.code == Exit.OK, deleted.err
    assert run("get", "few", "cli", "--r", "1", "--url", url).code == Exit.ERROR


def test_the_same_in_python(cluster: DevCluster) -> None:
    with everwrite.connect_sync(cluster.addresses[2]) as db:
        few = db.bucket("few")
        with pytest.raises(everwrite.QuorumNotMet, match=r"get\(key, r=1\)") as caught:
            few.delete("python", w=1)

        assert caught.value.outcome == "none"
        assert few.delete("python", w=1, context=few.get("python", r=1).context).owners == 1


def test_the_same_over_http(cluster: DevCluster) -> None:
    url = f"{cluster.node(3).http}/v1/kv/few"
    status, _, body = ask(f"{url}/http?w=1", "DELETE")
    assert status == 503
    assert "GET with r=1" in json.loads(body)["hint"]

    context = ask(f"{url}/http?r=1", "GET")[1]["causal-context"]

    assert ask(f"{url}/http?w=1", "DELETE", context)[0] == 204
    assert ask(f"{url}/word?consistency=one", "DELETE")[0] == 204


def test_who_asks_for_more_fsyncs_than_there_are_nodes_is_told_so(cluster: DevCluster) -> None:
    url = cluster.addresses[2]
    few = run("put", "few", "fsync", "tea", "--w", "1", "--dw", "2", "--url", url)
    enough = run("put", "few", "fsync", "tea", "--w", "1", "--dw", "1", "--url", url)

    assert few.code == Exit.DEGRADED
    assert "Only 1 of the 2 nodes that must fsync this write can be reached." in few.err
    assert "with a smaller dw" in few.err
    assert enough.code == Exit.OK
