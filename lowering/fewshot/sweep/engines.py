"""Where tasks run: in this process, in processes of this machine (joblib), or on many machines (Dask distributed).

All three are one function: (function, items) to (position, result) pairs as they finish.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from pefslc.diagnostics.error_codes import Code
from pefslc.diagnostics.errors import CompileError, Problem, quote
from pefslc.fewshot.data.extra import require_package

__all__ = ["DaskScheduler", "Engine", "LocalProcesses"]

A = TypeVar("A")
R = TypeVar("R")

_EXTRA = "sweep"
_SECONDS_TO_CONNECT = 20
_RESUMES = "what was finished is kept: the same command goes on from there"


class Engine(Protocol):
    """`function` and the items must be picklable, and a function of the modules that the workers have."""

    def results(self, function: Callable[[A], R], items: Sequence[A]) -> Iterator[tuple[int, R]]:
        """(position of the item, its result), in the order in which they finish. Raises CompileError, also the first
        that `function` raises. Closed early, it stops what is not finished.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A call whose end is a value, so that it needs no pickled exceptions."""

    function: Callable[[Any], Any]

    def __call__(self, position: int, item: Any) -> tuple[int, Any, tuple[Problem, ...]]:
        try:
            return position, self.function(item), ()
        except CompileError as e:
            return position, None, tuple(e.problems)


@dataclass(frozen=True, slots=True)
class LocalProcesses:
    """On this machine, `jobs` at once; 1: in this process, which needs no joblib."""

    jobs: int = 1

    def results(self, function: Callable[[A], R], items: Sequence[A]) -> Iterator[tuple[int, R]]:
        if self.jobs == 1 or len(items) < 2:
            for position, item in enumerate(items):
                yield position, function(item)
            return
        joblib = require_package("joblib", "joblib", f"a sweep of {self.jobs} processes", _EXTRA)
        ended = require_package(
            "joblib.externals.loky.process_executor", "joblib", "a sweep", _EXTRA
        ).TerminatedWorkerError
        call = joblib.delayed(_Numbered(function))
        pool = joblib.Parallel(n_jobs=min(self.jobs, len(items)), return_as="generator_unordered", batch_size=1)
        running = pool(call(position, item) for position, item in enumerate(items))
        finished = False
        try:
            for outcome in running:
                yield _result(outcome)
            finished = True
        except ended:
            raise CompileError(
                Code.SWEEP_WORKER,
                "a process of the sweep was ended by the system, perhaps for want of memory",
                hint=f"fewer --jobs; {_RESUMES}",
            ) from None
        finally:
            if not finished:
                _stop(running)


@dataclass(frozen=True, slots=True)
class DaskScheduler:
    """On the workers of a Dask scheduler, such as "tcp://10.0.0.1:8786". Tasks of a worker that is lost run again."""

    address: str

    def results(self, function: Callable[[A], R], items: Sequence[A]) -> Iterator[tuple[int, R]]:
        distributed = require_package("distributed", "distributed", "a sweep on many machines", _EXTRA)
        try:
            _reach(self.address)
            client = distributed.Client(self.address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
        except (OSError, ValueError, TypeError) as e:
            raise CompileError(
                Code.SWEEP_WORKER,
                f"cannot reach a scheduler at {quote(self.address)}: {getattr(e, 'strerror', None) or e}",
                hint="start one: `dask scheduler`, and on each machine `dask worker --nthreads 1 tcp://...`",
            ) from None
        futures: list[Any] = []
        try:
            call = _Numbered(function)
            # pure=False: the results are ours to keep, by our own key.
            futures = [client.submit(call, position, item, pure=False) for position, item in enumerate(items)]
            for _, outcome in distributed.as_completed(futures, loop=client.loop, with_results=True):
                yield _result(outcome)
        except distributed.KilledWorker as e:
            raise CompileError(
                Code.SWEEP_WORKER,
                f"several workers died one after another with the same task ({type(e).__name__})",
                hint=f"look at their logs: perhaps they lack memory; {_RESUMES}",
            ) from None
        finally:
            client.cancel(futures)
            client.close()


def _reach(address: str) -> None:
    """Open a connection and close it. Raises OSError and ValueError: where nobody answers, Dask's client would print a
    traceback of its own when it is collected.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or not parts.port:
        raise ValueError("that is not tcp://HOST:PORT")
    socket.create_connection((parts.hostname, parts.port), timeout=_SECONDS_TO_CONNECT).close()


def _result(outcome: tuple[int, Any, tuple[Problem, ...]]) -> tuple[int, Any]:
    position, result, problems = outcome
    if problems:
        raise CompileError.of(problems)
    return position, result


def _stop(running: Any) -> None:
    """End the processes now: a training may have minutes to go."""
    loky = require_package("joblib.externals.loky", "joblib", "a sweep", _EXTRA)
    loky.get_reusable_executor().shutdown(wait=False, kill_workers=True)
    with suppress(RuntimeError):  # the pool says that its workers are gone
        running.close()
