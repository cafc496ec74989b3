"""What the commands for one key say and do, against one real node."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.cli.commands import Ended, everwrite

from everwrite.cli.devcluster import DevCluster
from everwrite.cli.exits import Exit

pytestmark = pytest.mark.process

ODD = "it's $(echo) 'a' \\n\n\t\x1b*"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One node; each test uses keys of its own."""
    with DevCluster.create(tmp_path_factory.mktemp("dev"), nodes=1, fsync=False) as cluster:
        asyncio.run(cluster.start())
        yield cluster.addresses[0]


@pytest.fixture
def key() -> str:
    return uuid4().hex


def command(verb: str, key: str, *more: str) -> Ended:
    return everwrite(verb, "things", *more, "--", key)


def put(key: str, value: str, url: str, *more: str) -> Ended:
    return everwrite("put", "things", "--url", url, *more, "--", key, value)


def test_an_empty_context_has_seen_nothing(key: str, url: str) -> None:
    put(key, "tea", url)

    deleted = command("delete", key, "--url", url, "--context", "")
    beside = put(key, "jam", url, "--context", "")

    assert deleted.code == Exit.OK
    assert "1 value is still there: this delete had not seen it" in deleted.err
    assert "2 siblings are there now" in beside.err
    found = command("get", key, "--url", url, "-o", "json").json()
    assert sorted(found["values"]) == ["jam", "tea"]


def test_a_context_that_is_not_given_deletes_what_is_there(key: str, url: str) -> None:
    put(key, "tea", url)

    assert command("delete", key, "--url", url).code == Exit.OK
    assert command("get", key, "--url", url).code == Exit.ERROR


def test_a_delete_tells_scripts_always_the_same_fields(key: str, url: str) -> None:
    stored = put(key, "tea", url, "-o", "json").json()

    deleted = command("delete", key, "--url", url, "-o", "json")
    absent = command("delete", key, "--url", url, "-o", "json")

    assert (deleted.code, absent.code) == (Exit.OK, Exit.ERROR)
    assert deleted.json().keys() == absent.json().keys() == stored.keys()
    assert absent.json()["outcome"] == "absent"


def test_what_ends_says_to_scripts_when_and_in_how_long(key: str, url: str) -> None:
    put(key, "tea", url, "--ttl", "1h")
    put(f"{key}-2", "tea", url)

    ends = command("get", key, "--url", url, "-o", "json").json()
    stays = command("get", f"{key}-2", "--url", url, "-o", "json").json()

    assert 0 < ends["expires_in_ms"] <= 3_600_000
    assert stays["expires_in_ms"] is None


@pytest.mark.parametrize("odd", [ODD, "-k", "two words"])
def test_a_printed_command_can_be_run_as_it_is(
    odd: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVERWRITE_URL", raising=False)
    put(odd, "tea", url)
    put(odd, "jam", url)

    said = command("get", odd, "--url", url).err
    line = next(line for line in said.splitlines() if "  everwrite put" in line)
    words = asyncio.run(in_a_shell(line.replace("VALUE", "both")))

    assert words[0] == "everwrite"
    assert everwrite(*words[1:]).code == Exit.OK
    assert command("get", odd, "--url", url).out == "both"


async def in_a_shell(line: str) -> list[str]:
    """Return the words that bash makes of a line."""
    script = f"printf '%s\\0' {line}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode().split("\0")[:-1]


def test_a_url_of_the_environment_is_not_repeated(
    key: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERWRITE_URL", url)
    everwrite("put", "things", key, "tea")

    said = everwrite("put", "things", key, "jam").err

    assert f"`everwrite get things {key}`" in said
    assert shlex.quote(url) not in said


def test_what_is_not_printable_in_a_key_is_shown_escaped(url: str) -> None:
    odd = f"{uuid4().hex}\n\t\x1b[31m"

    absent = command("get", odd, "--url", url)
    put(odd, "tea", url)
    command("delete", odd, "--url", url)
    table = everwrite("tombstones", "--rows", "1000", "--url", url)
    located = command("locate", odd, "--url", url)

    for text in (absent.err, table.out, located.out):
        assert repr(odd)[1:-1] in text
        assert odd not in text


def test_a_list_that_was_put_as_a_text_is_called_a_text(key: str, url: str) -> None:
    stored = put(key, '["milk"]', url)
    found = command("get", key, "--url", url)

    assert "--kind json" in stored.err
    assert found.out == '["milk"]'
    assert "kind text" in found.err and "--kind json" in found.err


def test_a_value_that_is_json_is_called_so(key: str, url: str) -> None:
    stored = put(key, '["milk"]', url, "--kind", "json")
    found = command("get", key, "--url", url)

    assert "--kind" not in stored.err
    assert "kind json\n" in found.err


@pytest.mark.parametrize("value", ["apple", "[not json", "{}x"])
def test_a_text_that_nobody_takes_for_json_has_no_word_about_kinds(
    key: str, url: str, value: str
) -> None:
    stored = put(key, value, url)
    found = command("get", key, "--url", url)

    assert "kind" not in stored.err + found.err


def test_siblings_of_several_kinds_say_so(key: str, url: str) -> None:
    put(key, '["milk"]', url)
    put(key, '["tea"]', url, "--kind", "json")

    found = command("get", key, "--url", url)

    headings = [line for line in found.out.splitlines() if line.startswith("---")]
    assert {line.rpartition(", ")[2] for line in headings} == {"text", "json"}
    assert "several kinds" in found.err


def test_a_touch_says_where_one_of_the_siblings_has_no_end(key: str, url: str) -> None:
    put(key, "tea", url, "--ttl", "1h")
    put(key, "jam", url)

    kept = everwrite("touch", "things", key, "2h", "--url", url)

    assert "at least one of the 2 siblings has no end" in kept.err
