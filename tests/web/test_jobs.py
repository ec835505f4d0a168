"""Jobs queue, run, are cancelled, and fail alone: with a worker that follows a script."""

import asyncio
import json
import os
import signal

import pytest

from attractor.papers import record
from attractor.web import jobs
from attractor.web.jobs import Full, Jobs

pytestmark = pytest.mark.usefixtures("scripted")


def order(*script):
    return {"kind": "compare", "problem": "rosenbrock", "methods": ["adam"], "script": list(script)}


def play(tmp_path, scene):
    """Run a scene with jobs that are being done."""

    async def run():
        found = Jobs(tmp_path / "jobs")
        found.load()
        work = asyncio.create_task(found.work())
        try:
            async with asyncio.timeout(60):
                return await scene(found)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await found.stop()

    return asyncio.run(run())


async def until(found, job, state):
    async for _ in found.follow(job, least=0.0):
        if job.state == state and (state != "running" or job.progress):
            return


async def ended(found, job):
    return [(j.state, dict(j.progress)) async for j in found.follow(job, least=0.0) if j is not None]


def test_job_is_followed_to_its_end_and_kept(tmp_path):
    async def scene(found):
        job = found.submit(order("one", "result"))
        states = await ended(found, job)
        return job, states

    job, states = play(tmp_path, scene)
    assert states[0][0] == "queued"
    assert states[-1][0] == "done"
    assert job.progress["label"] == "one"
    assert job.share == 0.25
    again = Jobs(tmp_path / "jobs")
    again.load()
    assert again.get(job.id).asdict() == job.asdict()


def test_the_same_order_is_not_doubled_and_the_queue_ends(tmp_path):
    async def scene(found):
        first = found.submit(order("one", "wait"))
        assert found.submit(order("one", "wait")) is first
        await until(found, first, "running")
        waiting = [found.submit(order(str(i))) for i in range(jobs.WAITING)]
        with pytest.raises(Full, match="jobs wait already"):
            found.submit(order("one more"))
        await found.cancel(waiting[0])
        await found.cancel(first)
        await ended(found, waiting[-1])
        return first, waiting

    first, waiting = play(tmp_path, scene)
    assert first.state == "cancelled"
    assert [j.state for j in waiting] == ["cancelled", *["done"] * (jobs.WAITING - 1)]


@pytest.mark.parametrize(
    ("script", "message"),
    [(["killed"], "the worker ended by SIGKILL"), (["raise"], "RuntimeError: it broke")],
)
def test_a_worker_that_dies_takes_nothing_with_it(tmp_path, script, message):
    async def scene(found):
        bad, good = found.submit(order("one", *script)), found.submit(order("result"))
        await ended(found, good)
        return bad, good

    bad, good = play(tmp_path, scene)
    assert (bad.state, bad.message) == ("failed", message)
    assert good.state == "done"


def test_a_worker_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", 0.05)

    async def scene(found):
        job = found.submit(order("deaf", "one", "wait"))
        await until(found, job, "running")
        await found.cancel(job)
        await ended(found, job)
        return job

    assert play(tmp_path, scene).state == "cancelled"


def test_a_killed_process_is_told_of(tmp_path):
    async def scene(found):
        job = found.submit(order("one", "wait"))
        await until(found, job, "running")
        os.kill(found._process.pid, signal.SIGKILL)
        await ended(found, job)
        return job

    assert play(tmp_path, scene).state == "failed"


def test_a_job_may_take_only_so_long(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "LONGEST", 0.3)

    async def scene(found):
        job = found.submit(order("wait"))
        await ended(found, job)
        return job

    job = play(tmp_path, scene)
    assert job.state == "failed"
    assert job.message.startswith("it took longer than")


def test_what_a_server_left_unfinished_has_failed(tmp_path):
    async def scene(found):
        job = found.submit(order("one", "wait"))
        await until(found, job, "running")
        return job

    job = play(tmp_path, scene)
    (tmp_path / "jobs" / "other").mkdir()
    (tmp_path / "jobs" / "other" / "job.json").write_text(json.dumps({"not": "ours"}))
    again = Jobs(tmp_path / "jobs")
    again.load()
    assert list(again.jobs) == [job.id]
    assert again.get(job.id).state == "failed"
    assert again.get("../other") is None


def test_events_of_a_check_show_its_verdicts(client, monkeypatch):
    house = client.app.state.house
    verdict = next(iter(record.read("lion-k").quick.values()))
    job = jobs.Job("0" * 16, {"kind": "check", "slug": "lion-k"}, "done", verdicts=[verdict.asdict()])
    house.jobs.jobs[job.id] = job
    with client.stream("GET", f"/jobs/{job.id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event, data, *_ = answer.iter_lines()
    assert event == "event: done"
    html = json.loads(data.removeprefix("data: "))
    assert 'class="verdict holds"' in html
    assert client.get(f"/jobs/{job.id}").text.count("<h1>") == 1
    assert client.get("/status").status_code == 200
