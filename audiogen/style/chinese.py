"""Chinese prompts: what they say, in the English words that the parser knows.

Phrases are found longest first; traditional characters are read as simplified ones. What is not known stays as it is,
and the parser tells it as not understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_IDEOGRAPHS = re.compile(r"[\u3400-\u9fff]")
_TRADITIONAL = str.maketrans(
    "環電貝爾藍調憂鬱樂鋼獨彈舊懷傷歡興奮緊張陽靜寧鬆溫馨極壯麗險詭奇夢節奏鐘兩幾個條長號雙單豎貫風銅絃顫薩"
    "輕緩聲帶無沒強勁擊吉頻慵懶麥類適習歡聽戰爭熱漢諧",
    "环电贝尔蓝调忧郁乐钢独弹旧怀伤欢兴奋紧张阳静宁松温馨极壮丽险诡奇梦节奏钟两几个条长号双单竖贯风铜弦颤萨"
    "轻缓声带无没强劲击吉频慵懒麦类适习欢听战争热汉谐",
)
_NUMBERS = {
    "一": 1,
    "二": 2,
    "两": 2,
    "三": 3,
    "四": 4,
    "五": 5,
    "六": 6,
    "七": 7,
    "八": 8,
    "九": 9,
    "十": 10,
    "半": 0.5,
}
_NUMBER = r"(\d+(?:\.\d+)?)"
_COUNT = rf"(\d+(?:\.\d+)?|[{''.join(_NUMBERS)}])"

_PHRASES: dict[str, str] = {
    # styles
    "环境音乐": "ambient", "氛围音乐": "ambient", "氛围": "ambient", "冥想音乐": "ambient", "环境音": "ambient",
    "电影配乐": "cinematic", "电影音乐": "cinematic", "影视配乐": "cinematic", "管弦乐": "orchestral",
    "交响乐": "orchestral", "交响": "orchestral", "预告片": "trailer", "史诗音乐": "epic orchestral",
    "古典钢琴": "classical piano", "钢琴独奏": "solo piano", "钢琴曲": "piano piece", "夜曲": "nocturne",
    "奏鸣曲": "piano sonata", "练习曲": "etude", "前奏曲": "prelude", "古典音乐": "classical", "古典": "classical",
    "鼓打贝斯": "drum and bass", "鼓与贝斯": "drum and bass", "鼓和贝斯": "drum and bass", "丛林舞曲": "jungle",
    "民谣": "folk", "民间音乐": "folk", "乡村音乐": "country", "凯尔特": "celtic",
    "浩室舞曲": "house", "浩室音乐": "house", "浩室": "house", "迪斯科": "disco", "俱乐部": "club music",
    "爵士乐": "jazz", "爵士": "jazz", "摇摆乐": "swing", "比波普": "bebop", "波萨诺瓦": "bossa nova",
    "蓝调": "blues", "布鲁斯": "blues", "大乐队": "big band",
    "低保真": "lo fi", "嘻哈": "hip hop", "学习节拍": "study beats",
    "摇滚乐": "rock", "摇滚": "rock", "朋克": "punk", "金属乐": "metal", "重金属": "heavy metal",
    "科技舞曲": "techno", "铁克诺": "techno", "泰克诺": "techno", "高科技舞曲": "techno",
    # moods
    "激烈": "aggressive", "愤怒": "angry", "凶猛": "fierce", "明亮": "bright", "阳光": "sunny", "清脆": "crisp",
    "平静": "calm", "宁静": "serene", "安静": "calm", "放松": "relaxing", "舒缓": "soothing", "慵懒": "laid back",
    "轻松": "easy going", "黑暗": "dark", "阴暗": "gloomy", "阴沉": "brooding", "梦幻": "dreamy", "空灵": "ethereal",
    "飘渺": "floating", "催眠": "hypnotic", "有活力": "energetic", "充满活力": "energetic", "活力": "energetic",
    "动感": "dynamic", "史诗般": "epic", "史诗": "epic", "壮丽": "majestic", "宏大": "grand", "英雄": "heroic",
    "快乐": "happy", "欢快": "cheerful", "欢乐": "joyful", "开心": "happy", "喜庆": "festive", "充满希望": "hopeful",
    "希望": "hope", "励志": "inspiring", "振奋": "uplifting", "忧郁": "melancholic", "怀旧": "nostalgic",
    "惆怅": "wistful", "神秘": "mysterious", "诡异": "eerie", "俏皮": "playful", "幽默": "humorous", "有趣": "fun",
    "浪漫": "romantic", "温柔": "tender", "深情": "passionate", "悲伤": "sad", "伤感": "sad", "哀伤": "mournful",
    "孤独": "lonely", "紧张": "tense", "悬疑": "suspenseful", "不安": "uneasy", "温暖": "warm", "温馨": "cosy",
    # instruments
    "木吉他": "acoustic guitar", "原声吉他": "acoustic guitar", "古典吉他": "classical guitar",
    "失真吉他": "distorted guitar", "电吉他": "electric guitar", "吉他": "guitar", "合成贝斯": "synth bass",
    "超低音": "sub bass", "低音提琴": "double bass", "倍大提琴": "double bass", "贝斯": "bass", "贝司": "bass",
    "钟声": "bells", "铃铛": "bells", "铜管": "brass", "大提琴": "cello", "合唱": "choir", "单簧管": "clarinet",
    "黑管": "clarinet", "鼓机": "drum machine", "电子鼓": "electronic drums", "架子鼓": "drum kit", "鼓点": "drum beat",
    "鼓": "drums", "电钢琴": "electric piano", "电子琴": "keyboard", "长笛": "flute", "圆号": "french horn",
    "法国号": "french horn", "竖琴": "harp", "管风琴": "organ", "风琴": "organ", "合成器铺底": "synth pad",
    "铺底": "pad", "打击乐": "percussion", "钢琴": "piano", "琶音": "arpeggio", "拨奏": "pluck", "萨克斯": "saxophone",
    "弦乐": "strings", "合成器": "synth", "主音": "lead", "定音鼓": "timpani", "小号": "trumpet",
    "颤音琴": "vibraphone", "小提琴": "violin", "提琴": "violin", "人声": "vocals", "歌声": "vocals",
    # how fast, how strong, how it counts
    "非常慢": "very slow", "很慢": "very slow", "缓慢": "slow", "慢速": "slow", "慢": "slow", "中速": "mid tempo",
    "非常快": "very fast", "很快": "very fast", "快速": "fast", "快": "fast", "强烈": "intense", "有力": "powerful",
    "强劲": "powerful", "轻柔": "gentle", "柔和": "soft", "低能量": "low energy", "高能量": "high energy",
    "华尔兹": "waltz", "圆舞曲": "waltz", "进行曲": "march",
    # no
    "没有": "no", "不要": "no", "不带": "without", "无": "no",
    # words that say nothing of their own
    "独奏": "solo", "三重奏": "trio", "四重奏": "quartet", "背景音乐": "background music", "音乐": "music",
    "舞曲": "dance music", "节拍": "beat", "节奏": "rhythm", "旋律": "melody", "曲子": "piece", "一首": "a",
    "一段": "a", "一个": "a",
    "适合": "for", "学习": "study", "速度": "tempo", "带有": "with", "带": "with", "加上": "with", "配": "with",
    "和": "and", "与": "and", "或": "or", "的": "", "在": "in", "曲": "piece", "风格": "style", "、": ",", "。": ".",
}  # fmt: skip
_LONGEST_FIRST = re.compile("|".join(map(re.escape, sorted(_PHRASES, key=len, reverse=True))))


def in_english(text: str) -> str:
    """A prompt with its Chinese phrases put into English, such as `"悲伤的钢琴曲，每分钟70拍"` → `"sad piano piece,
    70 bpm"`. Text without Chinese characters is given back as it is."""
    if not _IDEOGRAPHS.search(text):
        return text
    text = text.translate(_TRADITIONAL)
    for pattern, words in _PATTERNS:
        text = pattern.sub(words, text)
    text = _LONGEST_FIRST.sub(lambda match: f" {_PHRASES[match[0]]} ", text)
    return " ".join(re.sub(r"\s*[,，]\s*", ", ", text).split())


def _count(digits: str) -> float:
    return _NUMBERS[digits] if digits in _NUMBERS else float(digits)


def _length(match: re.Match[str]) -> str:
    minutes, half, seconds = match["m"], match["half"], match["s"]
    total = 60 * (_count(minutes) if minutes else 0) + (30 if half else 0) + (_count(seconds) if seconds else 0)
    return f" {total:g} seconds "


def _key(match: re.Match[str]) -> str:
    sign: Mapping[str, str] = {"升": "#", "降": "b"}
    return f" {match[2].upper()}{sign.get(match[1] or '', '')} {'major' if match[3] == '大' else 'minor'} "


def _metre(match: re.Match[str]) -> str:
    below, above = _count(match[1]), _count(match[2])
    return f" {above:g}/{below:g} "


_UNTIL_LENGTH = rf"(?=[\d.{''.join(_NUMBERS)}]+\s*(?:分|秒))"
_MINUTES = rf"(?:{_COUNT.replace('(', '(?P<m>', 1)}\s*分钟?(?P<half>半)?)?"
_LENGTH = re.compile(rf"{_UNTIL_LENGTH}{_MINUTES}\s*(?:{_COUNT.replace('(', '(?P<s>', 1)}\s*秒钟?)?")
_PATTERNS = (
    (re.compile(rf"(?:速度|节奏)?\s*每分钟\s*{_NUMBER}\s*拍"), r" \1 bpm "),
    (re.compile(rf"{_NUMBER}\s*(?:拍每分钟|拍/分钟?|拍)"), r" \1 bpm "),
    (re.compile(rf"(?:速度|节拍)\s*[为是:]?\s*{_NUMBER}(?!\s*bpm)"), r" \1 bpm "),
    (_LENGTH, _length),
    (re.compile(r"([升降])?\s*([A-Ga-g])\s*(大|小)调"), _key),
    (re.compile(rf"{_COUNT}分之{_COUNT}拍"), _metre),
    (re.compile(r"([四八])([二三四六])拍"), _metre),
)  # fmt: skip
