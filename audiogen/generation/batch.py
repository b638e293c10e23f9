"""Many clips to files, as many at once as the scheduler plays."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from audiogen.audio.sinks import Subtype, WavSink
from audiogen.generation.generator import Generator, Request
from audiogen.generation.render import Progress, Rendered, clip_sink, record, write_beside
from audiogen.generation.scheduler import Scheduler

AT_ONCE = 16


def render_batch(
    generator: Generator, clips: Sequence[tuple[Request, Path]], subtype: Subtype, plot: bool, progress: Progress,
    finished: Callable[[int, Rendered], None],
) -> None:  # fmt: skip
    """Write each clip and what belongs to it; `finished` is told of each. The codes of a clip are those it has alone.

    A clip has its final name when it is whole; an error or Ctrl-C drops those that are not, and leaves the others.
    """
    total = sum(request.score.seconds for request, _ in clips)
    done, began = 0.0, time.monotonic()
    left = [max(1, round(request.score.seconds * generator.sample_rate)) for request, _ in clips]
    sinks: dict[int, WavSink] = {}
    told = [record(generator, request) for request, _ in clips]
    try:
        for index, audio in Scheduler(generator, running=AT_ONCE).play([request for request, _ in clips]):
            path = clips[index][1]
            if index not in sinks:
                sinks[index] = clip_sink(generator, told[index], path, subtype)
                sinks[index].__enter__()
            sinks[index].write(audio)
            left[index] -= audio.samples.shape[1]
            done += audio.seconds
            progress(done, total)
            if not left[index]:
                sink = sinks.pop(index)
                sink.__exit__(None, None, None)
                write_beside(path, told[index], plot)
                took = time.monotonic() - began
                finished(index, Rendered(clips[index][0].score.seconds, took, sink.clipped_samples))
    except BaseException:
        for sink in sinks.values():
            sink.__exit__(*sys.exc_info())
        raise
