"""Runs jobs one after the other in this process, or several at a time in processes of their own."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import Any, Protocol

from stepsearch.cli.main import silence_loading_bars
from stepsearch.cli.progress import Report
from stepsearch.errors import StepSearchError, TrainingError


class Job(Protocol):
    """What can be done in another process."""

    @property
    def label(self) -> str:
        """Name for people, unlike any other job's."""
        ...

    @property
    def needs(self) -> "Job | None":
        """The job that has to be finished before this one."""
        ...

    def perform(self, report: Report) -> None:
        """Do it, and report meanwhile."""
        ...


class Display(Protocol):
    """Shows which jobs are running and how far they are."""

    def begin(self, label: str) -> None: ...

    def report(self, label: str, share: float, note: str) -> None: ...

    def end(self, label: str) -> None: ...


def run_in_turn(jobs: Sequence[Job], display: Display) -> None:
    """Run jobs one after the other, here.

    Raises:
        StepSearchError: what a job raised; its label is put before the message.
    """
    for job in jobs:
        display.begin(job.label)
        try:
            job.perform(partial(display.report, job.label))
        except StepSearchError as error:
            raise _labelled(job, error) from error
        display.end(job.label)


def run_side_by_side(jobs: Sequence[Job], processes: int, display: Display) -> None:
    """Run jobs in so many processes, each job as soon as the one that it needs is finished.

    When one fails, or this process is interrupted, the others are asked to end, and are waited for: a training run
    leaves a checkpoint of its last whole step.

    Raises:
        StepSearchError: the first error of a job; its label is put before the message.
        RuntimeError: a job has a bug; its traceback is in the message.
        KeyboardInterrupt: this process, or a job, was interrupted.
    """
    waiting = list(jobs)
    unfinished = {job.label for job in jobs}
    context = multiprocessing.get_context("spawn")
    # What ends a run elsewhere ends it here as Ctrl-C does, so that no process is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _dying_together([_Worker(context) for _ in range(min(processes, len(jobs)))]) as workers:
        while unfinished:
            for worker in (worker for worker in workers if worker.is_idle):
                ready = (job for job in waiting if job.needs is None or job.needs.label not in unfinished)
                job = next(ready, None)
                if job is not None:
                    waiting.remove(job)
                    worker.give(job)
                    display.begin(job.label)
            for worker in _speaking(workers):
                finished = worker.hear(display)
                if finished is not None:
                    unfinished.discard(finished)
                    display.end(finished)


class _Worker:
    """A process that does one job after the other, seen from outside."""

    def __init__(self, context: SpawnContext) -> None:
        self.connection, theirs = context.Pipe()
        self.job: Job | None = None
        self._is_ready = False
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        # Until it has a handler of its own, Ctrl-C is no business of the new process.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, previous)
        theirs.close()

    @property
    def is_idle(self) -> bool:
        return self._is_ready and self.job is None

    def give(self, job: Job) -> None:
        self.job = job
        self.connection.send(job)

    def hear(self, display: Display) -> str | None:
        """Take one message; return the label of the job if it says that it is finished."""
        kind, *content = self._receive()
        if kind == "ready":
            self._is_ready = True
            return None
        job = self.job
        assert job is not None
        if kind == "report":
            display.report(job.label, *content)
            return None
        self.job = None
        if kind == "interrupted":
            raise KeyboardInterrupt
        if kind == "failed":
            raise _labelled(job, content[0])
        if kind == "crashed":
            raise RuntimeError(f"{job.label} has failed:\n{content[0]}")
        return job.label

    def _receive(self) -> tuple[Any, ...]:
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            doing = self.job.label if self.job else "a process"
            self.job = None
            code = self.process.exitcode
            raise TrainingError(
                f"{doing} ended without a word (exit code {code}); a lack of memory does that: give fewer --jobs"
            ) from None

    def ask_to_end(self) -> None:
        """Interrupt the job, as Ctrl-C would, and let no other follow it."""
        with suppress(BrokenPipeError):
            self.connection.send(None)
        if self.job is not None and self.process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)


@contextmanager
def _dying_together(workers: list[_Worker]) -> Any:
    """End all workers at the end of the block, whatever it was: those with a job after what they must still do."""
    try:
        yield workers
    finally:
        try:
            for worker in workers:
                worker.ask_to_end()
            for worker in workers:
                worker.process.join()
        finally:
            # After a second Ctrl-C.
            for worker in workers:
                worker.process.terminate()
                worker.connection.close()


def _speaking(workers: Sequence[_Worker]) -> list[_Worker]:
    """Wait until some workers have something to say, and return them."""
    ready = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in ready]


def _work(connection: Connection) -> None:
    """Do jobs until there are no more; this is the main function of a process."""
    # Ctrl-C on the terminal reaches the first process alone, which passes it on once.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The first process may be gone: nobody is left to tell.
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        connection.send(("ready",))
        while (job := connection.recv()) is not None:
            connection.send(_outcome(job, connection))


def _outcome(job: Job, connection: Connection) -> tuple[Any, ...]:
    """Do a job and return what is to be said of how it ended."""

    def report(share: float, note: str) -> None:
        connection.send(("report", share, note))

    # Not before the first job has come, which imports what has bars.
    silence_loading_bars()
    try:
        job.perform(report)
    except KeyboardInterrupt:
        return ("interrupted",)
    except StepSearchError as error:
        return ("failed", error)
    except BrokenPipeError:
        raise
    except Exception:
        return ("crashed", traceback.format_exc())
    return ("done",)


def _labelled(job: Job, error: StepSearchError) -> StepSearchError:
    return type(error)(f"{job.label}: {error}")
