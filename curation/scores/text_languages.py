"""EasyOCR's languages: which recogniser reads them, and which scripts it covers."""

from collections.abc import Sequence
from typing import NamedTuple


class Recogniser(NamedTuple):
    """One of EasyOCR's recognisers: the file of its weights, its languages, and its scripts.

    Scripts are first words of Unicode character names. Every recogniser covers English too.
    """

    name: str
    file: str
    languages: frozenset[str]
    scripts: tuple[str, ...]


def _recogniser(name: str, file: str, languages: str, *scripts: str) -> Recogniser:
    return Recogniser(name, file, frozenset(languages.split()), ("LATIN", "FULLWIDTH", *scripts))


ENGLISH = _recogniser("en", "english_g2.pth", "en")
RECOGNISERS = (
    ENGLISH,
    _recogniser("thai", "thai.pth", "th", "THAI"),
    _recogniser("chinese-traditional", "chinese.pth", "ch_tra", "CJK"),
    _recogniser("chinese-simplified", "zh_sim_g2.pth", "ch_sim", "CJK"),
    _recogniser("japanese", "japanese_g2.pth", "ja", "CJK", "HIRAGANA", "KATAKANA"),
    _recogniser("korean", "korean_g2.pth", "ko", "HANGUL"),
    _recogniser("tamil", "tamil.pth", "ta", "TAMIL"),
    _recogniser("telugu", "telugu.pth", "te", "TELUGU"),
    _recogniser("kannada", "kannada.pth", "kn", "KANNADA"),
    _recogniser("bengali", "bengali.pth", "bn as", "BENGALI"),
    _recogniser("arabic", "arabic.pth", "ar fa ug ur", "ARABIC"),
    _recogniser("devanagari", "devanagari.pth", "hi mr ne bh mai ang bho mah sck new gom", "DEVANAGARI"),
    _recogniser(
        "cyrillic",
        "cyrillic_g2.pth",
        "ru rs_cyrillic be bg uk mn abq ady kbd ava dar inh che lbe lez tab tjk",
        "CYRILLIC",
    ),
    _recogniser(
        "latin",
        "latin_g2.pth",
        "af az bs cs cy da de es et fr ga hr hu id is it ku la lt lv mi ms mt nl no oc pi pl pt ro rs_latin sk sl sq "
        "sv sw tl tr uz vi",
    ),
)


def recogniser_for(languages: Sequence[str]) -> Recogniser:
    """The recogniser that EasyOCR uses for a list of its language codes.

    Raises ValueError for an empty list, an unknown code, and codes that no single recogniser covers.
    """
    others = [code for code in languages if code != "en"]
    if not others:
        if not languages:
            raise ValueError('languages is empty; name at least one, for example ["en"]')
        return ENGLISH
    found = {code: next((r for r in RECOGNISERS if code in r.languages), None) for code in others}
    if unknown := [code for code, recogniser in found.items() if recogniser is None]:
        known = " ".join(sorted(code for r in RECOGNISERS for code in r.languages))
        raise ValueError(f"EasyOCR has no language {', '.join(unknown)}; it has {known}")
    needed = {r for r in found.values() if r is not None}
    if len(needed) > 1:
        names = ", ".join(sorted(r.name for r in needed))
        raise ValueError(f"no single recogniser covers {', '.join(others)} ({names}); choose languages of one of them")
    return needed.pop()
