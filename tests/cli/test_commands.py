"""The commands against three real nodes, as a new user tries them."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.cli.commands import Ended, everwrite

from everwrite.cli.connection import DEFAULT_PORT
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.devplan import find_base_port, port_is_free
from everwrite.cli.exits import Exit
from everwrite.core.data.base64url import decode64

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Three nodes; each test uses keys of its own and leaves all nodes up."""
    with DevCluster.create(tmp_path_factory.mktemp("dev"), nodes=3, fsync=False) as cluster:
        asyncio.run(cluster.start())
        yield cluster


@pytest.fixture
def url(cluster: DevCluster) -> str:
    return cluster.addresses[0]


@pytest.fixture
def key() -> str:
    return uuid4().hex


def get(key: str, url: str, *more: str) -> Ended:
    return everwrite("get", "things", key, "--url", url, *more)


def put(key: str, value: str, url: str, *more: str, stdin: bytes = b"") -> Ended:
    return everwrite("put", "things", key, value, "--url", url, *more, stdin=stdin)


def test_what_is_put_is_got_as_it_was(key: str, url: str) -> None:
    assert put(key, "tea", url).code == Exit.OK

    found = get(key, url)

    assert found.code == Exit.OK
    assert found.out == "tea"
    assert found.err.startswith("\nanswered by 2 owners")


def test_any_node_can_be_asked(key: str, cluster: DevCluster) -> None:
    put(key, "tea", cluster.addresses[1])

    assert get(key, cluster.addresses[2]).out == "tea"
    assert get(key, f"127.0.0.1:1,{cluster.addresses[0]}").out == "tea"


def test_a_value_can_come_from_standard_input(key: str, url: str) -> None:
    assert put(key, "-", url, stdin=b"\xff\x00\n").code == Exit.OK

    found = get(key, url, "-o", "json").json()

    assert found["kinds"] == ["bytes"]
    assert base64.b64decode(found["values"][0]["base64"]) == b"\xff\x00\n"


def test_a_forgotten_value_stores_nothing_but_an_empty_one_can_be_meant(key: str, url: str) -> None:
    forgotten = everwrite("put", "things", key, "--url", url)

    assert forgotten.code == Exit.USAGE
    assert "Give a VALUE, or -" in forgotten.err
    assert get(key, url).code == Exit.ERROR
    assert everwrite("put", "things", key, "--url", url, stdin=b"tea").code == Exit.OK
    assert put(f"{key}-2", "-", url).code == Exit.OK
    assert get(f"{key}-2", url, "-o", "json").json()["values"] == [""]


def test_json_and_text_come_back_as_json_says_them(key: str, url: str) -> None:
    put(key, '{"tea": 2}', url, "--kind", "json")

    found = get(key, url, "-o", "json").json()

    assert (found["values"], found["kinds"]) == ([{"tea": 2}], ["json"])
    assert json.loads(get(key, url).out) == {"tea": 2}


def test_a_key_that_was_never_written_is_exit_code_1_and_says_so(key: str, url: str) -> None:
    found = get(key, url)

    assert (found.code, found.out) == (Exit.ERROR, "")
    assert f"not found: things/{key} was never written" in found.err
    assert get(key, url, "-o", "json").json()["quality"]["absent"] == "never"


def test_siblings_are_all_shown_and_the_context_settles_them(key: str, url: str) -> None:
    put(key, "tea", url)
    second = put(key, "jam", url)
    assert "2 siblings" in second.err

    found = get(key, url)
    assert "--- sibling 1 of 2\n" in found.out
    assert {"tea", "jam"} <= set(found.out.splitlines())
    context = get(key, url, "-o", "json").json()["context"]
    assert context in found.err
    assert put(key, "tea and jam", url, "--context", context).code == Exit.OK

    assert get(key, url).out == "tea and jam"


