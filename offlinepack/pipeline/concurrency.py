"""Run jobs concurrently, and raise one error with the findings of all jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from offlinepack.errors import OfflinepackError, Text
from offlinepack.progress import ProgressCallback, T

MAX_RESOLVERS = 6
"""concurrent resolvers: after the first, which runs alone, they wait for the network more than they compute"""


def run_concurrently(
    jobs: Sequence[Callable[[], T]], label: Text, progress: ProgressCallback, workers: int = MAX_RESOLVERS
) -> list[T]:
    """Run all jobs and return their results in order; raise one error with the findings of all that failed."""
    with ThreadPoolExecutor(max(1, min(len(jobs), workers))) as pool:
        return collect_results(progress(label, pool.map(capture_error, jobs), len(jobs)))


def run_in_order(jobs: Iterable[Callable[[], T]]) -> Iterator[T | OfflinepackError]:
    """Yield the result of each job in turn, or its error, for `collect_results`."""
    return map(capture_error, jobs)


def capture_error(job: Callable[[], T]) -> T | OfflinepackError:
    """Return the result of a job, or its error, so that the other jobs go on."""
    try:
        return job()
    except OfflinepackError as error:
        return error


def collect_results(results: Iterable[T | OfflinepackError]) -> list[T]:
    """Return all results; raise one error with the findings of all errors, of the kind with the lowest exit code."""
    values: list[T] = []
    errors: list[OfflinepackError] = []
    for result in results:
        if isinstance(result, OfflinepackError):
            errors.append(result)
        else:
            values.append(result)
    if errors:
        first = min(errors, key=lambda error: error.exit_code)
        findings = {finding.render(): finding for error in errors for finding in error.findings}
        # a subclass with a constructor of its own cannot be made of findings alone
        kind = next(cls for cls in type(first).__mro__ if "__init__" not in vars(cls) or cls is OfflinepackError)
        raise kind(*findings.values())
    return values
