"""The pages of work that is done here: comparisons, checks, diagnoses, jobs as they go, and saved runs."""

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from attractor.web import orders, runs
from attractor.web.forms import see, text
from attractor.web.jobs import Job
from attractor.web.safety import REPORT_POLICY
from attractor.web.views import View

if TYPE_CHECKING:
    from attractor.web.app import House

HERE = {"check": "papers", "compare": "compare", "diagnose": "diagnose"}  # the page that a job belongs to


async def compare_form(house: "House", request: Request) -> Response:
    asked = request.query_params
    problems = [p["name"] for p in house.registry["problems"]]
    chosen = text(asked.get("problem"), "problem") or "digits-mlp"
    picked = asked.getlist("method")[: orders.METHODS]
    kept = [j for j in house.jobs.every("compare")][:20]
    data = {"here": "compare", "problems": problems, "problem": chosen, "picked": picked, "kept": kept}
    return house.show(request, View("compare.html", {**data, "listed": orders.fitting(house.registry, chosen)}))


async def compare(house: "House", request: Request, form: FormData) -> Response:
    await house.loaded.wait()
    names = [str(m) for m in form.getlist("method")]
    numbers = {k: orders.whole(str(form.get(k) or ""), k) for k in orders.LIMITS}
    order = orders.compare(house.registry, str(form.get("problem") or ""), names, **numbers)
    return see(request, f"/jobs/{house.jobs.submit(order).id}")


async def check(house: "House", request: Request, form: FormData) -> Response:
    return see(request, f"/jobs/{house.jobs.submit(orders.check(request.path_params['slug'])).id}")


async def diagnose_form(house: "House", request: Request) -> Response:
    kept = house.jobs.every("diagnose")[:20]
    return house.show(request, View("diagnose.html", {"here": "diagnose", "kept": kept}))


async def diagnose(house: "House", request: Request, form: FormData) -> Response:
    log = form.get("log")
    if not isinstance(log, UploadFile) or not log.filename:
        raise ValueError("log: expected a file with a training log, CSV or JSON lines")
    ending = next((e for e in orders.ENDINGS if log.filename.lower().endswith(e)), None)
    if ending is None:
        raise ValueError(f"log: expected a file that ends in {', '.join(orders.ENDINGS)}")
    content = await log.read()
    title = text(log.filename, "log", 200)
    job = house.jobs.submit({"kind": "diagnose", "log": f"log{ending}", "title": title}, {f"log{ending}": content})
    return see(request, f"/jobs/{job.id}")


def _job(house: "House", request: Request) -> Job:
    found = house.jobs.get(request.path_params["id"])
    if found is None or (house.settings.public and found.order["kind"] == "diagnose"):
        raise HTTPException(404, "No such job.")
    return found


async def job(house: "House", request: Request) -> Response:
    found = _job(house, request)
    return house.show(request, View("job.html", {"here": HERE[found.order["kind"]], **_shown(house, found)}))


def _shown(house: "House", job: Job) -> dict[str, Any]:
    from attractor.papers import Verdict

    verdicts = [Verdict(**v) for v in job.verdicts]
    before = [j.id for j in house.jobs.jobs.values() if j.active and j.made < job.made]
    return {"job": job, "verdicts": verdicts, "has_report": house.jobs.report(job) is not None, "before": len(before)}


async def events(house: "House", request: Request) -> Response:
    """The job as it goes, as server-sent events that each hold the piece of the page that changed."""
    found = _job(house, request)
    root = request.scope.get("root_path", "")

    async def stream() -> AsyncIterator[str]:
        async for now in house.jobs.follow(found):
            if now is None:
                yield ": still at work\n\n"
                continue
            html = house.render(View("_job.html", _shown(house, now)), root)
            name = "update" if now.active else "done"
            yield f"event: {name}\ndata: {json.dumps(html)}\n\n"

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


async def cancel(house: "House", request: Request, form: FormData) -> Response:
    found = _job(house, request)
    await house.jobs.cancel(found)
    return see(request, f"/jobs/{found.id}")


async def report(house: "House", request: Request) -> Response:
    path = house.jobs.report(_job(house, request))
    if path is None:
        raise HTTPException(404, "It has no report.")
    return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


async def run_list(house: "House", request: Request) -> Response:
    found = await run_in_threadpool(runs.every)
    return house.show(request, View("runs.html", {"here": "runs", "runs": found}))


async def run(house: "House", request: Request) -> Response:
    metric = text(request.query_params.get("metric"), "metric")
    shown = await run_in_threadpool(runs.show, request.path_params["name"], metric)
    return house.show(request, View("run.html", {"here": "runs", **shown}))
