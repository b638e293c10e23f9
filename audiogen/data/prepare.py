"""Codes of a manifest's audio, a shard at a time: on every core, on every GPU, or as Ray tasks by the same function.

With them the beats of tracks whose manifest has none.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from audiogen.audio.beats import find_beats
from audiogen.audio.io import read
from audiogen.codec.spectral import SpectralCodec
from audiogen.data.codes import check_codec, digest, find_codes, find_heard_beats, wants_beats
from audiogen.data.manifest import Track, resolve
from audiogen.data.store import Store
from audiogen.files import sha256_file, write_json
from audiogen.interfaces import AudiogenError, Waveform
from audiogen.workers import spread

Workers = Literal["processes", "ray"]

_BLOCK_SECONDS = 30.0
_device = "cpu"


class Job(NamedTuple):
    """Tracks to be encoded into one shard, and those whose beats are to be heard; `size` tracks in all."""

    codec_folder: str
    root: str
    location: str
    size: int
    tracks: tuple[Track, ...]
    listened: tuple[Track, ...]


def prepare_codes(
    codec_folder: str | Path,
    tracks: Sequence[Track],
    root: str | Path,
    location: str | Path,
    jobs: int = 0,
    workers: Workers = "processes",
    shard_seconds: float = 1800.0,
) -> Iterator[tuple[int, int]]:
    """Encode into `location`, a folder or a URL, what is not there yet; yields (done, all) tracks after each shard.

    Of tracks whose manifest says nothing of beats these are heard too, which takes longer than the codes.

    `jobs` processes, or one for each GPU or else core. Memory is that of the codec and a block of audio a worker
    (audio of another rate than the codec's is resampled whole). Raises AudiogenError when `location` holds codes of
    another codec, and for the first track that cannot be read.
    """
    store, codec = Store(location), SpectralCodec.load(codec_folder)
    if store.names("index.json"):
        check_codec(store, codec.fingerprint)
    else:
        _put_json(store, "index.json", {"codec": codec.fingerprint, "num_codebooks": codec.num_codebooks})
    there, heard = find_codes(store), find_heard_beats(store)

    def uncoded(track: Track) -> bool:
        return digest(track) not in there

    def unheard(track: Track) -> bool:
        return wants_beats(track) and digest(track) not in heard

    missing = [track for track in tracks if uncoded(track) or unheard(track)]
    done = len(tracks) - len(missing)
    yield done, len(tracks)
    todo = [
        Job(
            str(codec_folder), str(root), str(location), len(part),
            tuple(filter(uncoded, part)), tuple(filter(unheard, part)),
        )
        for part in _parts(missing, shard_seconds)
    ]  # fmt: skip
    if todo:
        for count in (_on_ray if workers == "ray" else _on_processes)(todo, jobs):
            done += count
            yield done, len(tracks)


def encode_shard(job: Job) -> int:
    """Make one shard and hear the beats → the number of its tracks. What every kind of worker runs."""
    store = Store(job.location)
    if job.tracks:
        codec, name = _codec(job.codec_folder, _device), _name("shard", job.tracks)
        parts = [_encode(codec, track, job.root) for track in job.tracks]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "codes.npy"
            np.save(file, np.concatenate(parts), allow_pickle=False)
            store.put(f"{name}.npy", file)
            sha256 = sha256_file(file)
        told = [[digest(track), len(part)] for track, part in zip(job.tracks, parts, strict=True)]
        _put_json(store, f"{name}.json", {"codec": codec.fingerprint, "sha256": sha256, "tracks": told})
    if job.listened:
        heard = {digest(track): _hear(track, job.root) for track in job.listened}
        _put_json(store, f"{_name('beats', job.listened)}.json", heard)
    return job.size


def _name(kind: str, tracks: Sequence[Track]) -> str:
    """The same for the same tracks, so that a shard left without its list is made again, not twice."""
    return f"{kind}-" + hashlib.sha256("".join(map(digest, tracks)).encode()).hexdigest()[:16]


def _hear(track: Track, root: str) -> list[list[float]]:
    """Beats and downbeats in seconds; none of either where no beat is found."""
    path = resolve(root, track)

    def part(start: float, length: float) -> Waveform:
        return read(path, channels=1, start_seconds=start, seconds=length)

    found = find_beats(part, track.seconds, track.tempo_bpm, track.beats_per_bar)
    return [[], []] if found is None else [np.round(times, 4).tolist() for times in found]


def _encode(codec: SpectralCodec, track: Track, root: str) -> np.ndarray:
    """Codes of a track, int16 `[T, K]`, block after block."""
    path, stream = resolve(root, track), codec.streaming_encoder(1)
    length = _BLOCK_SECONDS if track.sample_rate == codec.sample_rate else track.seconds
    parts, start = [], 0.0
    while start < track.seconds - 1e-9:
        block = read(path, codec.sample_rate, codec.channels, start, length).samples[None].to(_device)
        parts.append(stream.encode(block).cpu())
        start += length
    parts.append(stream.flush().cpu())
    return torch.cat(parts, 2)[0].T.numpy().astype(np.int16)


@lru_cache(maxsize=1)
def _codec(folder: str, device: str) -> SpectralCodec:
    return SpectralCodec.load(folder).to(device)


def _parts(tracks: Sequence[Track], seconds: float) -> Iterator[tuple[Track, ...]]:
    """Tracks in a row of at most so many seconds, or one that is longer."""
    part: list[Track] = []
    for track in tracks:
        if part and sum(each.seconds for each in part) + track.seconds > seconds:
            yield tuple(part)
            part = []
        part.append(track)
    if part:
        yield tuple(part)


def _on_processes(todo: list[Job], jobs: int) -> Iterator[int]:
    gpus = torch.cuda.device_count()
    devices = multiprocessing.get_context("spawn").Queue()
    for index in range(gpus and (jobs or gpus)):
        devices.put(f"cuda:{index % gpus}")
    on_gpus = (_take_device, devices) if gpus else ()
    for _, count in spread(encode_shard, todo, jobs or gpus, *on_gpus):
        yield count


def _take_device(devices: Any) -> None:
    global _device
    _device = devices.get()


def _on_ray(todo: list[Job], jobs: int) -> Iterator[int]:
    """At most `jobs` tasks at once, or as many as the cluster has cores for; a GPU each where it has some."""
    try:
        import ray
    except ImportError:
        raise AudiogenError("--workers ray needs Ray on every machine: pip install 'audiogen[ray]'") from None
    if not ray.is_initialized():
        ray.init()  # the cluster of RAY_ADDRESS, or one on this machine
    has = ray.cluster_resources()
    gpu = 1 if has.get("GPU") else 0
    task = ray.remote(num_cpus=1, num_gpus=gpu)(_ray_task)
    most = jobs or int(has.get("GPU") or has.get("CPU") or 1) * 2
    waiting = list(reversed(todo))
    running: list[Any] = []
    while waiting or running:
        while waiting and len(running) < most:
            running.append(task.remote(waiting.pop()))
        ready, running = ray.wait(running)
        for item in ready:
            yield ray.get(item)


def _ray_task(job: Job) -> int:
    global _device
    torch.set_num_threads(1)
    _device = "cuda" if torch.cuda.is_available() else "cpu"
    return encode_shard(job)


def _put_json(store: Store, name: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / name, value)
        store.put(name, Path(folder) / name)
