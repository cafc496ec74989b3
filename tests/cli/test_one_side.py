"""What one node sees of a cut, and numbers of nodes: the same words on every way in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import httpx
import pytest
from tests.cli.commands import everwrite as run

import everwrite
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.exits import Exit

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    with DevCluster.create(tmp_path_factory.mktemp("dev"), nodes=3, fsync=True) as cluster:
        asyncio.run(cluster.start())
        yield cluster


def test_more_may_have_to_fsync_a_write_than_to_have_it(cluster: DevCluster) -> None:
    url, http = cluster.addresses[0], f"{cluster.node(1).http}/v1/kv/side"
    with everwrite.connect_sync(url) as db:
        durable = db.bucket("side").put("python", "tea", w=1, dw=3).durable
    shell = run("put", "side", "shell", "tea", "--w", "1", "--dw", "3", "--url", url, "-o", "json")
    web = httpx.put(f"{http}/web?w=1&dw=3", content=b"tea", trust_env=False)

    assert durable == shell.json()["durable"] == int(web.headers["durable"]) == 3


def test_more_than_there_are_copies_is_refused_everywhere_in_the_same_words(
    cluster: DevCluster,
) -> None:
    url, http = cluster.addresses[0], f"{cluster.node(1).http}/v1/kv/side"
    with everwrite.connect_sync(url) as db, pytest.raises(everwrite.RequestError) as caught:
        db.bucket("side").put("python", "tea", w=1, dw=4)
    shell = run("put", "side", "shell", "tea", "--w", "1", "--dw", "4", "--url", url)
    web = httpx.put(f"{http}/web?w=1&dw=4", content=b"tea", trust_env=False).json()

    assert caught.value.message == web["detail"] == "dw = 4 is not possible with n = 3."
    assert web["detail"] in shell.err
    assert caught.value.outcome == web["outcome"] == "none"
    assert "The write has not happened." in shell.err


def test_one_side_of_a_cut_is_seen_over_http_and_by_explain(cluster: DevCluster) -> None:
    """As `cluster partition --help` says; a client itself goes round the cut."""
    url = cluster.addresses[0]
    asyncio.run(cluster.partition("1|2,3"))
    try:
        here, there = (f"{cluster.node(number).http}/v1/kv/side/k" for number in (1, 2))
        put = httpx.put(here, params={"w": "1"}, content=b"tea", trust_env=False)
        seen = httpx.get(here, params={"r": "1"}, trust_env=False)
        unseen = httpx.get(there, trust_env=False)
        explained = run("explain", "side", "k", "--url", url)
        with everwrite.connect_sync(cluster.addresses[1]) as db:
            round_the_cut = {each.node: each.values for each in db.replicas("side", "k")}
    finally:
        asyncio.run(cluster.heal())

    assert (put.status_code, seen.status_code, unseen.status_code) == (204, 200, 404)
    assert "asked n1" in explained.out
    silent = re.search("No answer from (.*): what they have", explained.out)
    assert silent is not None and set(silent[1].split(", ")) == {"n2", "n3"}, explained.out
    assert explained.code == Exit.DEGRADED
    assert round_the_cut == {"n1": [b"tea"], "n2": [], "n3": []}
