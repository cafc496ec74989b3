"""What the commands for data types say and do, against one real node."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.cli.commands import Ended, everwrite

from everwrite.cli.devcluster import DevCluster
from everwrite.cli.exits import Exit

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One node; each test uses keys of its own."""
    with DevCluster.create(tmp_path_factory.mktemp("dev"), nodes=1, fsync=False) as cluster:
        asyncio.run(cluster.start())
        yield cluster.addresses[0]


@pytest.fixture
def key(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EVERWRITE_URL", url)
    return uuid4().hex


def types(verb: str, key: str, *more: str, stdin: bytes = b"") -> Ended:
    return everwrite("type", verb, "things", key, *more, stdin=stdin)


def test_a_counter_goes_up_and_down_and_says_its_value(key: str) -> None:
    assert types("add", key).out == "1\n"
    assert types("add", key, "41").out == "42\n"
    assert types("add", key, "-2").out == "40\n"

    shown = types("show", key)
    assert (shown.code, shown.out) == (Exit.OK, "40\n")
    assert "kind counter; answered by 1 owner" in shown.err
    assert types("show", key, "-o", "json").json()["value"] == 40


def test_a_set_says_what_was_new_and_what_was_there(key: str) -> None:
    assert "2 of 2 elements were new" in types("include", key, "red", "blue").err
    assert "1 of 2 elements were new" in types("include", key, "red", "green").err
    assert "1 of 2 elements had been there" in types("exclude", key, "red", "white").err
    assert types("show", key).out == "blue\ngreen\n"
    assert types("exclude", key, "blue", "-o", "json").json()["result"] == 1


def test_a_map_is_a_table_of_all_that_is_in_it(key: str) -> None:
    types("add", key, "3", "--field", "tea")
    types("include", key, "-f", "tags", "red", "blue")
    types("assign", key, "Aarau", "-f", "to", "-f", "town")
    types("enable", key, "-f", "express")

    assert [line.split("  ") for line in _squeezed(types("show", key).out)] == [
        ["FIELD", "TYPE", "VALUE"],
        ["express", "flag", "raised"],
        ["tags", "set", "blue, red"],
        ["tea", "counter", "3"],
        ["to", "map", "1 field"],
        ["to / town", "register", "Aarau"],
    ]
    assert types("show", key, "-f", "to", "-f", "town").out == "Aarau"
    inner = types("show", key, "-f", "to", "-o", "json").json()
    assert inner["found"] and inner["fields"] == ["to"]
    assert inner["value"]["town"]["value"] == "Aarau"
    assert types("show", key, "-f", "none").code == Exit.ERROR
    assert types("show", key, "-f", "none", "-o", "json").json()["found"] is False


def _squeezed(text: str) -> list[str]:
    """Return the lines of a table with two spaces between cells."""
    lines = [line.split("  ") for line in text.splitlines()]
    return ["  ".join(cell.strip() for cell in line if cell.strip()) for line in lines]


def test_flags_and_removes_say_whether_they_changed_anything(key: str) -> None:
    assert "it was not raised" in types("disable", key, "-f", "on").err
    assert types("enable", key, "-f", "on").err == "raised\n"
    assert "it was raised already" in types("enable", key, "-f", "on").err
    assert types("disable", key, "-f", "on").err == "lowered\n"

    types("add", key, "-f", "tea")
    assert types("remove", key, "-f", "tea").code == Exit.OK
    gone = types("remove", key, "-f", "tea")
    assert (gone.code, gone.err) == (Exit.ERROR, f"nothing was at things/{key} tea\n")
    whole = types("remove", key)
    assert whole.code == Exit.USAGE
    assert f"everwrite delete things {key}" in whole.err


def test_a_register_takes_what_put_takes(key: str) -> None:
    assert types("assign", key, '{"a": 1}', "--kind", "json").err == "assigned\n"
    assert types("show", key, "-o", "json").json()["value"] == {"a": 1}
    types("assign", key, "-", stdin=b"\xff\x00")
    assert types("show", key, "-o", "json").json()["value_b64"] == "/wA="
    assert types("assign", key, "tea", "--kind", "json").code == Exit.USAGE


def test_get_and_delete_know_what_a_type_is(key: str) -> None:
    types("include", key, "red", "-f", "tags")

    found = everwrite("get", "things", key)
    assert (found.code, found.out) == (Exit.OK, '{"tags":["red"]}')
    assert f"kind map: `everwrite type show things {key}` shows it in full" in found.err
    told = everwrite("get", "things", key, "-o", "json").json()
    assert (told["values"], told["kinds"]) == ([{"tags": ["red"]}], ["map"])
    assert everwrite("delete", "things", key).code == Exit.OK
    assert types("show", key).code == Exit.ERROR
    assert "was deleted" in types("show", key).err


def test_all_types_of_a_clash_are_shown(key: str) -> None:
    types("add", key, "3", "-f", "tea")
    everwrite("put", "things", key, "plain")  # by who has seen nothing of it

    shown = types("show", key)
    assert shown.code == Exit.OK
    first, plain, second, *table = shown.out.splitlines()
    assert (first, plain) == ("--- sibling 1 of 2, register", "plain")
    assert second == "--- sibling 2 of 2, map"
    assert [line.split() for line in table] == [
        ["FIELD", "TYPE", "VALUE"],
        ["tea", "counter", "3"],
    ]
    assert "kind register, map; answered by 1 owner" in shown.err
    told = types("show", key, "-o", "json").json()
    assert (told["type"], told["value"]) == ("register", "plain")
    (beside,) = told["beside"]
    assert (beside["type"], beside["value"]["tea"]["value"]) == ("map", 3)
    assert types("show", key, "-f", "tea").out == "3\n"
    assert types("show", key, "-f", "none").code == Exit.ERROR


def test_a_plain_value_beside_a_map_is_taken_away_alone(key: str) -> None:
    types("add", key, "3", "-f", "tea")
    everwrite("put", "things", key, "plain")

    refused = types("add", key, "-f", "tea")

    assert refused.code == Exit.ERROR
    assert "A plain value was put beside the map that stands there, and hides it." in refused.err
    (context,) = re.findall(r"A delete with the context (\S+) takes that value", refused.err)
    (line,) = re.findall(rf"So does: everwrite (delete things {key} .*)", refused.err)
    assert context in line
    assert everwrite(*shlex.split(line)).code == Exit.OK
    assert types("add", key, "-f", "tea").out == "4\n"


def test_one_type_for_another_is_an_error_that_names_what_is_there(key: str) -> None:
    types("include", key, "red")

    ended = types("add", key)
    assert ended.code == Exit.ERROR
    assert "The write has not happened." in ended.err and "set" in ended.err
    deeper = types("show", key, "-f", "field")
    assert deeper.code == Exit.ERROR
    assert "A set is there, and no map." in deeper.err
    assert f"everwrite type show things {key}\n" in deeper.err
    everwrite("put", "things", f"{key}-2", "tea")
    plain = types("show", f"{key}-2")
    assert plain.code == Exit.ERROR
    assert f"everwrite get things {key}-2" in plain.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "k", "1.5"],
        ["add", "k", "many"],
        ["add", "k", "--fields", "x"],
        ["include", "k"],
        ["enable", "k", "more"],
        ["assign", "k"],
        ["add", "k", "--ttl", "30"],
        ["sum", "k"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str]) -> None:
    verb, key, *more = arguments

    ended = types(verb, key, *more)

    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert "rror: " in ended.err
