"""The words the prompt parser knows: each phrase maps to what it means in the vocabulary of `audiogen.interfaces`.

A phrase is one or more lower-case words without punctuation; plural "s" is dropped by the parser where the plural is
not listed. To teach a new word, add it to the line of what it means.
"""

from __future__ import annotations

from typing import NamedTuple

from audiogen.interfaces import INSTRUMENTS, MOODS, STYLES


class Meaning(NamedTuple):
    """What a phrase says: `kind` is one of style, mood, instrument, tempo (place 0…1 in the style's range), bpm,
    energy, metre, without (an instrument left out), voice or filler."""

    kind: str
    value: str | float = ""


# Usual range of each style in bpm, for words such as "slow" and "fast"; the planner draws from learned habits.
TEMPO_RANGES_BPM: dict[str | None, tuple[float, float]] = {
    "ambient": (60, 84), "cinematic": (70, 132), "classical piano": (60, 144), "drum and bass": (168, 178),
    "folk": (84, 136), "house": (118, 128), "jazz": (104, 184), "lo-fi": (70, 90), "rock": (110, 156),
    "techno": (124, 138), None: (64, 148),
}  # fmt: skip

_STYLE_WORDS = {
    "ambient": "ambient, ambience, ambient drone, drone, drones, soundscape, soundscapes, ambient music, new age,"
    " ambient electronic, dark ambient, space ambient, atmospheric ambient",
    "cinematic": "cinematic, film score, film music, movie score, movie music, movie soundtrack, film soundtrack,"
    " trailer music, orchestral, orchestra, symphonic, symphony, soundtrack score, cinematic orchestral,"
    " hybrid score, cinematic ambient, orchestral cinematic, orchestral score, epic orchestral",
    "classical piano": "classical piano, classical, sonatina, recital, romantic era, piano sonata, sonata, nocturne,"
    " etude, piano solo, solo piano, piano piece, prelude, neoclassical, neo classical, modern classical, impromptu,"
    " romantic piano, piano ballade",
    "drum and bass": "drum and bass, drums and bass music, drum n bass, drumnbass, drum bass, dnb, d n b, d and b,"
    " dandb, jungle, liquid dnb, liquid drum and bass, breakcore, jump up, neurofunk, liquid funk",
    "folk": "folk, folk music, folky, folk song, acoustic folk, indie folk, singer songwriter, country, bluegrass,"
    " americana, celtic, campfire, folk ballad",
    "house": "house, house music, deep house, tech house, progressive house, disco house, french house, lo fi house,"
    " lofi house, jazz house, jazzy house, piano house, funky house, ambient house, electro house, disco, nu disco,"
    " edm, dance music, club music, electronic dance",
    "jazz": "jazz, latin, jazz music, jazzy, jazz trio, jazz quartet, swing, swinging, bebop, bossa nova, bossa,"
    " smooth jazz, cool jazz, jazz piano trio, big band, hard bop, latin jazz, jazz ballad, jazz waltz, blues,"
    " bluesy, lounge jazz",
    "lo-fi": "lo fi, lofi, lo fi hip hop, lofi hip hop, lo fi hiphop, lofi hiphop, chillhop, chill hop, lo fi beat,"
    " lofi beat, lo fi beats, lofi beats, study beats, jazz hop, jazzhop, jazzy lo fi, jazzy lofi, lo fi jazz,"
    " lofi jazz, hip hop, hiphop, trip hop, triphop, boom bap, instrumental hip hop, bedroom beats, low fi",
    "rock": "rock, rock music, rock band, rock and roll, rock n roll, indie rock, hard rock, alternative rock,"
    " alt rock, punk, punk rock, metal, heavy metal, grunge, garage rock, folk rock, pop rock, classic rock,"
    " post rock, rocky, blues rock, stoner rock, rock anthem",
    "techno": "techno, dub techno, minimal techno, ambient techno, acid techno, detroit techno, hard techno,"
    " melodic techno, deep techno, industrial techno, techno music, warehouse techno, warehouse, acid, trance",
}

