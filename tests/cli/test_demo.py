"""The demo and the benchmark, from start to verdict, without a terminal."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.commands import everwrite

from everwrite import connect
from everwrite.cli.demo.carts import Fate, Ledger
from everwrite.cli.demo.verdict import Verdict, read_back
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.exits import Exit

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_a_demo_loses_nothing_and_says_so_in_its_last_line(tmp_path: Path) -> None:
    ended = everwrite("demo", "--nodes", "3", "--seconds", "9", "--data", str(tmp_path / "dev"))

    assert ended.code == Exit.OK, ended.out
    assert ended.out.splitlines()[-1].startswith("0 lost")
    assert "interrupted" not in ended.out
    assert "+ up, x killed, z frozen" in ended.err
    assert "kill n" in ended.out
    assert "partition n" in ended.out
    assert (tmp_path / "dev" / "node1.log").exists()


def interrupted(arguments: list[str], after: str) -> tuple[int, str]:
    """Run a command, send Ctrl-C when it says ``after``; return its exit code and output."""
    command = [sys.executable, "-m", "everwrite", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        while after not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    return process.returncode, out


def test_ctrl_c_closes_the_shop_early_and_the_verdict_still_comes(tmp_path: Path) -> None:
    there = ["--data", str(tmp_path / "dev"), "--nodes", "3"]

    code, out = interrupted(["demo", "--seconds", "600", *there], after="  1.0 s")

    assert code == Exit.INTERRUPTED
    assert out.splitlines()[-2].startswith("interrupted: 0 of 6 planned faults")
    assert out.splitlines()[-1].startswith("0 lost")
    assert not DevCluster.open(tmp_path / "dev").running()


def test_ctrl_c_ends_a_benchmark_and_its_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    code, out = interrupted(["bench", "--keys", "500", "--seconds", "600"], after="warming up")

    assert (code, out) == (Exit.INTERRUPTED, "")
    assert list(tmp_path.iterdir()) == []


def test_a_demo_does_not_touch_a_cluster_that_runs(tmp_path: Path) -> None:
    with DevCluster.create(tmp_path / "dev", nodes=3, fsync=False) as cluster:
        asyncio.run(cluster.start())

        ended = everwrite("demo", "--nodes", "3", "--data", str(tmp_path / "dev"))

        assert ended.code == Exit.ERROR
        assert "is running" in ended.err
        assert len(cluster.running()) == 3


def test_what_a_cart_does_not_hold_is_missing_in_the_verdict(tmp_path: Path) -> None:
    async def read_back_two_carts(cluster: DevCluster) -> Verdict:
        await cluster.start()
        async with await connect(cluster.addresses) as db:
            bucket = db.bucket("carts")
            await bucket.put("whole", {"added": {"1.1": "tea", "1.2": "jam"}, "removed": ["1.2"]})
            await bucket.put("short", {"added": {"2.1": "tea"}, "removed": []})
            return await read_back(db, bucket, ledger, lambda _: None)

    ledger = Ledger()
    for cart, item in (("whole", "1.1"), ("whole", "1.2"), ("short", "2.1"), ("short", "2.2")):
        ledger.begin(cart, item, removes=False).fate = Fate.ACKNOWLEDGED
    ledger.begin("whole", "1.2", removes=True).fate = Fate.ACKNOWLEDGED
    ledger.begin("short", "2.1", removes=True).fate = Fate.ACKNOWLEDGED
    with DevCluster.create(tmp_path / "dev", nodes=3, fsync=False) as cluster:
        verdict = asyncio.run(read_back_two_carts(cluster))

    assert (verdict.additions, verdict.missing) == (4, 1)
    assert (verdict.removals, verdict.returned) == (2, 1)
    assert (verdict.carts, verdict.copies, verdict.different, verdict.unread) == (2, 6, 0, 0)
    assert any("short: missing 2.2" in example for example in verdict.examples)
    assert verdict.sentence().startswith("FAILED: 1 acknowledged additions are lost")


@pytest.mark.parametrize(
    "wrong",
    ["missing", "returned", "impossible", "unread", "different", "hints_left"],
)
def test_a_demo_with_anything_wrong_has_failed_and_names_it(wrong: str) -> None:
    verdict = Verdict(additions=100, additions_unknown=0, removals=10, carts=5)
    assert verdict.ok()

    setattr(verdict, wrong, 10)

    assert not verdict.ok()
    assert verdict.sentence().startswith("FAILED: 10 ")
    assert "0 lost" not in verdict.sentence()


def test_a_demo_in_which_nothing_was_written_has_shown_nothing() -> None:
    verdict = Verdict(additions=0, additions_unknown=3, removals=0, carts=5)

    assert not verdict.ok()
    assert "no write was accepted" in verdict.sentence()


@pytest.mark.parametrize("more", [[], ["--processes", "2", "--kill", "2", "0.1"]])
def test_a_benchmark_measures_without_errors(tmp_path: Path, more: list[str]) -> None:
    file = tmp_path / "bench.json"

    ended = everwrite(
        *("bench", "--seconds", "0.5", "--warmup", "0.1", "--keys", "500", "--fsync", "off"),
        *("--concurrency", "8", "-o", "json", "--output", str(file), *more),
    )

    report = ended.json()
    assert ended.code == Exit.OK, ended.out
    assert report == json.loads(file.read_text())
    assert report["ops_per_s"] > 0
    assert report["errors"] == 0
    assert 0 < report["p50_ms"] <= report["p99_ms"] <= report["p999_ms"] <= report["max_ms"]
    assert report["server_cpu_us_per_op"] > 0
    assert report["reads"]["count"] > 0
    assert report["writes"]["count"] > 0
    assert report["idle_rss_bytes"] > 0


def test_a_benchmark_over_http_says_what_idle_connections_cost() -> None:
    ended = everwrite(
        *("bench", "--http", "--seconds", "0.5", "--warmup", "0.1", "--keys", "300"),
        *("--concurrency", "8", "--processes", "2", "-o", "json"),
    )

    report = ended.json()
    assert ended.code == Exit.OK, ended.out
    assert report["errors"] == 0
    assert report["reads"]["count"] > 0
    assert report["writes"]["count"] > 0
    assert 0 < report["idle_connections_bytes"] < 60 << 20
