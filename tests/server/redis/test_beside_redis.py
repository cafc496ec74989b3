"""The same commands, asked of a real Redis server and of a node: the answers are the same.

What differs on purpose is in ``DIFFERENT``, with the reason; a difference that is not there fails,
and so does one that is there no more. Debian's redis-server is started on a socket of its own.
"""

from __future__ import annotations

import asyncio
import functools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis
from redis.exceptions import RedisError
from tests.client.fake_node import in_loop
from tests.server.nodes import PATIENCE_S
from tests.server.redis.redis_api import client_of, one, port_of, raw
from tests.server.redis.test_requests import packed

from everwrite.server.redis.table import TABLE

SERVER = shutil.which("redis-server")

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(SERVER is None, reason="needs Debian's redis-server"),
]

STRINGS = """
SET a 1
GET a
GET none
SET a 2 NX
SET b 2 XX
SET a 3 GET
SET a 3 EX 100 PX 100
SET a
SET a 1 FROM 2
SETNX b 3
SETNX b 4
GETSET b 5
GETDEL b
GETDEL b
MSET c 1 d 2
MSET c
MGET c none d
APPEND c xyz
APPEND new x
STRLEN c
STRLEN none
GETRANGE c 1 -2
GETRANGE c 5 2
GETRANGE none 0 -1
SUBSTR c 0 1
SETEX e 100 v
SETEX e 0 v
SETEX e x v
PSETEX e 100000 v
GETEX e
GETEX e PERSIST
TTL e
EXISTS a c a none
TYPE a
TYPE none
DEL a c c none
UNLINK d
GET
"""

NUMBERS = """
INCR n
INCRBY n 10
DECR n
DECRBY n 3
GET n
INCRBY n x
INCRBY n 1.5
SET n 9223372036854775807
INCR n
SET n -9223372036854775808
DECR n
DECRBY n -9223372036854775808
SET t text
INCR t
GET t
SET s " 1"
INCR s
SET z 007
INCR z
INCRBYFLOAT f 1.5
INCRBYFLOAT f 2.25
INCRBYFLOAT f x
GET f
TYPE n
STRLEN n
APPEND n 1
"""

ENDS = """
TTL none
PTTL none
SET a v
TTL a
PTTL a
EXPIRETIME a
EXPIRE none 10
EXPIRE a 100
TTL a
EXPIRE a 200 NX
EXPIRE a 50 GT
EXPIRE a 300 GT
TTL a
EXPIRE a 400 LT
EXPIRE a 100 LT
TTL a
EXPIRE a 100 XX
EXPIRE a x
EXPIRE a 100 NX XX
PERSIST a
PERSIST a
PERSIST none
TTL a
SET a w EX 100
SET a x KEEPTTL
TTL a
SET a y
TTL a
EXPIREAT a 2000000000
EXPIRETIME a
EXPIREAT a 32503680000
PEXPIRE a 100000
TTL a
EXPIRE a -1
EXISTS a
"""

HASHES = """
HSET h a 1 b 2
HSET h a 2 c 3
HSET h a
HGET h a
HGET h none
HGET none a
HMGET h a none c
HGETALL h
HGETALL none
HLEN h
HKEYS h
HVALS h
HEXISTS h a
HEXISTS h none
HSTRLEN h a
HSETNX h a 5
HSETNX h d 5
HINCRBY h a 5
HINCRBY h new -1
HSET h text x
HINCRBY h text 1
HINCRBY h a x
HGET h a
HDEL h a none b
HDEL none a
HMSET h x 1
HDEL h c d new text x
EXISTS h
TYPE h
HSET h z 1
TYPE h
GET h
INCR h
SADD h x
SET str v
HGET str a
HSET str a 1
HGETALL str
HINCRBYFLOAT g f 1.5
HINCRBYFLOAT g f 2.25
HINCRBYFLOAT g f x
HINCRBYFLOAT g f
HGET g f
HSET g text x whole 5.0e3
HINCRBYFLOAT g text 1
HINCRBYFLOAT g whole 2.0e2
HINCRBYFLOAT str f 1
HRANDFIELD one
HSET one f v
HRANDFIELD one
HRANDFIELD one 5
HRANDFIELD one -3
HRANDFIELD one 0
HRANDFIELD one 5 WITHVALUES
HRANDFIELD one -2 WITHVALUES
HRANDFIELD none 5
HRANDFIELD none 5 WITHVALUES
HRANDFIELD one x
HRANDFIELD one 1 FOO
HRANDFIELD one 1 WITHVALUES x
HRANDFIELD str
HRANDFIELD
"""

