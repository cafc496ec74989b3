"""The same commands, asked of a real Redis server and of a node: the answers are the same.

What differs on purpose is in ``DIFFERENT``, with the reason; a difference that is not there fails,
and so does one that is there no more. Publications and estimates have files of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.client.fake_node import in_loop
from tests.server.redis.real_redis import SLOW_US, beside, differences, real
from tests.server.redis.redis_api import one, raw
from tests.server.redis.test_requests import packed

from everwrite.server.redis import measures
from everwrite.server.redis.table import TABLE

pytestmark = beside

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


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "script",
    [
        STRINGS,
        NUMBERS,
        ENDS,
        HASHES,
        SETS,
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
        "batches",
        "scripts",
        "watchers",
        "clients",
        "others",
    ],
)
@in_loop
async def test_a_node_answers_as_redis_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, protocol: int
) -> None:
    monkeypatch.setattr(measures, "SLOW_NS", SLOW_US * 1000)
    asked, differ = await differences(tmp_path, script, protocol)
    assert {line: both for line, both in differ.items() if line not in DIFFERENT} == {}
    assert asked & set(DIFFERENT) <= set(differ), "a difference that is there no more"


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