def test_a_context_may_come_from_http_or_an_older_build(key: str, url: str) -> None:
    for value in ("tea", "jam"):
        put(key, "last", url)
        context = get(key, url, "-o", "json").json()["context"]
        assert "=" not in context
        plain = base64.b64encode(decode64(context.encode())).decode()
        said = context if value == "tea" else plain
        assert put(key, value, url, "--context", said).code == Exit.OK
        assert get(key, url).out == value


def test_a_delete_takes_what_is_there_and_says_what_was_not(key: str, url: str) -> None:
    assert everwrite("delete", "things", key, "--url", url).code == Exit.ERROR
    put(key, "tea", url)

    assert everwrite("delete", "things", key, "--url", url).code == Exit.OK

    found = get(key, url)
    assert found.code == Exit.ERROR
    assert "was deleted" in found.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["put", "things", "k" * 1025, "v"], "1024"),
        (["put", "things", "k", "v" * ((1 << 20) + 1)], "1048576"),
        (["put", "thi\x07ngs", "k", "v"], "control characters"),
        (["put", "b" * 129, "k", "v"], "Use a short name for many keys"),
        (["plan", "weight", "n2", "0"], "weight"),
        (["plan", "leave", "n9"], "n9"),
        (["put", "things", "", "v"], "key is empty"),
        (["put", "things", "k", "{", "--kind", "json"], "not JSON"),
        (["get", "things", "k", "--r", "4"], "4"),
        (["get", "things", "k", "--n", "4"], "4"),
        (["put", "things", "k", "v", "--w", "4"], "4"),
        (["put", "things", "k", "v", "--context", "AAAA"], "context"),
    ],
)
def test_bad_input_is_refused_with_a_reason_and_a_hint(
    arguments: list[str], says: str, url: str
) -> None:
    ended = everwrite(*arguments, "--url", url)

    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert "error: " in ended.err
    assert says in ended.err


def test_a_context_of_another_key_is_refused_and_changes_nothing(key: str, url: str) -> None:
    put(key, "tea", url)
    put(f"{key}-2", "jam", url)
    context = get(key, url, "-o", "json").json()["context"]

    ended = put(f"{key}-2", "honey", url, "--context", context)

    assert ended.code == Exit.USAGE
    assert "context" in ended.err
    assert "The write has not happened." in ended.err
    assert get(f"{key}-2", url).out == "jam"


def test_a_node_that_is_not_there_is_exit_code_4() -> None:
    port = find_base_port(1)

    for arguments in (["get", "a", "b"], ["put", "a", "b", "c"], ["status"], ["ring"], ["hints"]):
        ended = everwrite(*arguments, "--url", f"127.0.0.1:{port}")
        assert ("The write has not happened." in ended.err) == (arguments[0] == "put")
        assert (ended.code, ended.out) == (Exit.UNREACHABLE, "")
        assert f"127.0.0.1:{port}" in ended.err


def test_the_http_port_of_a_node_reaches_no_node_and_is_named(url: str) -> None:
    host, _, port = url.rpartition(":")

    for arguments in (["get", "a", "b"], ["status"]):
        ended = everwrite(*arguments, "--url", f"{host}:{int(port) + 200}")
        assert ended.code == Exit.UNREACHABLE
        assert "That is the HTTP port of an Everwrite node" in ended.err
        assert "Is the cluster running" not in ended.err


def test_without_a_url_the_hint_names_where_a_development_cluster_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EVERWRITE_URL", raising=False)
    if not port_is_free(DEFAULT_PORT):
        pytest.skip(f"something listens on {DEFAULT_PORT}")

    ended = everwrite("get", "a", "b")
    chosen = everwrite("get", "a", "b", "--url", f"127.0.0.1:{DEFAULT_PORT}")

    assert (ended.code, chosen.code) == (Exit.UNREACHABLE, Exit.UNREACHABLE)
    assert "listens from 7401: set EVERWRITE_URL or --url" in ended.err
    assert "7401" not in chosen.err


