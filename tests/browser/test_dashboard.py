"""A person at the dashboard of a real cluster: what is seen, what buttons do, what carts meet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from tests.browser.clusters import playground
from tests.browser.page import Page, browser, why_not

from everwrite.cli.devcluster import DevCluster
from everwrite.core.tally import bucket_of

WHY_NOT = why_not()
FIRST_PAINT_BYTES_MAX = 300_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Five nodes with buttons."""
    place = tmp_path_factory.mktemp("dashboard") / "dev"
    with playground(place, partitions=64) as made:
        yield made


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as found:
        yield found


def state_on_ring(page: Page, node: str) -> str:
    return str(
        page.run("return document.querySelector(arguments[0])?.getAttribute('class')", group(node))
    )


def group(node: str) -> str:
    return f".ring g[data-node={node}]"


def put(cluster: DevCluster, key: str, value: str, by: int = 1) -> None:
    answer = httpx.put(
        f"{cluster.node(by).http}/v1/kv/carts/{quote(key, safe='')}",
        content=value.encode(),
        headers={"Content-Type": "application/json"},
        trust_env=False,
    )
    assert answer.status_code == 204, answer.text


def test_the_first_view_says_that_all_is_well(cluster: DevCluster, page: Page) -> None:
    page.open(cluster.node(1).http)

    page.says("#verdict", "All 5 nodes are up")
    size = page.run(
        "return performance.getEntries().reduce((sum, each) => sum + (each.transferSize || 0), 0)"
    )
    assert 0 < size < FIRST_PAINT_BYTES_MAX
    assert page.complaints() == []


def test_keys_lead_through_the_views(cluster: DevCluster, page: Page) -> None:
    page.open(cluster.node(1).http)
    page.says("#verdict", "nodes are up")

    for view in page.run(
        "return [...document.querySelectorAll('#nav a')].map(a => [a.title.at(-1), a.dataset.view])"
    ):
        page.find("body").send_keys(view[0])
        page.until(
            lambda view=view: page.all(f"#nav a[data-view={view[1]}][aria-current]"), view[1]
        )
    page.find("body").send_keys("?")
    page.says("#keys", "Overview")

    assert page.complaints() == []


def test_a_node_is_killed_by_its_button_and_red_on_the_ring(
    cluster: DevCluster, page: Page
) -> None:
    page.open(cluster.node(1).http, "#play")
    page.until(lambda: "node-up" in state_on_ring(page, "n3"), "n3 is up on the ring")

    page.click("#kill-n3")
    page.until(lambda: "node-silent" in state_on_ring(page, "n3"), "n3 is down on the ring")

    assert cluster.node(3).state() == "gone"
    assert "hatch" in page.find(f"{group('n3')} path").value_of_css_property("fill")
    page.find("body").send_keys("o")
    page.says("#verdict", "4 of 5 nodes are up")
    page.find("body").send_keys("p")
    page.click("#back-n3")
    page.until(lambda: "node-up" in state_on_ring(page, "n3"), "n3 is up again")


def test_carts_on_both_sides_of_a_cut_become_siblings_and_merge(
    cluster: DevCluster, page: Page
) -> None:
    page.open(cluster.node(1).http, "#play")
    here = page.driver.current_window_handle
    page.click("#add-tea")
    page.says("#carts", "tea")
    there = page.in_a_new_tab(cluster.node(5).http, "#play")
    page.says("#carts", "tea")

    page.at(here)
    page.click("#cut")
    for name in ("n3", "n4", "n5"):
        page.until(lambda name=name: "node-down" in state_on_ring(page, name), f"no link to {name}")
    page.click("#add-jam")  # whether the tea is on this side, too, is a matter of the ring
    page.says("#carts", "jam")
    page.at(there)
    page.until(lambda: "node-down" in state_on_ring(page, "n1"), "no link to n1")
    assert "jam" not in page.text("#carts")
    page.click("#add-milk")
    page.says("#carts", "tea", "milk")
    page.click("#heal")
    page.until(lambda: len(page.all("#carts .cart")) == 2, "there are two carts")

    page.click("#merge-carts")
    for tab in (there, here):
        page.at(tab)
        page.until(lambda: len(page.all("#carts .cart")) == 1, "there is one cart")
        page.says("#carts", "tea", "jam", "milk")
    assert page.complaints() == []
    page.at(there)
    page.driver.close()
    page.at(here)


