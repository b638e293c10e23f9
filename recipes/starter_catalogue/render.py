"""From a piece to sound: MIDI by mido, audio by the FluidSynth program, loudness by the mastering module."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import mido
import numpy as np
import soundfile

from audiogen.audio.mastering import master
from audiogen.files import atomic_path
from audiogen.interfaces import AudiogenError

from .model import Part, Piece

SAMPLE_RATE = 48_000
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
TICKS = 960
RENDERING = 1  # raise it when the way of rendering changes: every piece is then rendered anew
_DRUM_CHANNEL = 9
_WAV_HEADER_BYTES = 44
_FADE_SECONDS = 1.5
_WIDEST = 0.6
_GAIN = 0.5  # leaves headroom before mastering
# Fewer voices and larger blocks than FluidSynth's defaults: a quarter less work, no difference to be heard.
_OPTIONS = (
    "synth.dynamic-sample-loading=1", "audio.period-size=1024", "synth.polyphony=80", "synth.chorus.nr=2",
)  # fmt: skip
_PUMP = ((0.0, 62), (0.1, 78), (0.2, 96), (0.3, 112), (0.45, 127))  # beats after the kick, CC11


def check_tools(soundfont: Path) -> None:
    """Raises AudiogenError with the line that installs what is missing."""
    if shutil.which("fluidsynth") is None:
        raise AudiogenError("the program fluidsynth is missing: sudo apt-get install fluidsynth fluid-soundfont-gm")
    if not soundfont.is_file():
        raise AudiogenError(
            f"{soundfont}: there is no such soundfont: sudo apt-get install fluid-soundfont-gm, or give --soundfont"
        )


def to_midi(piece: Piece) -> mido.MidiFile:
    """A type-1 file: tempo and metre first, then one track a part. Tick 0 is beat 0."""
    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    head = mido.MidiTrack()
    head.append(mido.MetaMessage("track_name", name=piece.id, time=0))
    head.append(mido.MetaMessage("set_tempo", tempo=round(piece.beat_seconds * 1e6), time=0))
    head.append(mido.MetaMessage("time_signature", numerator=piece.beats_per_bar, denominator=4, time=0))
    end = round(piece.seconds / piece.beat_seconds * TICKS)
    head.append(mido.MetaMessage("end_of_track", time=end))
    midi.tracks.append(head)
    channels = [channel for channel in range(16) if channel != _DRUM_CHANNEL]
    for part in piece.parts:
        midi.tracks.append(_track(part, _DRUM_CHANNEL if part.drums else channels.pop(0)))
    return midi


def _track(part: Part, channel: int) -> mido.MidiTrack:
    settings = {7: part.volume, 10: part.pan, 91: part.reverb, 93: part.chorus, 11: 127}
    events = [(0, 0, mido.Message("program_change", channel=channel, program=part.patch.program))]
    for control, value in settings.items():
        events.append((0, 1, mido.Message("control_change", channel=channel, control=control, value=value)))
    for start, end in part.pump:
        for beat in range(round(start), round(end)):
            for after, level in _PUMP:
                change = mido.Message("control_change", channel=channel, control=11, value=level)
                events.append((round((beat + after) * TICKS), 1, change))
    for note in part.notes:
        on, off = round(note.start * TICKS), round((note.start + note.length) * TICKS)
        velocity = max(1, min(127, round(note.velocity * 127)))
        events.append((on, 3, mido.Message("note_on", channel=channel, note=note.pitch, velocity=velocity)))
        events.append((max(off, on + 1), 2, mido.Message("note_off", channel=channel, note=note.pitch, velocity=0)))
    track = mido.MidiTrack()
    now = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        message.time = tick - now
        now = tick
        track.append(message)
    return track


def synthesise(midi_path: Path, samples: int, soundfont: Path) -> np.ndarray:
    """FluidSynth's rendering, cut or padded with silence to `samples`: float32 `[samples, 2]`, not mastered."""
    with tempfile.TemporaryDirectory() as folder:
        raw, settings = Path(folder) / "piece.raw", Path(folder) / "settings"
        settings.write_text("interp 1\n", encoding="ascii")  # linear: a sixth less work than FluidSynth's default
        command = ["fluidsynth", "-niq", "-r", str(SAMPLE_RATE), "-g", str(_GAIN), "-T", "raw", "-O", "float"]
        command += ["-f", str(settings)]
        command += [word for option in _OPTIONS for word in ("-o", option)]
        command += ["-F", str(raw), str(soundfont), str(midi_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not raw.is_file() or not raw.stat().st_size:
            raise AudiogenError(f"{midi_path}: fluidsynth failed: {done.stderr.strip()[-300:] or 'no output'}")
        audio = np.fromfile(raw, dtype=np.float32).reshape(-1, 2)
    result = np.zeros((samples, 2), dtype=np.float32)
    result[: min(samples, len(audio))] = audio[:samples]
    return result


def narrow(audio: np.ndarray) -> np.ndarray:
    """Bring the side (L − R) down to `_WIDEST` of the middle (L + R), by power over the piece, where it is wider: some
    of the soundfont's pads are nearly out of phase and would vanish on one loudspeaker."""
    middle, side = (audio[:, 0] + audio[:, 1]) / 2, (audio[:, 0] - audio[:, 1]) / 2
    ratio = float(np.sqrt(np.vdot(side, side) / max(float(np.vdot(middle, middle)), 1e-12)))
    if ratio <= _WIDEST:
        return audio
    side *= np.float32(_WIDEST / ratio)
    return np.stack([middle + side, middle - side], axis=1)


def midi_bytes(piece: Piece, soundfont: Path) -> bytes:
    """The MIDI file, with a note of how it is rendered: the same bytes mean the same sound."""
    midi = to_midi(piece)
    midi.tracks[0].insert(0, mido.MetaMessage("text", text=f"{soundfont.name}, rendering {RENDERING}", time=0))
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()


def is_rendered(piece: Piece, midi_path: Path, wav_path: Path, soundfont: Path) -> bool:
    """Whether `render` has done its work with this very piece. The MIDI file gets its name last, so it vouches."""
    if not (midi_path.is_file() and wav_path.is_file()):
        return False
    size = round(piece.seconds * SAMPLE_RATE) * 4 + _WAV_HEADER_BYTES
    return wav_path.stat().st_size == size and midi_path.read_bytes() == midi_bytes(piece, soundfont)


def render(piece: Piece, midi_path: Path, wav_path: Path, soundfont: Path) -> None:
    """Write the piece as a mastered 16-bit WAV and as MIDI, each complete under its name."""
    for path in (midi_path, wav_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    midi_path.unlink(missing_ok=True)
    with atomic_path(midi_path) as midi_partial, atomic_path(wav_path) as wav_partial:
        midi_partial.write_bytes(midi_bytes(piece, soundfont))
        audio = synthesise(midi_partial, round(piece.seconds * SAMPLE_RATE), soundfont)
        audio = master(narrow(audio), SAMPLE_RATE)
        fade = round(_FADE_SECONDS * SAMPLE_RATE)
        audio[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)[:, None] ** 2
        soundfile.write(wav_partial, audio, SAMPLE_RATE, subtype="PCM_16")
