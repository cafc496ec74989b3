"""What a dashboard that is left open costs: five idle nodes, without a listener and with one.

    .venv/bin/python bench/dashboard.py [--seconds 20] [--listeners 1]

Prints for the node that is listened to, and for the others on average, the part of a core that they
take, and how many bytes a listener gets each second.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import httpx

from everwrite.cli.devcluster import DevCluster

NODES = 5


async def cpu_us(client: httpx.AsyncClient, http: str) -> float:
    """Return the processor time of a node."""
    return float((await client.get(f"{http}/v1/status")).json()["node"]["cpu_us"])


async def listen(client: httpx.AsyncClient, http: str, heard: list[int]) -> None:
    """Take all that a node tells, until cancelled."""
    async with client.stream("GET", f"{http}/v1/events") as response:
        async for part in response.aiter_raw():
            heard.append(len(part))


async def measure(cluster: DevCluster, seconds: float, listeners: int) -> tuple[list[float], int]:
    """Return the percentage of a core that each node takes, and the bytes that were heard."""
    https = [node.http for node in cluster.nodes]
    heard: list[int] = []
    async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
        tasks = [asyncio.create_task(listen(client, https[0], heard)) for _ in range(listeners)]
        await asyncio.sleep(2)  # connections are made
        before = [await cpu_us(client, http) for http in https]
        heard.clear()
        await asyncio.sleep(seconds)
        after = [await cpu_us(client, http) for http in https]
        total = sum(heard)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [(b - a) / 1e4 / seconds for a, b in zip(before, after, strict=True)], total


async def run(cluster: DevCluster, seconds: float, listeners: int) -> None:
    """Measure without and with, twice, and print."""
    await cluster.start()
    await asyncio.sleep(5)  # what a start leaves to be done is done
    for _ in range(2):
        for count in (0, listeners):
            found, total = await measure(cluster, seconds, count)
            others = sum(found[1:]) / (len(found) - 1)
            rate = total / seconds / max(1, count)
            print(
                f"{count} listeners: its node {found[0]:.2f} %, each other one {others:.2f} % of a "
                f"core; {rate / 1024:.1f} KiB/s for each"
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--listeners", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        cluster = DevCluster.create(Path(place) / "dev", nodes=NODES, engine="sqlite", fsync=False)
        with cluster:
            asyncio.run(run(cluster, given.seconds, given.listeners))


if __name__ == "__main__":
    main()
