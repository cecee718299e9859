"""Addresses that must not be read like any other: pages elsewhere, and pages that reading empties."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from inferometer import config
from inferometer.app.plan import plan
from inferometer.sources.scrape import Scraper, Target, open_session

TARGETS = [
    ("http://h:8000", "trtllm", "http://h:8000/prometheus/metrics"),
    ("http://h:8000/metrics", "trtllm", "http://h:8000/prometheus/metrics"),
    ("http://h:8000/metrics", "nim", "http://h:8000/v1/metrics"),
    ("http://h:8000/proxy/metrics", "trtllm", "http://h:8000/proxy/metrics"),
    ("http://h:8000/metrics", "vllm", "http://h:8000/metrics"),
    ("http://h:8000/metrics", "auto", "http://h:8000/metrics"),
]


@pytest.mark.parametrize(("url", "engine", "read"), TARGETS)
def test_a_named_engine_is_read_where_its_page_is(tmp_path, url, engine, read):
    """trtllm-serve has a JSON list at /metrics that empties when it is read: it is not asked there."""
    file = tmp_path / "c.yaml"
    file.write_text(f"workloads: [{{name: w, engines: [{{url: '{url}', engine: {engine}}}]}}]\n")
    targets = plan(config.load(str(file), {}, {}), (), {}).targets
    assert [target.url for target in targets.values()] == [read]


def test_an_address_that_answers_json_is_left_alone_for_a_minute():
    """Whoever owns that list wants it; a page that comes back later is read again."""
    now, calls, body = [1000.0], [], ['[{"iter": 1}]']

    async def metrics(_: web.Request) -> web.Response:
        calls.append(now[0])
        return web.Response(text=body[0])

    async def scenario() -> list[str]:
        app = web.Application()
        app.router.add_get("/metrics", metrics)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        errors = []
        async with open_session() as session:
            scraper = Scraper(Target("e", f"http://127.0.0.1:{port}/metrics"), None, session, lambda: now[0])
            for step, new in ((0, None), (5, None), (50, None), (10, "up 1\n"), (1, None)):
                now[0] += step
                body[0] = new or body[0]
                page = await scraper.read()
                errors.append(page.error)
                assert page.at == now[0]
                assert not page.error or "/prometheus/metrics" in page.detail
        await runner.cleanup()
        return errors

    assert asyncio.run(scenario()) == ["not_metrics", "not_metrics", "not_metrics", "", ""]
    assert calls == [1000.0, 1065.0, 1066.0]
