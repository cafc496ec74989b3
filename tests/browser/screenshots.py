"""Pictures of the dashboard for the README and docs/dashboard.md: make screenshots.

A cluster of five, some shoppers, a cut, and a cart that was changed on both sides of it.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.browser.clusters import playground
from tests.browser.page import Page, browser, why_not

import everwrite
from everwrite.cli.devcluster import DevCluster

PLACE = Path(__file__).parents[2] / "docs/images"
SIZE = "--window-size=1180,1000"
CARTS = 40
PUTS = 1500


async def shop(cluster: DevCluster) -> None:
    """Fill some carts, so that there is something to be seen."""
    async with await everwrite.connect(cluster.addresses) as db:
        carts = db.bucket("carts", merge=lambda found: sorted(set().union(*found)))

        async def fill(first: int) -> None:
            for number in range(first, PUTS, 8):
                cart = f"shopper-{number % CARTS}"
                await carts.update(cart, lambda items: sorted({*(items or []), "tea"}))

        await asyncio.gather(*(fill(first) for first in range(8)))


def take(page: Page, name: str) -> None:
    """Keep what is shown."""
    page.run("window.scrollTo(0, 0); document.activeElement.blur()")
    PLACE.mkdir(exist_ok=True)
    (PLACE / f"{name}.png").write_bytes(page.driver.get_screenshot_as_png())


def tell_a_story(cluster: DevCluster, page: Page) -> None:
    """Take the pictures, in an order in which each view has something to say."""
    here, there = cluster.node(1).http, cluster.node(5).http
    page.open(here)
    page.says("#verdict", "All 5 nodes are up")
    asyncio.run(shop(cluster))
    page.until(lambda: page.text(".tiles div:nth-child(2) b") != "0", "puts are counted")
    take(page, "overview")

    page.open(here, "#play")
    shop_here = page.driver.current_window_handle
    page.click("#add-tea")
    page.says("#carts", "tea")
    page.click("#cut")
    page.until(lambda: page.all(".ring g.node-down"), "one side takes the other for down")
    page.click("#add-jam")
    page.says("#carts", "jam")
    page.in_a_new_tab(there, "#play")
    page.until(lambda: page.all(".ring g.node-down"), "the other side does so too")
    page.says("#carts", "tea")
    page.click("#add-milk")
    page.says("#carts", "milk")
    page.open(here, "#gossip")
    page.until(lambda: page.all(".matrix td.differs"), "nodes differ")
    take(page, "gossip")
    page.driver.close()
    page.at(shop_here)
    page.says("#carts", "jam")
    page.click("#heal")
    page.until(lambda: len(page.all("#carts .cart")) == 2, "there are two carts")
    page.until(lambda: not page.all(".ring g.node-down"), "all see each other")
    take(page, "playground")
    page.open(here, "#walk/carts/alice")
    page.says("#walked", "2 siblings")
    take(page, "walk")

    page.open(here, "#play")
    page.click("#kill-n3")
    page.until(lambda: page.all(".ring g.node-silent"), "a node is down")
    page.open(here, "#ring")
    page.until(lambda: page.all(".ring g.node-silent path"), "it is hatched")
    take(page, "ring")


def main() -> None:
    """Take all pictures."""
    if why := why_not():
        raise SystemExit(why)
    with (
        tempfile.TemporaryDirectory(prefix="everwrite-pictures-") as place,
        playground(Path(place) / "dev") as cluster,
        browser(SIZE) as page,
    ):
        tell_a_story(cluster, page)


if __name__ == "__main__":
    main()
