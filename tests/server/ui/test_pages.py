"""The files of the dashboard: all there, small, and under a policy that lets nothing else in."""

from __future__ import annotations

import re

import httpx
import pytest
from tests.client.fake_node import in_loop
from tests.server.http.api import one, problem

from everwrite.server.ui.pages import pages

FIRST_PAINT_BYTES_MAX = 300_000
DIRECTIVES = {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"}


@in_loop
async def test_the_page_comes_with_its_policy() -> None:
    async with one() as (_, client):
        page = await client.get("/ui/")

        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert set(page.headers["content-security-policy"].split("; ")) >= DIRECTIVES
        assert page.headers["x-frame-options"] == "DENY"
        assert "unsafe" not in page.headers["content-security-policy"]


@in_loop
async def test_all_that_a_page_names_is_there() -> None:
    async with one() as (_, client):
        texts = {name: page.body.decode() for name, page in pages().items() if name}
        named = {
            found
            for text in texts.values()
            for found in re.findall(r'(?:from "\./|(?:href|src)=")([a-z]+\.\w+)"', text)
        }

        assert {"app.js", "style.css", "icon.svg"} <= named
        for name in named:
            assert (await client.get(f"/ui/{name}")).status_code == 200


@in_loop
async def test_a_page_is_sent_once_and_then_only_looked_after() -> None:
    async with one() as (_, client):
        first = await client.get("/ui/app.js")
        again = await client.get("/ui/app.js", headers={"If-None-Match": first.headers["etag"]})

        assert first.headers["content-encoding"] == "gzip"
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/ui/../admin.py", "/ui/%2e%2e/pages.py", "/ui/none.js", "/ui//"])
@in_loop
async def test_nothing_else_is_there(path: str) -> None:
    async with one() as (_, client):
        problem(await client.get(path), 404, "not_found")


@in_loop
async def test_who_forgets_the_slash_is_led_there() -> None:
    async with one() as (_, client):
        led = await client.get("/ui")

        assert (led.status_code, led.headers["location"]) == (308, "/ui/")


@in_loop
async def test_the_page_needs_no_secret_and_may_be_linked_to() -> None:
    async with one(secret=b"s3cret") as (_, client):
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}

        assert (await client.get("/ui/", headers=link)).status_code == 200
        assert (await client.get("/v1/events")).status_code == 401
        problem(await client.get("/v1/status", headers=link), 403, "denied")


@in_loop
async def test_other_pages_may_not_use_the_scripts() -> None:
    async with one() as (_, client):
        used = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}

        problem(await client.get("/ui/app.js", headers=used), 403, "denied")


def test_all_files_together_are_a_small_page() -> None:
    assert sum(len(page.body) for name, page in pages().items() if name) < FIRST_PAINT_BYTES_MAX


def test_nothing_comes_from_elsewhere_and_nothing_becomes_markup() -> None:
    for name, page in pages().items():
        text = page.body.decode().replace("http://www.w3.org/2000/svg", "")

        assert not re.search(r"https?://[a-z]", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text), (
            name
        )
        assert not re.search(r"<script(?! type=\"module\" src=)|<style| on\w+=\"", text), name


@in_loop
async def test_head_tells_about_a_page_without_it() -> None:
    async with one() as (_, client):
        head: httpx.Response = await client.head("/ui/")

        assert (head.status_code, head.content) == (200, b"")
