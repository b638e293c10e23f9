"""Sounds that no catalogue of music has, made on the spot: bare tones and chords, noise, clicks, a kind of speech.

A codec trained on music alone learns that music is all there is. These teach it tones of any frequency at any level,
gliding or held, and what is no music at all.
"""

from __future__ import annotations

import numpy as np

_LOWEST_HZ = 32.703  # C1


def sound(random: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """One sound drawn by `random`: float32 `[2, samples]`, peak −36 to −1 dB, now and then with silence in it."""
    kinds = (tones, noise, clicks, speech)
    audio = kinds[random.choice(len(kinds), p=(0.55, 0.2, 0.1, 0.15))](random, samples, sample_rate)
    if random.random() < 0.1:
        start, stop = sorted(random.integers(0, samples, 2))
        audio[start:stop] = 0.0
    stereo = np.stack([audio, audio])
    if random.random() < 0.4:
        stereo *= random.uniform(0.1, 1.0, (2, 1))
    peak = 10 ** (random.uniform(-36.0, -1.0) / 20)
    return (stereo * (peak / max(float(np.abs(stereo).max()), 1e-9))).astype(np.float32)


def tones(random: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """One to four notes from C1 to C8, in no tuning, held, gliding or with vibrato, of one timbre: `[samples]`."""
    time = np.arange(samples) / sample_rate
    audio = np.zeros(samples)
    first = random.uniform(0, 84)
    slope = random.choice([0.5, 1.0, 1.5, 2.0])
    count = int(random.choice([1, 1, 3, 8, 24]))
    odd = 1 + (random.random() < 0.3)
    for note in range(int(random.choice([1, 1, 2, 4]))):
        semitones = np.full(samples, min(first + note * random.uniform(3, 8), 84.0))
        if random.random() < 0.25:
            semitones += random.uniform(-12, 12) * time / time[-1]
        elif random.random() < 0.2:
            semitones += random.uniform(0.1, 0.6) * np.sin(2 * np.pi * random.uniform(3, 8) * time)
        hz = _LOWEST_HZ * 2 ** (semitones.clip(0, 88) / 12)
        turns = 2 * np.pi * (np.cumsum(hz) / sample_rate + random.random())
        top = float(hz.max())
        for partial in range(1, 1 + count * odd, odd):
            if partial * top > 0.45 * sample_rate:
                break
            audio += np.sin(partial * turns + (partial > 1) * random.uniform(0, 2 * np.pi)) / partial**slope
    return audio * _swell(random, time)


def noise(random: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """A band of noise with a slope, held or in bursts: `[samples]`."""
    spectrum = np.fft.rfft(random.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / sample_rate).clip(20.0)
    centre, octaves = 2 ** random.uniform(6, 13.5), random.uniform(0.3, 5)
    shape = hz ** -random.uniform(0, 1) / (1 + (np.log2(hz / centre) / octaves) ** 4)
    audio = np.fft.irfft(spectrum * shape, samples)
    time = np.arange(samples) / sample_rate
    if random.random() < 0.5:
        rate, decay = random.uniform(1, 12), random.uniform(8, 80)
        audio *= np.exp(-decay * (time * rate % 1) / rate)
    return audio * _swell(random, time)


def clicks(random: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """Impulses, each with a short ring, regular or not: `[samples]`."""
    hits = np.zeros(samples)
    hits[random.integers(0, samples, random.integers(2, 40))] = random.uniform(-1, 1)
    time = np.arange(min(samples, sample_rate // 10)) / sample_rate
    ring = np.exp(-time * random.uniform(100, 3000)) * np.cos(2 * np.pi * time * 2 ** random.uniform(8, 13))
    size = 2 ** int(np.ceil(np.log2(samples + len(ring))))
    return np.fft.irfft(np.fft.rfft(hits, size) * np.fft.rfft(ring, size), size)[:samples]


def speech(random: np.random.Generator, samples: int, sample_rate: int) -> np.ndarray:
    """Vowels of a voice that wanders in pitch, syllable by syllable, with hisses between: `[samples]`."""
    time = np.arange(samples) / sample_rate
    knots = np.arange(0, time[-1] + 0.4, 0.2)
    hz = np.interp(time, knots, random.uniform(80, 260) * 2 ** random.uniform(-0.3, 0.3, len(knots)))
    turns = np.cumsum(hz) / sample_rate % 1
    pulses = (turns < 0.4) * np.sin(np.pi * turns / 0.4) ** 2
    audio = np.zeros(samples)
    start = 0
    while start < samples:
        stop = min(samples, start + int(random.uniform(0.08, 0.3) * sample_rate))
        hissing = random.random() < 0.2
        part = random.standard_normal(stop - start) * 0.3 if hissing else pulses[start:stop]
        spectrum = np.fft.rfft(part)
        bins = np.fft.rfftfreq(stop - start, 1 / sample_rate)
        formants = (random.uniform(3000, 8000),) if hissing else random.uniform((250, 800, 2200), (850, 2200, 3300))
        shape = sum(1 / (1 + ((bins - formant) / (0.1 * formant + 40)) ** 2) for formant in formants)
        edge = np.hanning(stop - start) ** 0.25
        audio[start:stop] = np.fft.irfft(spectrum * shape, stop - start) * edge * (random.random() > 0.15)
        start = stop
    return audio


def _swell(random: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """An envelope: held, rising, falling or struck."""
    kind = random.integers(4)
    start = np.minimum(1.0, time / random.uniform(0.002, 0.1))
    if kind == 0:
        return start
    if kind == 1:
        return start * np.exp(-time * random.uniform(0.5, 6))
    delay = random.uniform(0, 0.7 * time[-1])
    late = np.clip((time - delay) / random.uniform(0.002, 0.3), 0, 1)
    return late * np.exp(-np.maximum(time - delay, 0) * random.uniform(0, 4)) if kind == 2 else 1 - late