_MOOD_WORDS = {
    "aggressive": "aggressive, angry, furious, fierce, raging, violent, brutal, savage, hostile, heavy, gritty,"
    " rage, menacing, ferocious, hard hitting",
    "bright": "bright, sunny, shiny, sparkling, shimmering, brilliant, glittering, luminous, radiant, summery, crisp",
    "calm": "calm, study, studying, flowing, calming, relaxing, relaxed, relax, peaceful, serene, tranquil,"
    " soothing, chill, chilled, chilling, chillout, chill out, meditative, meditation, mellow, laid back, easy going,"
    " restful, sleepy, unhurried, contemplative, zen",
    "dark": "dark, gloomy, bleak, sinister, ominous, grim, brooding, moody, shadowy, murky, noir, gothic, darkness,"
    " doom",
    "dreamy": "dreamy, dreamlike, ethereal, hazy, floating, floaty, weightless, dream, dreaming, hypnotic, airy,"
    " celestial, spacey, spacious, otherworldly, blissful, lush, drifting, surreal",
    "energetic": "energetic, dance, danceable, club, lively, exciting, excited, dynamic, vigorous, pumping,"
    " high energy, full of energy, punchy, driving, banging, adrenaline, thrilling, frantic, energy",
    "epic": "epic, heroic, grand, majestic, triumphant, monumental, huge, massive, victorious, victory, glorious,"
    " mighty, larger than life, soaring, trailer, adventurous, adventure, battle",
    "happy": "happy, joyful, cheerful, joyous, merry, jolly, glad, feel good, feelgood, good mood, joy, delighted,"
    " festive, celebratory, positive",
    "hopeful": "hopeful, uplifting, optimistic, inspiring, inspirational, hope, encouraging, motivational,"
    " redemptive, reassuring, aspirational",
    "melancholic": "melancholic, melancholy, wistful, nostalgic, nostalgia, bittersweet, longing, yearning, pensive,"
    " reflective, introspective, minor key, rainy",
    "mysterious": "mysterious, mystery, mystical, mystic, enigmatic, eerie, spooky, haunting, haunted, strange,"
    " creepy, secretive, arcane, uncanny",
    "playful": "playful, quirky, whimsical, funny, fun, bouncy, cheeky, mischievous, comical, silly, humorous,"
    " funky, groovy, light hearted, lighthearted",
    "romantic": "romantic, expressive, graceful, elegant, love song, love theme, loving, tender, intimate,"
    " passionate, sensual, romance, sentimental, wedding",
    "sad": "sad, sorrowful, mournful, tragic, heartbroken, heartbreaking, depressing, depressed, somber, sombre,"
    " grief, lonely, tearful, despairing, unhappy, sadness, elegiac, lament, sorrow",
    "tense": "tense, suspenseful, suspense, nervous, anxious, dramatic, restless, urgent, thriller, uneasy, tension,"
    " unsettling, edgy, chase, foreboding",
    "warm": "warm, cosy, cozy, comforting, soft hearted, heartfelt, organic, homely, mellow warm, warmth, velvety,"
    " smooth, soulful",
}

_INSTRUMENT_WORDS = {
    "acoustic guitar": "acoustic guitar, acoustic, fingerpicked, nylon guitar, classical guitar,"
    " steel string guitar, steel guitar, folk guitar, spanish guitar, fingerpicked guitar, fingerpicking,"
    " strummed guitar, acoustic guitars, strumming",
    "bass": "bass, bass guitar, electric bass, bassline, basslines, bass line, bass lines, fingered bass, slap bass",
    "bells": "bells, bell, chimes, glockenspiel, celesta, music box, tubular bells",
    "brass": "brass, horns, horn section, brass section, trombone, trombones, tuba, brass ensemble",
    "cello": "cello, cellos, celli, violoncello, solo cello",
    "choir": "choir, choirs, choral, choir voices, chanting, chant",
    "clarinet": "clarinet, clarinets",
    "distorted guitar": "distorted guitar, overdriven guitar, overdrive guitar, heavy guitar, crunchy guitar,"
    " fuzz guitar, guitar riffs, power chords, distortion guitar, distorted electric guitar, distorted guitars,"
    " metal guitar",
    "double bass": "double bass, upright bass, contrabass, acoustic bass, walking bass, stand up bass",
    "drum machine": "drum machine, drum machines, electronic drums, 808, 909, tr 808, tr 909, 808 drums, 909 drums,"
    " four on the floor, 4 on the floor, programmed drums, electronic beat, electronic beats",
    "drums": "drums, breaks, drum, drum kit, drumkit, drum set, acoustic drums, breakbeat, breakbeats, break beats,"
    " beat, beats, brushes, brushed drums, drummer, live drums, hi hat, hi hats, snare, kick, kick drum, cymbals,"
    " drum loop, drum beat",
    "electric guitar": "electric guitar, clean guitar, clean electric guitar, lead guitar, jazz guitar,"
    " electric guitars, guitar solo",
    "electric piano": "electric piano, rhodes, rhodes piano, fender rhodes, wurlitzer, wurli, e piano, epiano, keys,"
    " electric keys, electric pianos",
    "flute": "flute, flutes, pan flute, piccolo",
    "french horn": "french horn, french horns, horn",
    "harp": "harp, harps, harpist",
    "organ": "organ, organs, hammond, hammond organ, church organ, pipe organ, drawbar organ",
    "pad": "pad, pads, synth pad, synth pads, warm pad, string pad, ambient pad, synthesizer pad",
    "percussion": "percussion, percussions, shaker, shakers, conga, congas, bongo, bongos, tambourine, claps,"
    " handclaps, hand drums, hand percussion, taiko, taikos, cowbell, maracas",
    "piano": "piano, grand piano, upright piano, felt piano, acoustic piano, soft piano, pianist, piano chords,"
    " keyboard",
    "pluck": "pluck, plucks, plucked synth, arp, arps, arpeggio, arpeggios, arpeggiated synth, arpeggiator,"
    " synth pluck, synth arp, stab, stabs, plucked synths, synth plucks",
    "saxophone": "saxophone, sax, saxophones, tenor sax, alto sax, tenor saxophone, alto saxophone, saxes",
    "strings": "strings, string section, string ensemble, string quartet, string orchestra, orchestral strings,"
    " pizzicato, string, bowed strings",
    "synth bass": "synth bass, sub bass, sub, 808 bass, reese, reese bass, acid bass, bass synth, synthesizer bass,"
    " 303, deep bass, electronic bass, wobble bass",
    "synth lead": "synth lead, lead synth, synth, synths, synthesizer, synthesizers, synthesiser, synthesisers,"
    " saw lead, square lead, synth melody, lead, synth leads, analog synth, analogue synth",
    "timpani": "timpani, timpanis, kettle drum, kettle drums, kettledrum, kettledrums",
    "trumpet": "trumpet, trumpets, muted trumpet, flugelhorn, cornet",
    "vibraphone": "vibraphone, vibraphones, vibes solo, marimba, xylophone, mallets",
    "violin": "violin, fiddle, solo violin, viola",
}