SETS = """
SADD s b a c
SADD s a d
SADD s
SMEMBERS s
SMEMBERS none
SCARD s
SISMEMBER s a
SISMEMBER s none
SMISMEMBER s a none d
SREM s a none
SREM none a
SADD t c d e
SINTER s t
SUNION s t
SDIFF s t
SINTER s none
SINTERCARD 2 s t
SINTERCARD 2 s t LIMIT 1
SINTERCARD 2 s t LIMIT 0
SINTERCARD 2 s none
SINTERCARD 1 t
SINTERCARD
SINTERCARD 0 a
SINTERCARD x a
SINTERCARD 2 s
SINTERCARD 1 s LIMIT -1
SINTERCARD 1 s LIMIT x
SINTERCARD 1 s FOO
SRANDMEMBER none
SRANDMEMBER none 3
SRANDMEMBER t x
SRANDMEMBER t 1 2
SREM s b c d
EXISTS s
TYPE t
GET t
HGET t a
"""

BATCHES = """
MULTI
SET a 1
INCR a
GET a
EXEC
EXEC
MULTI
SET a 2
DISCARD
GET a
DISCARD
MULTI
SET a
EXEC
MULTI
INCR a
HGET a f
GET a
EXEC
MULTI
MULTI
DISCARD
"""

ESTIMATES = """
PFADD
PFADD p
PFADD p
PFADD p a b c
PFADD p a
PFCOUNT p
PFCOUNT none
PFADD q c d e "" f
PFCOUNT p q none
PFMERGE r p q
PFCOUNT r
PFMERGE empty
PFMERGE empty none
PFCOUNT empty
TYPE p
STRLEN p
GETRANGE p 0 3
EXPIRE p 100
PFADD p z
TTL p
SET a 1
HSET h a 1
PFADD a x
PFCOUNT a
PFMERGE q a
PFADD h x
PFCOUNT p h
PFCOUNT
"""

SCRIPTS = """
EVAL
EVAL x
EVAL x 1
EVAL x x
EVAL x -1
EVALSHA abc 0
EVALSHA 0000000000000000000000000000000000000000 1 a
EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 2 a
EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 1 a token
SCRIPT
SCRIPT FOO
SCRIPT EXISTS
SCRIPT EXISTS abc def
SCRIPT FLUSH
SCRIPT FLUSH FOO
SCRIPT FLUSH SYNC
SCRIPT LOAD
SCRIPT KILL
"""

WATCHERS = """
SET a 1
SET t text
OBJECT
OBJECT FOO
OBJECT FOO x
OBJECT ENCODING
OBJECT ENCODING a
OBJECT ENCODING t
OBJECT FREQ a
OBJECT FREQ none
OBJECT IDLETIME none
OBJECT REFCOUNT t
MEMORY
MEMORY FOO
MEMORY USAGE
MEMORY USAGE none
MEMORY USAGE a SAMPLES x
MEMORY USAGE a FOO 1
MEMORY USAGE a SAMPLES
SLOWLOG RESET
SLOWLOG LEN
SLOWLOG GET
SLOWLOG GET x
SLOWLOG GET -2
SLOWLOG GET -1
SLOWLOG GET 1 2
SLOWLOG FOO
LATENCY LATEST
LATENCY RESET
LATENCY HISTORY command
LATENCY HISTORY
LATENCY GRAPH command
LATENCY HISTOGRAM nosuch
ACL WHOAMI
ACL LIST
ACL USERS
ACL CAT foo
ACL FOO
CLUSTER
CLUSTER KEYSLOT
CONFIG FOO
CONFIG GET
"""

