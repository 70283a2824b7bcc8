"""The compiled steps of an engine and what goes with them, and the order in which they come to be.

    warmup     before the first request          afterwards
    full       everything                        nothing
    minimal    the largest of each kind          the others, in the background
    none       nothing                           each when it is first needed

While a step of the right size is missing, a larger one that is there serves.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import jax

from jpaged.runner.program import StepProgram
from jpaged.scheduling.buckets import Bucket, BucketLadder

COPIES = (8, 64, 512, 4096)  # pages copied in one call
LEAST_MOVED = 8  # pages to or from the host in one call; up from there by doubling
COMPILERS = 2  # threads; tracing holds the interpreter's lock, compiling does not
Progress = Callable[[Bucket], object]
logger = logging.getLogger("jpaged")


class CompiledSteps:
    """`step` for every bucket, `resample` for every number of rows, what moves pages, `score`."""

    def __init__(self, program: StepProgram, buckets: BucketLadder, swaps: bool = False):
        self.program, self.buckets, self.swaps = program, buckets, swaps
        self.steps: dict[Bucket, jax.stages.Compiled] = {}
        self.resamples: dict[int, jax.stages.Compiled] = {}
        self.copies: dict[int, jax.stages.Compiled] = {}
        self.gathers: dict[int, jax.stages.Compiled] = {}
        self.scatters: dict[int, jax.stages.Compiled] = {}
        self.score: jax.stages.Compiled | None = None
        self.is_complete = False
        self._lock = threading.Lock()
        self._num_under_way, self._latest_end = 0, 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def num_rows(self) -> list[int]:
        """The numbers of rows that steps have."""
        return sorted({bucket.num_sequences for bucket in self.buckets.all})

    @property
    def num_copies(self) -> list[int]:
        """The numbers of pages that are copied at once; every sequence of a step may need one."""
        most = self.num_rows[-1]
        return [*(count for count in COPIES if count < most), most]

    def plan(self, warmup: str) -> tuple[Bucket, ...]:
        """The buckets compiled before the first request."""
        essential = (self.buckets.decode[-1], self.buckets.mixed[-1])
        return {"none": (), "minimal": essential, "full": self.buckets.all}[warmup]

    def warm_up(self, warmup: str, on_compiled: Progress = lambda bucket: None) -> None:
        """Compiles what `plan` says (or reads it from the persistent cache)."""
        with ThreadPoolExecutor(COMPILERS) as pool:
            lowered = ((bucket, self.program.lower(bucket)) for bucket in self.plan(warmup))
            running = [(bucket, pool.submit(each.compile)) for bucket, each in lowered]
            for bucket, compiled in running:
                self.steps[bucket] = compiled.result()
                on_compiled(bucket)
        if warmup == "full":
            self._compile_rest()
        if warmup == "minimal":
            self._thread = threading.Thread(target=self._compile_rest, name="jpaged-compiler")
            self._thread.start()

    def _compile_rest(self) -> None:
        # rarely used and quick to replace: the buckets come first
        work = [lambda b=bucket: self.step(b) for bucket in self.buckets.all]
        work += [lambda n=count: self.copier(n) for count in self.num_copies]
        if self.swaps:
            counts = {self.num_moved(n + 1) for n in range(self.buckets.all[-1].pages_per_sequence)}
            work += [lambda n=count: self.gather(n) for count in sorted(counts)]
            work += [lambda n=count: self.scatter(n) for count in sorted(counts)]
        work += [self.scorer, *(lambda n=rows: self.resample(n) for rows in self.num_rows)]
        try:
            for compile_one in work:
                # the main thread ends first, and the interpreter waits for this one
                if self._stop.is_set() or not threading.main_thread().is_alive():
                    return
                compile_one()
            self.is_complete = True
        except jax.errors.JaxRuntimeError as error:
            logger.warning("a step could not be compiled, larger ones serve: %s", error)

    def wait(self) -> None:
        """Until everything is compiled."""
        if self._thread is not None:
            self._thread.join()

    def holding(self, bucket: Bucket) -> Bucket:
        """The bucket itself if it is compiled, else the smallest compiled one that holds it."""
        if bucket in self.steps:
            return bucket
        kind = self.buckets.decode if bucket.is_decode else self.buckets.mixed
        larger = [
            b
            for b in kind
            if b in self.steps and all(x >= y for x, y in zip(b, bucket, strict=True))
        ]
        return min(larger, default=bucket)

    @property
    def latest(self) -> float:
        """When something was compiled last, on the monotonic clock; now, while something is."""
        return time.monotonic() if self._num_under_way else self._latest_end

    @property
    def num_compiled(self) -> int:
        kinds = (self.steps, self.resamples, self.copies, self.gathers, self.scatters)
        return sum(map(len, kinds)) + (self.score is not None)

    def _get[Key](
        self,
        kind: dict[Key, jax.stages.Compiled],
        key: Key,
        lower: Callable[[Key], jax.stages.Lowered],
    ) -> jax.stages.Compiled:
        if key not in kind:
            with self._under_way():
                kind[key] = lower(key).compile()
        return kind[key]

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        with self._lock:
            self._num_under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_under_way -= 1
                self._latest_end = time.monotonic()

    def step(self, bucket: Bucket) -> jax.stages.Compiled:
        return self._get(self.steps, bucket, self.program.lower)

    def resample(self, num_rows: int) -> jax.stages.Compiled:
        return self._get(self.resamples, num_rows, self.program.lower_resample)

    def copier(self, num_copies: int) -> jax.stages.Compiled:
        return self._get(self.copies, num_copies, self.program.lower_copy)

    def num_moved(self, num_pages: int) -> int:
        """The compiled number of pages that so many are padded to, on their way to the host."""
        return max(LEAST_MOVED, 1 << (num_pages - 1).bit_length())

    def gather(self, num_pages: int) -> jax.stages.Compiled:
        return self._get(self.gathers, self.num_moved(num_pages), self.program.lower_gather)

    def scatter(self, num_pages: int) -> jax.stages.Compiled:
        return self._get(self.scatters, self.num_moved(num_pages), self.program.lower_scatter)

    def scorer(self) -> jax.stages.Compiled:
        if self.score is None:
            with self._under_way():
                self.score = self.program.lower_score().compile()
        return self.score

    def temporary_bytes(self) -> int:
        """The most memory that a compiled step sets aside, for its answer too."""
        most = 0
        for step in list(self.steps.values()):
            stats = step.memory_analysis()
            if stats is not None:  # not every platform tells
                # the cache is an output too, but lies where it did
                fresh = stats.output_size_in_bytes - stats.alias_size_in_bytes
                most = max(most, stats.temp_size_in_bytes + fresh)
        return most

    def close(self) -> None:
        """Stops the compiler and lets everything go."""
        self._stop.set()
        self.wait()
        for kind in (self.steps, self.resamples, self.copies, self.gathers, self.scatters):
            kind.clear()
        self.score = None