_TEMPO_PLACES = {  # place in the style's range, 0 the slow end
    0.0: "very slow, extremely slow, super slow, really slow, very slowly, slowest",
    0.15: "slow, slowly, downtempo, down tempo, slow tempo, sluggish, slow paced, ballad, slow motion, slower",
    0.35: "leisurely, laid back tempo, relaxed tempo, strolling, loping, gentle tempo",
    0.5: "mid tempo, midtempo, medium tempo, moderate tempo, moderate, medium, steady tempo, medium paced,"
    " walking pace",
    0.75: "upbeat, up beat, brisk, quick tempo, faster, bouncing",
    0.85: "fast, quick, uptempo, up tempo, fast tempo, fast paced, rapid, quickly, speedy, running, racing",
    1.0: "very fast, extremely fast, super fast, really fast, breakneck, very quick, fastest, furiously fast",
}
_TEMPO_BPM = {  # the usual middle of the Italian marks
    42.0: "grave", 50.0: "largo, larghissimo", 54.0: "lento", 63.0: "larghetto", 70.0: "adagio", 90.0: "andante",
    96.0: "andantino", 110.0: "moderato", 116.0: "allegretto", 138.0: "allegro", 164.0: "vivace, vivo", 184.0: "presto",
    204.0: "prestissimo",
}  # fmt: skip
_ENERGY = {
    0.1: "very quiet, very soft, pianissimo, barely there, whispering",
    0.25: "quiet, soft, gentle, softly, quietly, gently, delicate, subtle, low energy, sparse, minimal, minimalist,"
    " understated, subdued, light, low key, simple",
    0.5: "medium energy, moderate energy, balanced",
    0.85: "intense, powerful, loud, strong, intensity, full on, big, high octane, hard, explosive, power, anthemic",
    0.95: "very loud, very intense, fortissimo, maximum energy, extremely intense, very high energy",
}
_METRE = {
    2.0: "march, marching, two step",
    3.0: "waltz, waltzing, triple time, triple metre, triple meter, three four, in three, three four time",
    4.0: "common time, four four, in four, four four time",
    5.0: "in five, five four, five four time",
}
_BOTH = {  # phrases that say more than one thing
    "trailer": ("style:cinematic", "mood:epic"),
    "energetic": ("mood:energetic", "energy:0.8"),
    "high energy": ("mood:energetic", "energy:0.9"),
    "driving": ("mood:energetic", "energy:0.75"),
    "dark ambient": ("style:ambient", "mood:dark"),
    "hard techno": ("style:techno", "mood:aggressive"),
    "epic orchestral": ("style:cinematic", "mood:epic"),
    "jazz waltz": ("style:jazz", "metre:3"),
    "four on the floor": ("instrument:drum machine", "metre:4"),
    "big band": ("style:jazz", "instrument:brass"),
    "jazz guitar": ("style:jazz", "instrument:electric guitar"),
    "jazz piano": ("style:jazz", "instrument:piano"),
    "solo piano": ("style:classical piano", "instrument:piano"),
    "piano solo": ("style:classical piano", "instrument:piano"),
    "piano sonata": ("style:classical piano", "instrument:piano"),
    "piano piece": ("style:classical piano", "instrument:piano"),
    "classical piano": ("style:classical piano", "instrument:piano"),
    "romantic piano": ("style:classical piano", "instrument:piano", "mood:romantic"),
    "piano house": ("style:house", "instrument:piano"),
    "beatless": ("without:drums", "without:drum machine", "without:percussion"),
    "drumless": ("without:drums", "without:drum machine", "without:percussion"),
    "guitar": ("instrument:guitar",),
    "guitars": ("instrument:guitar",),
    "slow ballad": ("tempo:0.1",),
    "major key": ("mood:bright",),
}
_VOICE = "vocals, vocal, singing, singer, lyrics, voice, voices, vocalist, sung, rap, rapping"
_FILLER = """
combo riff riffs a an the this that these those some any of in on at by for from to into with and or plus but as is
are be it its i me my we you your us our want would like need please make give create generate compose write play
produce music track tracks song songs piece pieces tune tunes sound sounds sounding clip loop cue composition
instrumental melody melodies harmony harmonies groove grooves rhythm rhythms rhythmic theme themes background score
soundtrack style styled genre mood moods feel feeling feels vibe vibes atmosphere atmospheres atmospheric tone
flavour flavor tempo key time signature metre meter bpm pace speed bar bars long length about around approximately
roughly circa very really quite rather slightly little bit somewhat fairly so too just more less most much many few
lots lot full which has have having featuring features feature including includes include using use used uses over
under through where while there then when similar kind sort type out up down off all one good nice great love
beautiful lovely pretty solo duo trio quartet quintet ensemble band player players played playing based driven led
oriented heavy video game film movie scene scenes podcast intro outro main title underscore do not no without sans
minus except excluding exclude lacking zero nor only dont avoid never free classic modern contemporary original
royalty new typical traditional instrument instruments chord chords chorus verse bridge texture textures layer
layers layered sustained every each both between among also again now still today here other another same
"""