def test_a_key_walk_shows_siblings_and_resolves_them(cluster: DevCluster, page: Page) -> None:
    put(cluster, "bob", '["tea"]', by=1)
    put(cluster, "bob", '["jam"]', by=2)

    page.open(cluster.node(4).http, "#walk/carts/bob")
    page.says("#walked", "partition", "2 siblings", '["tea"]', '["jam"]')
    page.click("#merge")

    page.until(lambda: len(page.all("#values li")) == 1, "there is one value")
    either = ('["jam","tea"]', '["tea","jam"]')  # which comes first is a matter of their dots
    page.until(lambda: page.text("#values li").startswith(either), "it is the union")


def test_hostile_keys_and_values_are_shown_and_nothing_more(
    cluster: DevCluster, page: Page
) -> None:
    hostile = '<img src=x onerror="document.title=1">'
    put(cluster, hostile, '"<b>x</b>"')
    page.open(cluster.node(1).http, "#walk/carts/a")
    page.run("location.hash = '#walk/carts/' + encodeURIComponent(arguments[0])", hostile)

    page.says("#walked", hostile, "<b>x</b>")

    assert page.all("#walked img, #walked b:not(.mono)") == []
    assert "walk" in page.driver.title
    assert page.complaints() == []


def test_pages_that_were_left_do_not_hold_connections(cluster: DevCluster, page: Page) -> None:
    for _ in range(8):  # a browser has six to one node
        page.open(cluster.node(1).http)
        page.says("#verdict", "All 5 nodes are up")

    page.open(cluster.node(1).http, "#walk/carts/anybody")

    page.says("#walked", "What each node has")


def test_percentiles_in_the_browser_are_those_of_a_tally(cluster: DevCluster, page: Page) -> None:
    largest = {bucket_of(value): value for value in range(1 << 17)}
    page.open(cluster.node(1).http)

    told = page.run(
        "return import('/ui/tally.js').then((tally) => arguments[0].map(tally.topOf))",
        list(largest),
    )

    assert told == list(largest.values())


def test_a_plan_is_staged_and_forgotten(cluster: DevCluster, page: Page) -> None:
    page.open(cluster.node(2).http, "#plans")
    page.says("#plan", "Nothing is staged")
    page.run(
        "document.querySelector('#plan-node').value = 'n5';"
        "document.querySelector('#plan-verb').value = 'leave'"
    )

    page.click("#stage")
    page.says("#plan", "Staged", "leaving")
    page.click("#forget")

    page.says("#plan", "Nothing is staged")
    assert page.complaints() == []


def test_the_data_browser_lists_keys_and_shows_one(cluster: DevCluster, page: Page) -> None:
    put(cluster, "zoe", '["pears"]')
    page.open(cluster.node(3).http, "#data")
    page.find("#browse-prefix").send_keys("zo")

    page.click("#data-look")
    page.says("#keys-found", "zoe")
    page.click("#keys-found button")

    page.says("#browsed", '["pears"]')


def test_a_cluster_with_a_secret_shows_nothing_without_it(tmp_path: Path, page: Page) -> None:
    with DevCluster.create(
        tmp_path / "dev", nodes=1, engine="sqlite", fsync=False, secret=b"s3cret"
    ) as alone:
        asyncio.run(alone.start())
        page.open(alone.node(1).http)
        page.says("#view", "This cluster has a secret")
        page.find("#secret").send_keys("guessed\n")
        empty = "return document.querySelector('#secret')?.value === ''"
        page.until(lambda: page.run(empty), "the page asks again")

        page.find("#secret").send_keys("s3cret\n")

        page.says("#verdict", "The only node is up")
        assert page.complaints() == []
