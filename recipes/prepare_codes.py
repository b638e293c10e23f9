"""Encode every track of a manifest once: `python recipes/prepare_codes.py --manifest M --root R -o data/codes`."""

from __future__ import annotations

import argparse

from rich.progress import track as progress

from audiogen.data.codes import prepare_codes
from audiogen.data.manifest import read_manifest
from audiogen.training.progress import run_command


def main(manifest: str, root: str, codec: str, folder: str, jobs: int) -> None:
    """Prepare, with progress and time left; what is there already is skipped."""
    tracks = read_manifest(manifest)
    for _ in progress(prepare_codes(codec, tracks, root, folder, jobs), "encoding tracks", total=len(tracks) + 1):
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", default="data/starter/manifest.jsonl")
    parser.add_argument("--root", default="data/starter")
    parser.add_argument("--codec", default="audiogen/models/mini/codec", help="the codec's model folder")
    parser.add_argument("-o", "--output", default="data/codes")
    parser.add_argument("--jobs", type=int, default=0, help="processes; 0 for one a core")
    told = parser.parse_args()
    run_command(lambda: main(told.manifest, told.root, told.codec, told.output, told.jobs))