CLIENTS = """
CLIENT
CLIENT FOO
CLIENT SETNAME
CLIENT SETNAME a b
CLIENT KILL
CLIENT KILL ID x
CLIENT KILL ID 0
CLIENT KILL ID 999
CLIENT KILL TYPE foo
CLIENT KILL TYPE pubsub
CLIENT KILL USER foo
CLIENT KILL FOO bar
CLIENT KILL ID 1 TYPE
CLIENT KILL 1.2.3.4:5
CLIENT LIST TYPE foo
CLIENT LIST TYPE pubsub
CLIENT LIST ID x
CLIENT LIST ID 999
CLIENT LIST FOO
CLIENT NO-EVICT foo
CLIENT NO-EVICT
CLIENT NO-EVICT on
CLIENT REPLY foo
CLIENT GETREDIR
CLIENT UNBLOCK 999
CLIENT TRACKING off
CLIENT UNPAUSE
COMMAND LIST FOO
COMMAND LIST FILTERBY PATTERN getr*
COMMAND LIST FILTERBY PATTERN nosuch*
COMMAND LIST FILTERBY MODULE nosuch
COMMAND INFO nosuch
COMMAND DOCS nosuch
COMMAND GETKEYS
COMMAND GETKEYS get a
COMMAND GETKEYS mset a 1 b 2
COMMAND GETKEYS eval x 2 a b c
COMMAND GETKEYS sintercard 2 a b
COMMAND GETKEYSANDFLAGS get a
COMMAND GETKEYSANDFLAGS hset a b c
COMMAND FOO
"""

OTHERS = """
PING
PING hello
ECHO hello
ECHO
SELECT 3
SET only here
SELECT 4
GET only
SELECT 99
SELECT x
SELECT 3
DBSIZE
GET only
NOSUCH a b
CLIENT SETNAME me
CLIENT GETNAME
CONFIG GET save
CONFIG GET nosuch
COMMAND COUNT x
OBJECT ENCODING none
"""

DIFFERENT = {
    "EXPIREAT a 32503680000": "a key ends within ten years, or never",
    "EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 1 a token": "it is known without SCRIPT LOAD",
    "COMMAND GETKEYSANDFLAGS hset a b c": "an update is not told apart from an access",
}
UNORDERED = {"HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF"}


@asynccontextmanager
async def real(place: Path) -> AsyncIterator[redis.Redis]:
    """A Redis server that keeps nothing."""
    assert SERVER is not None
    path = place / "redis.sock"
    process = await asyncio.create_subprocess_exec(
        *(SERVER, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(place)),
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
    """Return an answer in one form, whatever the order in which a hash or a set comes."""
    if command not in UNORDERED:
        if isinstance(answer, list):
            return [told("", each) for each in answer]
        return f"{type(answer).__name__}: {answer}" if isinstance(answer, RedisError) else answer
    if isinstance(answer, dict):
        return sorted(answer.items())
    if command == "HGETALL" and isinstance(answer, list):
        return sorted(zip(answer[::2], answer[1::2], strict=True))
    return sorted(answer) if isinstance(answer, list | set) else answer


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "script",
    [
        STRINGS,
        NUMBERS,
        ENDS,
        HASHES,
        SETS,
        ESTIMATES,
        BATCHES,
        SCRIPTS,
        WATCHERS,
        CLIENTS,
        OTHERS,
    ],
    ids=[
        "strings",
        "numbers",
        "ends",
        "hashes",
        "sets",
        "estimates",
        "batches",
        "scripts",
        "watchers",
        "clients",
        "others",
    ],
)
@in_loop
async def test_a_node_answers_as_redis_does(tmp_path: Path, script: str, protocol: int) -> None:
    async with real(tmp_path) as theirs, one() as (runtime, _), client_of(runtime) as ours:
        expected = await answers_of(theirs, script, protocol)
        found = await answers_of(ours, script, protocol)
    differ = {
        line: {"redis": wanted, "here": answer}
        for (line, wanted), (_, answer) in zip(expected, found, strict=True)
        if answer != wanted
    }
    assert {line: both for line, both in differ.items() if line not in DIFFERENT} == {}
    lines = {line for line, _ in expected}
    assert lines & set(DIFFERENT) <= set(differ), "a difference that is there no more"