def test_the_url_may_come_from_the_environment(
    key: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERWRITE_URL", url)

    assert everwrite("put", "things", key, "tea").code == Exit.OK


def test_status_is_one_verdict_and_a_line_for_each_node(url: str) -> None:
    ended = everwrite("status", "--url", url)

    verdict, *lines = ended.out.splitlines()
    assert ended.code == Exit.OK
    assert verdict.startswith("HEALTHY: 3 of 3 nodes up")
    states = [line.split()[:2] for line in lines]
    assert [line for line in states if "up" in line] == [[n, "up"] for n in ("n1", "n2", "n3")]
    assert everwrite("status", "--url", url, "-o", "json").json()["healthy"] is True


def test_a_dead_node_makes_the_cluster_degraded_and_its_hints_are_shown(
    cluster: DevCluster, url: str
) -> None:
    cluster.kill(3)
    try:
        for number in range(20):
            assert put(f"hinted-{number}", "tea", url).code == Exit.OK

        status = everwrite("status", "--url", url)
        hints = everwrite("hints", "--url", url, "-o", "json").json()

        assert status.code == Exit.DEGRADED
        assert status.out.startswith("DEGRADED: n3 at ")
        assert hints["silent"] == ["n3"]
        kept = [each for holder in hints["holders"].values() for each in holder["targets"]]
        assert {each["owner"] for each in kept} == {"n3"}
        assert sum(each["notes"] for each in kept) == hints["waiting"] >= 20
        assert sum(each["bytes"] for each in kept) == hints["bytes"] > 20 * 40
        assert {each["waits_for"] for each in kept} == {"the node, which is not up"}
    finally:
        asyncio.run(cluster.restart(3))


def test_a_value_over_the_limit_says_how_large_it_is_where_that_is_known(
    key: str, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"v" * 5_000_000)

    piped = put(key, "-", url, stdin=b"v" * 5_000_000)
    with file.open() as large:
        done = subprocess.run(
            [sys.executable, "-m", "everwrite", "put", "things", key, "--url", url],
            stdin=large,
            check=False,
            capture_output=True,
            text=True,
        )

    assert (piped.code, done.returncode) == (Exit.USAGE, Exit.USAGE)
    assert "The value has more than 1,048,576 bytes; the most is 1,048,576." in piped.err
    assert "The value has 5,000,000 bytes" in done.stderr
    assert get(key, url).code == Exit.ERROR


def test_nodes_that_are_silent_are_exit_code_5_and_nothing_is_written(
    cluster: DevCluster, key: str, url: str
) -> None:
    for number in (1, 2, 3):
        cluster.pause(number)
    try:
        written = put(key, "tea", url, "--timeout", "1")
        read = get(key, url, "--timeout", "1")
    finally:
        for number in (1, 2, 3):
            asyncio.run(cluster.resume(number))

    assert (written.code, read.code) == (Exit.TIMED_OUT, Exit.TIMED_OUT)
    assert "The write has not happened." in written.err
    assert "The write" not in read.err
    for ended in (written, read):
        assert "--timeout" in ended.err
        assert "timeout=" not in ended.err


def test_an_absence_that_not_every_owner_could_confirm_is_exit_code_3(
    cluster: DevCluster, key: str, url: str
) -> None:
    cluster.kill(2)
    cluster.kill(3)
    try:
        ended = get(key, cluster.addresses[0], "--r", "1")
        deleted = everwrite("delete", "things", key, "--url", url, "--w", "1", "--timeout", "2")
    finally:
        asyncio.run(cluster.restart(2))
        asyncio.run(cluster.restart(3))

    assert ended.code == Exit.DEGRADED
    assert "not every owner could say" in ended.err
    assert deleted.code != Exit.OK


def test_too_few_nodes_for_w_is_exit_code_3_and_says_what_became_of_the_write(
    cluster: DevCluster, key: str, url: str
) -> None:
    cluster.kill(3)
    try:
        ended = put(key, "tea", url, "--w", "3", "--timeout", "1")

        assert ended.code in {Exit.DEGRADED, Exit.TIMED_OUT}
        assert "The write " in ended.err
    finally:
        asyncio.run(cluster.restart(3))


def test_ring_shares_add_up_to_all_copies(url: str) -> None:
    ring = everwrite("ring", "--url", url, "-o", "json").json()

    assert sum(node["owned"] for node in ring["nodes"]) == 3 * ring["partitions"]
    table = everwrite("ring", "--url", url).out
    assert table.startswith("256 partitions, 3 replicas")
    assert [line.split()[:2] for line in table.splitlines()[3:]] == [
        ["n1", "up"],
        ["n2", "up"],
        ["n3", "up"],
    ]


def test_locate_shows_the_preference_list(key: str, url: str) -> None:
    ended = everwrite("locate", "things", key, "--url", url)

    rows = [line.split() for line in ended.out.splitlines()[3:]]
    assert [row[:2] for row in rows] == [["1", "owner"], ["2", "owner"], ["3", "owner"]]
    assert {row[2] for row in rows} == {"n1", "n2", "n3"}
    assert "SERVES" in ended.out
    assert "HAS COPIES" not in ended.out


def test_explain_shows_each_copy_and_what_a_get_answers(key: str, url: str) -> None:
    put(key, "tea", url, "--w", "3")

    ended = everwrite("explain", "things", key, "--url", url)
    told = everwrite("explain", "things", key, "--url", url, "-o", "json").json()

    assert ended.code == Exit.OK
    assert ended.out.count("own copy") == 3
    assert "Nothing to repair" in ended.out
    assert told["read"]["certain"]
    assert "tea" not in ended.out


def test_explain_says_by_its_exit_code_that_a_get_would_fail(key: str, url: str) -> None:
    assert everwrite("explain", "things", key, "--r", "4", "--url", url).code == Exit.USAGE
    nothing = everwrite("explain", "things", key, "--url", url)
    assert (nothing.code, "absent (never)" in nothing.out) == (Exit.OK, True)


def test_a_development_cluster_lives_from_start_to_stop_by_commands(tmp_path: Path) -> None:
    there = ["--dir", str(tmp_path / "dev")]

    def cluster(*arguments: str) -> Ended:
        return everwrite("cluster", *arguments, *there)

    try:
        started = cluster("start", "--nodes", "3", "--base-port", "0", "--fsync", "off")
        assert started.code == Exit.OK
        assert len(started.out.splitlines()) == 3
        assert "starting 3 nodes: this takes some seconds" in started.err
        assert "running already" in cluster("start").err
        assert cluster("start", "--nodes", "4").code == Exit.USAGE
        assert cluster("status").code == Exit.OK
        assert cluster("kill", "B").code == Exit.OK
        again = cluster("kill", "2")
        assert again.code == Exit.ERROR
        assert f"cluster status --dir {tmp_path / 'dev'}\n" in again.err
        assert cluster("kill", "7").code == Exit.USAGE
        degraded = cluster("status")
        assert degraded.code == Exit.DEGRADED
        assert degraded.out.startswith("DEGRADED: 2 of 3 nodes up; n2 is not running")
        assert cluster("restart", "2").code == Exit.OK
        assert cluster("pause", "n3").code == Exit.OK
        assert "paused" in cluster("status").out
        assert cluster("resume", "3").code == Exit.OK
        assert cluster("partition", "A,B>C").code == Exit.OK
        cut = cluster("status").out
        assert cut.startswith("DEGRADED: 3 of 3 nodes up")
        assert "links are cut" in cut
        assert "partition: A,B>C" in cut
        assert cluster("heal").code == Exit.OK
    finally:
        stopped = cluster("stop")
    assert (stopped.code, stopped.err) == (Exit.OK, "stopped 3 nodes\n")
    assert cluster("stop").err == "no node was running\n"
    for arguments in (["heal"], ["partition", "A|B"]):
        ended = cluster(*arguments)
        assert ended.code == Exit.UNREACHABLE
        assert "No node of the cluster in" in ended.err


def test_a_value_with_a_ttl_says_when_it_ends_and_is_gone_then(key: str, url: str) -> None:
    stored = put(key, "tea", url, "--ttl", "6s")
    found = get(key, url, "-o", "json").json()
    while (ended := get(key, url)).code == Exit.OK:
        assert "ends at " in ended.err

    assert "ends at " in stored.err
    assert found["expires"].endswith("Z")
    assert ended.code == Exit.ERROR
    assert f"things/{key} has ended" in ended.err
    assert get(key, url, "-o", "json").json()["quality"]["absent"] == "expired"


def test_a_touch_lets_it_live_longer_and_never_shorter(key: str, url: str) -> None:
    put(key, "tea", url, "--ttl", "1h")
    before = get(key, url, "-o", "json").json()

    def touch(ttl: str) -> str:
        ended = everwrite("touch", "things", key, ttl, "--url", url, "-o", "json")
        assert (ended.code, ended.json()["outcome"]) == (Exit.OK, "touched")
        return str(ended.json()["expires"])

    later, same = touch("2h"), touch("5m")
    after = get(key, url, "-o", "json").json()

    assert before["expires"] < later == same == after["expires"]
    assert (after["values"], before["values"]) == (["tea"], ["tea"])


def test_a_touch_of_what_has_no_end_or_is_not_there_says_so(key: str, url: str) -> None:
    put(key, "tea", url)

    kept = everwrite("touch", "things", key, "1h", "--url", url)
    absent = everwrite("touch", "things", f"{key}-2", "1h", "--url", url)

    assert kept.code == Exit.OK
    assert "left as it was: it has no end" in kept.err
    assert "touched" not in kept.err
    assert get(key, url, "-o", "json").json()["expires"] is None
    assert (absent.code, absent.out) == (Exit.ERROR, "")
    assert "not found" in absent.err


def test_logins_live_on_while_a_node_is_down(cluster: DevCluster, key: str, url: str) -> None:
    put(key, "alice", url, "--ttl", "10m")
    cluster.kill(3)
    try:
        touched = everwrite("touch", "things", key, "1h", "--url", url, "-o", "json")
        found = get(key, url, "-o", "json").json()
        too_few = everwrite("touch", "things", key, "2h", "--url", url, "--w", "3", "--strict")

        assert touched.code == Exit.OK
        assert (found["values"], found["expires"]) == (["alice"], touched.json()["expires"])
        assert too_few.code in {Exit.DEGRADED, Exit.TIMED_OUT}
        assert "The write " in too_few.err
    finally:
        asyncio.run(cluster.restart(3))


def test_a_tombstone_is_shown_with_why_it_is_still_there(
    cluster: DevCluster, key: str, url: str
) -> None:
    put(key, "tea", url)
    everwrite("delete", "things", key, "--url", url)

    def rows(ended: Ended) -> dict[str, str]:
        nodes = ended.json()["nodes"].values()
        return {row["key"]: row["why"] for node in nodes for row in node["rows"]}

    everywhere = everwrite("tombstones", "--rows", "1000", "--url", url, "-o", "json")
    assert everywhere.code == Exit.OK
    assert key in rows(everywhere)
    assert everywhere.json()["waiting"] >= 1
    collecting = everwrite("tombstones", "--collect", "--url", url)
    assert "Each node goes through its tombstones now" in collecting.err
    assert f"everwrite tombstones --url {url}" in collecting.err
    cluster.kill(3)
    try:
        while (left := everwrite("tombstones", "--url", url)).code == Exit.OK:
            assert "waiting" in left.out
        assert left.code == Exit.DEGRADED
        assert "no answer from n3" in left.err
    finally:
        asyncio.run(cluster.restart(3))
    assert everwrite("tombstones", "--rows", "0", "--url", url).code == Exit.USAGE
