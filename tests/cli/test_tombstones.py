"""What `everwrite tombstones` counts: what it shows makes up the number in its first line."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.cli.commands import everwrite as run

import everwrite
from everwrite.cli.devcluster import DevCluster
from everwrite.cli.tombstones import Tombstone, Tombstones, Why


def node(rows: int, **more: object) -> Tombstones:
    """What a node tells that sees to so many, none of which anybody was asked about."""
    listed = [Tombstone("b", f"k{number}", "its turn") for number in range(min(rows, 1000))]
    numbers = {"queued": rows, "confirmed_once": 0, "collected": 0, "life_ms": 1.0, **more}
    return Tombstones(id="1", name="n1", rows=listed, **numbers)  # type: ignore[arg-type]


def test_a_short_list_is_counted_whatever_the_node_remembers() -> None:
    """What it remembers is of its last pass: tombstones that were overwritten are still in it."""
    told = node(3, queued=60, confirmed_once=50, waiting=[Why("n2 has another copy", 40)])
    told.rows[0] = Tombstone("b", "k0", "all have confirmed it once", again_ms=1.0)
    told.rows[1] = Tombstone("b", "k1", "n2 has another copy", said_ms=1.0)

    assert (told.count, told.once) == (3, 1)
    assert told.whys() == {"n2 has another copy": 1, "its turn": 1}


@pytest.mark.parametrize("confirmed", [0, 700, 5000])
@pytest.mark.parametrize("waits", [0, 900, 5000])
def test_the_numbers_of_a_long_list_make_up_the_whole(confirmed: int, waits: int) -> None:
    told = node(1500, confirmed_once=confirmed, waiting=[Why("n2 has another copy", waits)])

    assert told.count == 1500
    assert told.once + sum(told.whys().values()) == 1500


@pytest.mark.process
@pytest.mark.slow
def test_what_was_written_anew_is_counted_no_more(tmp_path: Path) -> None:
    with DevCluster.create(tmp_path / "dev", nodes=1, fsync=False) as cluster:
        asyncio.run(cluster.start())
        url = cluster.addresses[0]
        with everwrite.connect_sync(url) as db:
            notes = db.bucket("notes")
            for number in range(30):
                notes.put(f"k{number}", "draft")
                notes.delete(f"k{number}")
            assert run("tombstones", "--collect", "--url", url).code == 0
            for number in range(25):
                notes.put(f"k{number}", "anew", context=notes.get(f"k{number}").context)

        shown = run("tombstones", "--rows", "2", "--url", url)
        told = run("tombstones", "--rows", "2", "--url", url, "-o", "json").json()

    first = re.match(
        r"5 tombstones waiting(?:, (\d+) of them confirmed once by all)?$", shown.out, re.M
    )
    assert first, shown.out
    others = sum(map(int, re.findall(r"^(\d+) wait: ", shown.out, re.MULTILINE)))
    assert int(first[1] or 0) + others == 5
    assert "and 3 more" in shown.err
    (n1,) = told["nodes"].values()
    assert n1["queued"] == told["waiting"] == 5
    assert n1["confirmed_once"] + sum(each["tombstones"] for each in n1["waiting"]) == 5
    assert len(n1["rows"]) == 2