PUBLICATIONS = """
PING
UNSUBSCRIBE
PUNSUBSCRIBE
SUNSUBSCRIBE
UNSUBSCRIBE none other
SUBSCRIBE
SUBSCRIBE a b a
PING
PING hi
GET x
MULTI
NOSUCH
SUBSCRIBE
other PUBLISH a one
other PUBLISH none one
other PUBLISH a
other SPUBLISH a two
PSUBSCRIBE ab* ?
other PUBLISH a three
other PUBLISH abc four
SSUBSCRIBE a
other SPUBLISH a five
other PUBLISH a six
other PUBSUB NUMPAT
other PUBSUB NUMPAT x
other PUBSUB NUMSUB a b none
other PUBSUB NUMSUB
other PUBSUB SHARDNUMSUB a b
other PUBSUB CHANNELS b*
other PUBSUB CHANNELS x y
other PUBSUB SHARDCHANNELS
other PUBSUB NOSUCH
other PUBSUB
UNSUBSCRIBE b none
PUNSUBSCRIBE ab*
other PUBLISH a seven
other PUBLISH b eight
UNSUBSCRIBE
UNSUBSCRIBE
PUNSUBSCRIBE ?
SUNSUBSCRIBE
GET x
PUBLISH a nine
SUBSCRIBE a
RESET
PUBLISH a ten
SUBSCRIBE a
QUIT
"""
"""Lines of one connection, and of another one beside it."""


class Line:
    """A connection spoken by hand: what comes of a command is all until the end of a PING."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, *words: str, last: bool = False) -> bytes:
        sent = packed(*(word.encode() for word in words))
        self.writer.write(sent if last else sent + packed(b"PING", b"-end-"))
        async with asyncio.timeout(PATIENCE_S):
            return await (self._reader.read() if last else self._reader.readuntil(b"-end-\r\n"))


@pytest.mark.parametrize("protocol", ["2", "3"])
@in_loop
async def test_publications_come_as_redis_brings_them(tmp_path: Path, protocol: str) -> None:
    async with real(tmp_path), one() as (runtime, _):
        theirs = functools.partial(asyncio.open_unix_connection, tmp_path / "redis.sock")
        ours = functools.partial(asyncio.open_connection, "127.0.0.1", port_of(runtime))
        found: list[list[tuple[str, bytes]]] = []
        for opened in (theirs, ours):
            line, other = Line(*await opened()), Line(*await opened())
            await line.ask("HELLO", protocol)
            said = []
            for each in PUBLICATIONS.strip().splitlines():
                first, *words = each.split()
                if first == "MULTI" and protocol == "3":
                    continue  # it would keep the PING
                if first == "other":
                    said.append((each, await other.ask(*words)))
                    said.append((f"heard of {each}", await line.ask("PING")))
                else:
                    said.append((each, await line.ask(*each.split(), last=first == "QUIT")))
                if first == "RESET":
                    await line.ask("HELLO", protocol)
            found.append(said)
            for each_line in (line, other):
                each_line.writer.close()

    assert found[1] == found[0]


@in_loop
async def test_no_command_of_redis_is_unknown_here(tmp_path: Path) -> None:
    async with real(tmp_path) as theirs, one() as (runtime, ours):
        names = [name.decode() for name in await theirs.execute_command("COMMAND LIST")]
        tops = sorted(name for name in names if "|" not in name)
        assert len(tops) > 200
        assert [name for name in tops if name.encode() not in TABLE] == []

        for name in tops:
            if TABLE[name.encode()].refused:
                found = await raw(runtime, packed(name.encode(), b"a", b"b"))
                assert found.startswith(f"-ERR '{name.upper()}' is not supported: ".encode()), name
        assert (await ours.execute_command("OBJECT HELP"))[0].startswith(b"OBJECT")


@in_loop
async def test_an_estimate_is_the_same_to_the_byte(tmp_path: Path) -> None:
    async with real(tmp_path) as theirs, one() as (_, ours):
        for size in (10, 100, 1000, 30_000):
            for begin in range(0, size, 1000):
                elements = [f"element {at}" for at in range(begin, min(begin + 1000, size))]
                for each in (theirs, ours):
                    await each.pfadd("p", *elements)
            count = await theirs.pfcount("p")
            assert await ours.pfcount("p") == count
            assert abs(count - size) < 0.03 * size
            for one_, other in ((theirs, ours), (ours, theirs)):  # each reads what the other wrote
                sketch = await one_.get("p")
                assert sketch is not None
                await other.set("q", sketch)
                assert await other.pfcount("q") == count
