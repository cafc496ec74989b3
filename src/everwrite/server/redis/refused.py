"""Commands that a store without a leader cannot honour: refused by name, with the reason."""

from __future__ import annotations

from everwrite.server.redis.command import Args, Command
from everwrite.server.redis.replies import Answer
from everwrite.server.redis.session import Session

_WHY = {
    "two clients could both be given the same element, as no node decides alone": (
        "lpop rpop spop blpop brpop blmove brpoplpush lmove lmpop blmpop rpoplpush smove zpopmin "
        "zpopmax bzpopmin bzpopmax zmpop bzmpop"
    ),
    "there are no lists here, as their order would need a leader": (
        "lpush rpush lpushx rpushx lrange llen lindex linsert lset lrem ltrim lpos"
    ),
    "there are no sorted sets here": (
        "zadd zrem zscore zmscore zincrby zcard zrange zrangebyscore zrangebylex zrevrange "
        "zrevrangebyscore zrank zrevrank zcount zlexcount zscan zremrangebyscore zremrangebyrank "
        "zunionstore zinterstore zdiffstore"
    ),
    "no node can promise that nobody else writes a key meanwhile": "watch unwatch msetnx renamenx",
    "each write waits for W nodes anyway": "wait waitaof",
    "there are no streams here": (
        "xadd xread xreadgroup xgroup xack xlen xrange xrevrange xdel xtrim xclaim xautoclaim "
        "xpending xinfo xsetid"
    ),
    "known scripts run by EVAL and EVALSHA, and no others": (
        "eval_ro evalsha_ro fcall fcall_ro function"
    ),
    "there is no publish and subscribe here": (
        "publish subscribe unsubscribe psubscribe punsubscribe pubsub spublish ssubscribe "
        "sunsubscribe"
    ),
    "keys are not moved, copied or changed in place": (
        "rename copy move swapdb sort sort_ro setrange setbit getbit bitcount bitpos bitop "
        "bitfield lcs"
    ),
    "there is no geography here": (
        "geoadd geodist geohash geopos georadius geosearch geosearchstore"
    ),
    "this is a cluster of its own kind, with commands of its own: see `everwrite --help`": (
        "asking replicaof slaveof psync sync replconf failover role migrate dump restore debug "
        "shutdown monitor module save bgsave bgrewriteaof lastsave"
    ),
}


def _refuse(session: Session, args: Args, keys: list[bytes]) -> Answer:
    command = session.front.find(args[0])
    assert command is not None
    raise session.front.refuse(command)


COMMANDS = tuple(
    Command(name, _refuse, -1, refused=why) for why, names in _WHY.items() for name in names.split()
)
