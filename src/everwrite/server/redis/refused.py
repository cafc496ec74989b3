"""Commands that a store without a leader cannot honour: refused by name, with the reason."""

from __future__ import annotations

from everwrite.server.redis.command import Args, Command
from everwrite.server.redis.replies import Answer
from everwrite.server.redis.session import Session

_WHY = {
    "two clients could both be given the same element, as no node decides alone": (
        "lpop rpop spop blpop brpop blmove brpoplpush lmove lmpop blmpop rpoplpush smove zpopmin "
        "zpopmax bzpopmin bzpopmax zmpop bzmpop lmovem blmovem"
    ),
    "there are no lists here, as their order would need a leader": (
        "lpush rpush lpushx rpushx lrange llen lindex linsert lset lrem ltrim lpos"
    ),
    "there are no sorted sets here": (
        "zadd zrem zscore zmscore zincrby zcard zrange zrangebyscore zrangebylex zrevrange "
        "zrevrangebyscore zrevrangebylex zrank zrevrank zcount zlexcount zscan zrandmember "
        "zremrangebyscore zremrangebyrank zremrangebylex zunion zinter zintercard zdiff "
        "zunionstore zinterstore zdiffstore zrangestore"
    ),
    "what several keys hold is told (SUNION, SINTER, SDIFF), and not written to another one": (
        "sunionstore sinterstore sdiffstore"
    ),
    "ask SUNION or SDIFF, and count what is told": "sunioncard sdiffcard",
    "a key has an end, and its fields have none of their own": (
        "hexpire hpexpire hexpireat hpexpireat httl hpttl hexpiretime hpexpiretime hpersist "
        "hgetex hsetex hgetdel"
    ),
    "no node can promise that nobody else writes a key meanwhile": (
        "watch unwatch msetnx msetex renamenx delex digest increx"
    ),
    "each write waits for W nodes anyway": "wait waitaof",
    "there are no streams here": (
        "xadd xread xreadgroup xgroup xack xackdel xlen xrange xrevrange xdel xdelex xtrim xclaim "
        "xautoclaim xpending xinfo xsetid xcfgset xnack"
    ),
    "known scripts run by EVAL and EVALSHA, and no others": (
        "eval_ro evalsha_ro fcall fcall_ro function"
    ),
    "keys are not moved, copied or changed in place": (
        "rename copy move swapdb sort sort_ro setrange setbit getbit bitcount bitpos bitop "
        "bitfield bitfield_ro lcs stralgo"
    ),
    "there is no geography here": (
        "geoadd geodist geohash geopos georadius georadius_ro georadiusbymember "
        "georadiusbymember_ro geosearch geosearchstore"
    ),
    "there are no arrays here": (
        "arcount ardel ardelrange arget argetrange argrep arinfo arinsert arlastitems arlen armget "
        "armset arnext arop arring arscan arseek arset"
    ),
    "there are no vectors here": (
        "vadd vcard vdim vemb vgetattr vinfo vismember vlinks vrandmember vrange vrem vsetattr vsim"
    ),
    "this is a cluster of its own kind, with commands of its own: see `everwrite --help`": (
        "asking replicaof slaveof psync sync replconf failover role migrate dump restore "
        "restore-asking debug shutdown monitor module save bgsave bgrewriteaof lastsave pfdebug "
        "pfselftest lolwut hotkeys"
    ),
}


def _refuse(session: Session, args: Args, keys: list[bytes]) -> Answer:
    command = session.front.find(args[0])
    assert command is not None
    raise session.front.refuse(command)


COMMANDS = tuple(
    Command(name, _refuse, -1, refused=why) for why, names in _WHY.items() for name in names.split()
)
