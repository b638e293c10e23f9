"""Learn the planner's habits from the training tracks of a manifest.

python recipes/learn_habits.py --manifest data/starter/manifest.jsonl -o audiogen/style/habits.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from audiogen.data.manifest import read_manifest
from audiogen.interfaces import AudiogenError
from audiogen.style.habits import Habits, learn


def main(manifest: Path, output: Path) -> Habits:
    """Read `manifest`, count over its tracks of the split "train", write the habits to `output`."""
    tracks = [track for track in read_manifest(manifest) if track.split == "train"]
    if not tracks:
        raise AudiogenError(f'{manifest}: no track of the split "train" to learn from')
    habits = learn((track.attributes(), track.score()) for track in tracks)
    habits.save(output)
    return habits


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True, help="JSONL with the labels of the tracks")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the JSON to write")
    arguments = parser.parse_args()
    try:
        learned = main(arguments.manifest, arguments.output)
    except AudiogenError as error:
        sys.exit(f"learn_habits: {error}")
    styles = ", ".join(f"{name} ({own.tracks})" for name, own in learned.styles.items())
    print(f"{arguments.output}: {learned.overall.tracks} tracks, {arguments.output.stat().st_size:,} bytes; {styles}")
