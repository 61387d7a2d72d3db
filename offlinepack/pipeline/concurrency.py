"""Run jobs concurrently, and raise one error with the findings of all jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from offlinepack.errors import OfflinepackError, Text
from offlinepack.progress import ProgressCallback, T

_MAX_RESOLVERS = 6
"""at a time: after the first, which is alone, they wait for the network more than they compute"""


def capture_error(job: Callable[[], T]) -> T | OfflinepackError:
    """The job's result, or its error as a value, so that the others go on."""
    try:
        return job()
    except OfflinepackError as failure:
        return failure


def collect_results(results: Iterable[T | OfflinepackError]) -> list[T]:
    """Every result; where some failed, one error with the findings of all, under the code that comes first."""
    good: list[T] = []
    failures: list[OfflinepackError] = []
    for one in results:
        if isinstance(one, OfflinepackError):
            failures.append(one)
        else:
            good.append(one)
    if failures:
        first = min(failures, key=lambda one: one.exit_code)
        findings = {one.render(): one for failure in failures for one in failure.findings}
        # the kind that is made of findings alone
        kind = next(one for one in type(first).__mro__ if "__init__" not in vars(one) or one is OfflinepackError)
        raise kind(*findings.values())
    return good


def run_concurrently(jobs: Sequence[Callable[[], T]], what: Text, watch: ProgressCallback) -> list[T]:
    """The result of each job, in order; every failure at once."""
    with ThreadPoolExecutor(min(len(jobs), _MAX_RESOLVERS)) as pool:
        return collect_results(watch(what, pool.map(capture_error, jobs), len(jobs)))
