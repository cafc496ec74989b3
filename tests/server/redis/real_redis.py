"""A real Redis server, Debian's, on a socket of its own; and how it answers, beside a node."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from redis.exceptions import RedisError
from tests.server.nodes import PATIENCE_S
from tests.server.redis.redis_api import client_of, one

SERVER = shutil.which("redis-server")
SOCKET = "redis.sock"

beside = [
    pytest.mark.redis,
    pytest.mark.skipif(SERVER is None, reason="needs Debian's redis-server"),
]
"""The marks of whoever starts one."""

SLOW_US = 3_600_000_000
"""No command takes an hour: how long one did is no difference."""
TTL_S = 10
"""Commands come some time after each other, so what is left of an end is told in steps of this."""

UNORDERED = {"HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF"}


@asynccontextmanager
async def real(place: Path) -> AsyncIterator[redis.Redis]:
    """A Redis server that keeps nothing, and takes no command for slow."""
    assert SERVER is not None
    path = place / SOCKET
    process = await asyncio.create_subprocess_exec(
        *(SERVER, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(place)),
        *("--slowlog-log-slower-than", str(SLOW_US)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while b"accept connections" not in (line := await process.stdout.readline()):
                assert line, "the server ended"
        yield redis.Redis(unix_socket_path=str(path), retry=None)
    finally:
        process.terminate()
        await process.communicate()


async def answers_of(client: redis.Redis, script: str, protocol: int) -> list[tuple[str, Any]]:
    """Return what each line of a script is answered with, by one connection."""
    found = []
    connection = client.connection_pool.connection_class(
        **{**client.connection_pool.connection_kwargs, "protocol": protocol}
    )
    await connection.connect()
    try:
        for line in script.strip().splitlines():
            words = [word.strip('"') for word in line.replace('" 1"', '"\x001"').split(" ")]
            words = [word.replace("\x00", " ") for word in words]
            await connection.send_command(*words)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    answer = await connection.read_response()
            except RedisError as error:
                answer = f"{type(error).__name__}: {error}"
            found.append((line, told(words[0], answer)))
    finally:
        await connection.disconnect()
    return found


def told(command: str, answer: Any) -> Any:
    """Return an answer in one form, whatever the order in which a hash or a set comes, and however
    soon an end was asked for.
    """
    if command == "TTL" and isinstance(answer, int) and answer > 0:
        return f"{-(-answer // TTL_S) * TTL_S} s at most"
    if command not in UNORDERED:
        if isinstance(answer, list):
            return [told("", each) for each in answer]
        return f"{type(answer).__name__}: {answer}" if isinstance(answer, RedisError) else answer
    if isinstance(answer, dict):
        return sorted(answer.items())
    if command == "HGETALL" and isinstance(answer, list):
        return sorted(zip(answer[::2], answer[1::2], strict=True))
    return sorted(answer) if isinstance(answer, list | set) else answer


async def differences(
    place: Path, script: str, protocol: int
) -> tuple[set[str], dict[str, dict[str, Any]]]:
    """Return the lines of a script, and what is answered to those that differ."""
    async with real(place) as theirs, one() as (runtime, _), client_of(runtime) as ours:
        expected = await answers_of(theirs, script, protocol)
        found = await answers_of(ours, script, protocol)
    return {line for line, _ in expected}, {
        line: {"redis": wanted, "here": answer}
        for (line, wanted), (_, answer) in zip(expected, found, strict=True)
        if answer != wanted
    }
