"""The MCP server, asked by the package's own client, in memory and over stdio."""

import json
import os
import sys

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from outgoing import library

from attractor.feed.mcp import server
from attractor.papers import rows

__all__ = ["library"]


def asked(*calls):
    """What the server answers to calls ``(tool, arguments)``: data, or the words of an error."""

    async def ask():
        async with Client(server()) as client:
            return [answer(await client.call_tool(name, arguments)) for name, arguments in calls]

    return anyio.run(ask)


def answer(result):
    if result.is_error:
        return result.content[0].text
    data = result.structured_content
    return data["result"] if set(data) == {"result"} else data


def test_search_and_show():
    found, shown = asked(
        ("search", {"query": "Adam with curvature from Hessian probes", "limit": 3}), ("show", {"slug": "adahessian"})
    )
    assert [row["slug"] for row in found][:1] == ["adahessian"]
    assert len(found) == 3
    assert found[0]["gist"]
    assert shown == json.loads(json.dumps(rows.details("adahessian")))


def test_check_runs_the_claims(monkeypatch):
    from attractor.feed import mcp
    from attractor.papers import record

    ran = []
    verdict = next(iter(record.read("adahessian").quick.values()))
    monkeypatch.setattr(mcp, "run_claims", lambda slug, names: ran.append((slug, names)) or [verdict])
    (found,) = asked(("check", {"slug": "adahessian", "claim": verdict.claim}))
    assert ran == [("adahessian", [verdict.claim])]
    assert found == [json.loads(json.dumps(rows.checked(verdict)))]


def test_feed(library):
    newest, followed = asked(("feed", {"limit": 2}), ("feed", {"follow": "federated"}))
    assert [row["arxiv"] for row in newest] == ["2601.00004", "2601.00003"]
    assert {row["arxiv"] for row in followed} == {"2601.00004", "2601.00003"}
    assert followed[0]["reason"]
    assert all(run["slug"] and run["summary"] for row in newest for run in row["runs"])


def test_what_cannot_be_is_told_to_the_model(library):
    calls = [
        ("show", {"slug": "adahesian"}), ("search", {"query": " "}), ("search", {"query": "x", "room": "kitchen"}),
        ("search", {"query": "x", "limit": 0}), ("feed", {"follow": "sharpe"}), ("feed", {"query": "x", "follow": "y"}),
        ("check", {"slug": "adahessian", "claim": "nothing"}), ("show", {}), ("other", {}),
    ]  # fmt: skip
    words = [
        "did you mean 'adahessian'", "query: expected 1 to 1000", "unknown room", "limit: expected 1 to 50",
        "did you mean 'sharp'", "expected one of them", "unknown claim", "slug", "other",
    ]  # fmt: skip
    for call, told, word in zip(calls, asked(*calls), words, strict=True):
        assert isinstance(told, str), call
        assert word in told, call


def test_tools_say_what_they_are():
    async def ask():
        async with Client(server()) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in anyio.run(ask)}
    assert set(tools) == {"search", "show", "check", "feed"}
    assert tools["search"].annotations.read_only_hint
    assert not tools["check"].annotations.read_only_hint
    assert set(tools["search"].input_schema["properties"]) == {"query", "room", "limit"}
    assert all(tool.description for tool in tools.values())


def test_over_stdio_as_an_assistant_starts_it(tmp_path):
    where = {"ATTRACTOR_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = StdioServerParameters(
        command=sys.executable, args=["-c", "from attractor.cli import main; main()", "mcp"], env=os.environ | where
    )

    async def ask():
        async with Client(stdio_client(command)) as client:
            return answer(await client.call_tool("search", {"query": "neural collapse", "limit": 1}))

    assert len(anyio.run(ask)) == 1