NEGATIONS = frozenset(
    ("no", "not", "without", "sans", "minus", "except", "excluding", "exclude", "lacking", "zero", "nor", "avoid",
     "dont", "never")
)  # fmt: skip
NUMBER_WORDS = {
    "half a": 0.5, "a": 1.0, "an": 1.0, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0,
    "seven": 7.0, "eight": 8.0, "nine": 9.0, "ten": 10.0, "fifteen": 15.0, "twenty": 20.0, "thirty": 30.0,
    "forty": 40.0, "forty five": 45.0, "fifty": 50.0, "sixty": 60.0, "ninety": 90.0,
}  # fmt: skip


def _build() -> dict[tuple[str, ...], tuple[Meaning, ...]]:
    table: dict[tuple[str, ...], tuple[Meaning, ...]] = {}

    def add(phrases: str, *meanings: Meaning) -> None:
        for phrase in phrases.split(","):
            table[tuple(phrase.split())] = meanings

    for word in (*_FILLER.split(), "full of"):
        add(word, Meaning("filler"))
    add(_VOICE, Meaning("voice"))
    for kind, groups in (("energy", _ENERGY), ("metre", _METRE), ("tempo", _TEMPO_PLACES), ("bpm", _TEMPO_BPM)):
        for number, phrases in groups.items():
            add(phrases, Meaning(kind, number))
    for kind, names in (("mood", _MOOD_WORDS), ("instrument", _INSTRUMENT_WORDS), ("style", _STYLE_WORDS)):
        for name, phrases in names.items():
            add(phrases, Meaning(kind, name))
    for phrase, parts in _BOTH.items():
        pairs = (part.split(":") for part in parts)
        meanings = (Meaning(k, float(v) if k in ("tempo", "energy", "metre") else v) for k, v in pairs)
        add(phrase, *meanings)
    return table


PHRASES: dict[tuple[str, ...], tuple[Meaning, ...]] = _build()
LONGEST_PHRASE = max(map(len, PHRASES))
# Words a slip of the keys may be mended to: single words that name a style, a mood or an instrument.
MENDABLE: tuple[str, ...] = tuple(
    phrase[0]
    for phrase, meanings in PHRASES.items()
    if len(phrase) == 1 and len(phrase[0]) >= 5 and meanings[0].kind in ("style", "mood", "instrument")
)

assert set(_STYLE_WORDS) == set(STYLES) and set(_MOOD_WORDS) == set(MOODS)
assert set(_INSTRUMENT_WORDS) == set(INSTRUMENTS)
