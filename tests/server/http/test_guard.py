"""Who may ask: the secret, the names of the machine, and no page of another origin."""

from __future__ import annotations

import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import KEY, one, problem, raw

from everwrite.server.http.guard import Guard, host_in
from everwrite.server.http.problems import Refusal


@in_loop
async def test_with_a_secret_every_request_needs_it_but_for_health() -> None:
    async with one(secret=b"s3cret") as (_, client):
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
            refused = await client.put(KEY, content=b"v", headers=given)
            problem(refused, 401, "denied")
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 200

        right = {"Authorization": "Bearer s3cret", "Host": "db.example.org"}
        assert (await client.put(KEY, content=b"v", headers=right)).status_code == 204
        assert (await client.get(KEY, headers=right)).content == b"v"
        assert (await client.get("/openapi.json")).status_code == 401


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
def test_the_name_of_the_scheme_is_in_any_case(scheme: bytes) -> None:
    guard = Guard(b"s3cret", [])

    guard.check(b"/v1/status", {b"authorization": scheme + b" s3cret"})

    for wrong in (b"Basic s3cret", scheme + b" S3cret", scheme, scheme + b"s3cret"):
        with pytest.raises(Refusal):
            guard.check(b"/v1/status", {b"authorization": wrong})


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7601", "127.0.0.1.evil.example"])
@in_loop
async def test_without_a_secret_a_node_has_only_the_names_of_its_machine(host: str) -> None:
    async with one() as (_, client):
        refused = await client.put(KEY, content=b"v", headers={"Host": host})

        problem(refused, 421, "denied")
        assert (await client.get(KEY)).status_code == 404


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:7601", "[::1]:9", "db"])
def test_names_of_the_machine_are_taken(host: str) -> None:
    Guard(b"", ["db"]).check(b"/", {b"host": host.encode()})


@in_loop
async def test_a_request_without_a_host_is_refused() -> None:
    async with one() as (runtime, _):
        answer = await raw(runtime, b"GET /v1/status HTTP/1.1\r\nconnection: close\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@in_loop
async def test_a_page_of_another_origin_may_not_ask(headers: dict[str, str]) -> None:
    async with one() as (_, client):
        problem(await client.put(KEY, content=b"v", headers=headers), 403, "denied")
        problem(await client.get("/v1/status", headers=headers), 403, "denied")
        assert (await client.get(KEY)).status_code == 404


@in_loop
async def test_a_page_of_this_node_may_ask() -> None:
    async with one() as (_, client):
        mine = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}

        assert (await client.put(KEY, content=b"v", headers=mine)).status_code == 204


def test_a_secret_does_not_let_other_origins_in() -> None:
    headers = {b"host": b"db:7600", b"authorization": b"Bearer s", b"origin": b"http://evil"}

    with pytest.raises(Refusal) as caught:
        Guard(b"s", []).check(b"/v1/status", headers)

    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("host", "name"), [(b"a:1", "a"), (b"[::1]:7600", "::1"), (b"[::1]", "::1"), (b"", "")]
)
def test_the_name_in_a_host_header(host: bytes, name: str) -> None:
    assert host_in(host) == name


@pytest.mark.parametrize("hosts", [(b"evil.example", b"localhost"), (b"localhost", b"localhost")])
@in_loop
async def test_a_request_of_two_hosts_is_refused(hosts: tuple[bytes, bytes]) -> None:
    async with one() as (runtime, _):
        named = b"".join(b"host: %s\r\n" % host for host in hosts)
        answer = await raw(
            runtime, b"GET /v1/status HTTP/1.1\r\n" + named + b"connection: close\r\n\r\n"
        )

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"Host is given twice" in answer
