"""The run of a job in the process that asked for it: a Ray driver, as `ray job submit` starts one.

It is the same run as that of the platform's own runners (`BatchRunner`), and the job is one like any other: whoever may
read it sees it in GET /jobs/{id}. Both sides end it: a cancel through the API takes the run's lease away and the driver
ends; SIGTERM, which `ray job stop` sends, cancels the job before anything else, for Ray kills 3 s later. A driver that
dies otherwise leaves its job to the platform (`batch.submission`); one that was fenced off, or whose run failed,
goes on watching until the job has ended, so its exit code is always the job's.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

from batch.progress import Display
from batch.runner import BatchRunner, Work
from fyretoolkit.core.errors import PlatformError
from fyretoolkit.core.jobs import BatchJob
from fyretoolkit.core.lifecycles import JOB, JobStatus, is_terminal
from fyretoolkit.settings import Settings
from fyretoolkit.store.jobs import JobStore

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def drive(
    settings: Settings, jobs: JobStore, job: BatchJob, display: Display, *, work: Work | None = None
) -> BatchJob:
    """Run the job whose first run is this process's; the job once it has ended. SIGTERM and SIGINT cancel it."""
    runner = BatchRunner(
        settings, job.org, job.id, epoch=job.epoch, **({} if work is None else {"work": work})
    )
    run = asyncio.create_task(runner.run())
    wanted = asyncio.Event()
    with _noticing(wanted.set):
        ended = await _follow(jobs, job, display, wanted)
        await asyncio.wait([run])  # it attaches the results of a job that was canceled
    if not run.cancelled() and (error := run.exception()) is not None:
        logger.error("the run in this process failed; the platform went on with the job", exc_info=error)
    return await jobs.get(ended.org, ended.id) or ended


class _noticing:  # noqa: N801 - a context manager, used as a verb
    """While it is open the signals call `notice` instead of ending the process."""

    def __init__(self, notice: Callable[[], None]) -> None:
        self._notice = notice
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        for each in _SIGNALS:
            self._loop.add_signal_handler(each, self._notice)

    def __exit__(self, *_: object) -> None:
        for each in _SIGNALS:
            self._loop.remove_signal_handler(each)


async def _follow(jobs: JobStore, job: BatchJob, display: Display, wanted: asyncio.Event) -> BatchJob:
    """Show the job's progress until it has ended; cancel it once that is wanted. A store may be away meanwhile."""
    while True:
        try:
            if wanted.is_set():
                wanted.clear()
                await _cancel(jobs, job, display)
            current = await jobs.get(job.org, job.id)
        except PlatformError as error:
            display.say(f"{error.code}: {error.message}")
        else:
            if current is None:
                raise PlatformError(
                    "job_not_found", f"{job.id} is gone: it expired, or the platform was emptied."
                )
            display.show(current.succeeded + current.failed, current.total, current.failed)
            if is_terminal(JOB, current.status):
                return current
        try:
            await asyncio.wait_for(wanted.wait(), _LOOK_EVERY_S)
        except TimeoutError:
            continue


async def _cancel(jobs: JobStore, job: BatchJob, display: Display) -> None:
    status = await jobs.finish(job, JobStatus.CANCELED)
    display.say(f"{job.id} is {status or 'gone'}")
