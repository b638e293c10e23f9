"""Encode every track of a manifest once: `python recipes/prepare_codes.py --manifest M --root R -o data/codes`.

One process for each GPU, or else core; `--workers ray` makes the same work tasks of a Ray cluster, and `-o` may be the
URL of an object store, such as s3://bucket/codes. What is there already is skipped: it may be stopped and begun again.
"""

from __future__ import annotations

import argparse

from rich.progress import Progress

from audiogen.data.manifest import read_manifest
from audiogen.data.prepare import Workers, prepare_codes
from audiogen.training.progress import run_command


def main(manifest: str, root: str, codec: str, location: str, jobs: int, workers: Workers, minutes: float) -> None:
    """Prepare, with progress and time left."""
    tracks = read_manifest(manifest)
    with Progress() as bar:
        task = bar.add_task("encoding tracks", total=len(tracks))
        for done, _ in prepare_codes(codec, tracks, root, location, jobs, workers, 60 * minutes):
            bar.update(task, completed=done)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", default="data/starter/manifest.jsonl")
    parser.add_argument("--root", default="data/starter")
    parser.add_argument("--codec", default="audiogen/models/mini/codec", help="the codec's model folder")
    parser.add_argument("-o", "--output", default="data/codes", help="a folder or a URL")
    parser.add_argument("--jobs", type=int, default=0, help="at once; 0 for one for each GPU, or else core")
    parser.add_argument("--workers", choices=("processes", "ray"), default="processes")
    parser.add_argument("--shard-minutes", type=float, default=30.0, help="audio a shard, done anew when interrupted")
    told = parser.parse_args()
    run_command(
        lambda: main(told.manifest, told.root, told.codec, told.output, told.jobs, told.workers, told.shard_minutes)
    )
