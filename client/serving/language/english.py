"""How English speaks of bounds, wishes, refusals, likeness and earlier requests."""

import re
from typing import Final

from client.serving.language.bounds import Amount, BoundWords, How
from client.serving.language.grammar import Degree, Grammar, Toward, Wish
from client.serving.language.names import Measure
from client.serving.language.spelling import split, stem

_DECADES: Final = {
    "twenties": 1920,
    "thirties": 1930,
    "forties": 1940,
    "fifties": 1950,
    "sixties": 1960,
    "seventies": 1970,
    "eighties": 1980,
    "nineties": 1990,
    "noughties": 2000,
}
_CENTURIES: Final = {"nineteenth": 1800, "twentieth": 1900, "twenty-first": 2000}
_NUMBERS: Final = {
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "twelve": 12,
    "fifteen": 15,
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
    "hundred": 100,
    "thousand": 1000,
}
_UNITS: Final[tuple[tuple[Measure, float, str], ...]] = (
    ("price", 1.0, "dollars?|bucks?|euros?|pounds?|quid|usd|eur|gbp|yuan|[$€£¥]"),
    ("length", 60.0, "hours?|hrs?"),
    ("length", 1.0, "minutes?|mins?|pages?"),
    ("rating", 1.0, "stars?"),
)
_PARTS: Final = {"early": (0, 0.4), "mid": (0.3, 0.7), "late": (0.6, 1.0)}
_POINT = (
    r"(?:\bthe\s+)?(?:very\s+)?"
    r"(?:\b(?:early|mid|middle|late)[\s-]+(?:of\s+)?(?:the\s+)?)?"
    rf"(?<!\w)(?:(?:1[89]|20)\d0'?s|'?\d0'?s|{'|'.join(_DECADES)}"
    r"|(?:(?:19|20|21)(?:th|st)|nineteenth|twentieth|twenty-first)[\s-]century"
    r"|(?:1[89]|20)\d\d)(?![\w$€£]|[.,]\d)"
)
_AMOUNT = (
    rf"(?:[$€£¥]\s?)?(?<![\w.])(?:\d+(?:[.,]\d+)?|an?(?=\s(?:hour|hundred))"
    rf"|(?:{'|'.join(_NUMBERS)})(?!\w))"
    rf"(?:[\s-]?(?:{'|'.join(unit for *_, unit in _UNITS)})(?!\w))?(?!\w|[.,]\d)"
)
_P, _Q = rf"(?P<p>{_POINT})", rf"(?P<q>{_POINT})"
_A, _B = rf"(?P<p>{_AMOUNT})", rf"(?P<q>{_AMOUNT})"
_MADE = r"(?:\b(?:made|released|published|shot|filmed|written|dating|out)\s+)?\b"
_NOT = r"(?:no|not)\s+"


def _forms(*forms: tuple[How, str]) -> tuple[tuple[How, re.Pattern[str]], ...]:
    return tuple((how, re.compile(form, re.IGNORECASE)) for how, form in forms)


_YEARS = _forms(
    (
        "between",
        rf"{_MADE}(?:between|from)\s+{_P}\s*"
        rf"(?:and|to|till|until|up to|through|-)\s*{_Q}",
    ),
    ("between", rf"{_P}\s*(?:to|through|-)\s*{_Q}"),
    (
        "between",
        rf"{_MADE}(?:(?:from|of|in)\s+)?{_P}\s*(?:or|and|&|/)\s*(?:from\s+)?{_Q}",
    ),
    ("until", rf"{_P}\s+(?:or|and)\s+(?:earlier|older|before)\b"),
    ("since", rf"{_P}\s+(?:or|and)\s+(?:later|newer|after|up|onwards?)\b"),
    ("since", rf"{_MADE}(?:from\s+)?{_P}\s+(?:on|onwards?|forward)\b"),
    ("since", rf"{_MADE}(?:since|{_NOT}(?:earlier|older)\s+than|not\s+before)\s+{_P}"),
    ("until", rf"{_MADE}(?:{_NOT}(?:later|newer)\s+than|not\s+after)\s+{_P}"),
    ("before", rf"{_MADE}(?:before|prior\s+to|(?:earlier|older)\s+than)\s+{_P}"),
    ("before", rf"\bpre[\s-]{_P}"),
    ("until", rf"{_MADE}(?:until|till|up\s+(?:to|until)|by)\s+{_P}"),
    ("after", rf"{_MADE}(?:after|past|(?:later|newer|more\s+recent)\s+than)\s+{_P}"),
    ("after", rf"\bpost[\s-]{_P}"),
    ("about", rf"{_MADE}(?:around|circa|roughly|approximately)\s+{_P}"),
    ("at", rf"{_MADE}(?:(?:from|in|of|during)\s+)?{_P}"),
    ("at", _P),
)
_AMOUNTS = _forms(
    ("between", rf"\bbetween\s+{_A}\s+and\s+{_B}"),
    ("between", rf"\bfrom\s+{_A}\s+to\s+{_B}"),
    ("between", rf"{_A}\s*(?:to|-)\s*{_B}"),
    (
        "most",
        r"\b(?:at\s+most|up\s+to|within|max(?:imum)?(?:\s+of)?|no\s+longer\s+than|"
        rf"{_NOT}more\s+than|not\s+(?:over|above)|budget\s+(?:of|is))\s+{_A}",
    ),
    ("most", rf"{_A}\s+(?:or\s+(?:less|cheaper|under|shorter)|tops|max(?:imum)?)\b"),
    (
        "least",
        r"\b(?:at\s+least|min(?:imum)?(?:\s+of)?|starting\s+at|from|"
        rf"{_NOT}less\s+than|not\s+(?:under|below))\s+{_A}",
    ),
    ("least", rf"{_A}\s*(?:\+|(?:or|and)\s+(?:more|up|above|higher|better|longer)\b)"),
    (
        "below",
        r"\b(?:under|below|(?:less|cheaper|shorter|fewer|lower)\s+than|<)\s*"
        rf"{_A}",
    ),
    (
        "above",
        r"\b(?:over|above|exceeding|(?:more|longer|higher|better|pricier|"
        rf"more\s+expensive)\s+than|>)\s*{_A}",
    ),
    ("about", rf"\b(?:around|about|roughly|approximately|for|costing)\s+{_A}"),
    ("about", _A),
)


def read_year(words: str) -> tuple[int, int]:
    """Return the first and last year of a time.

    >>> read_year("the late 80s"), read_year("nineties"), read_year("1995")
    ((1986, 1989), (1990, 1999), (1995, 1995))
    """
    words = words.casefold()
    named = next((year for name, year in _DECADES.items() if name in words), 0)
    century = re.search(r"(\d\d)?\S*[\s-]century", words)
    digits = re.search(r"\d+", words)
    number = int(digits[0]) if digits else 0
    if century:
        names = (year for name, year in _CENTURIES.items() if name in words)
        return _part(words, (number - 1) * 100 if number else next(names), 100)
    if named or words.endswith("s"):
        short = number + (2000 if number < 20 else 1900)
        return _part(words, named or (number if number > 99 else short), 10)
    return number, number


def _part(words: str, first: int, length: int) -> tuple[int, int]:
    """Return the first and last year of the part of a time that words name."""
    for name, (begin, end) in _PARTS.items():
        if re.search(rf"\b{name}", words):
            return first + round(begin * length), first + round(end * length) - 1
    return first, first + length - 1


def read_amount(words: str) -> Amount:
    """Return the number in words, in the unit that catalogues use.

    >>> read_amount("two hours"), read_amount("$20").measure
    (Amount(value=120.0, measure='length'), 'price')
    """
    words = words.casefold()
    digits = re.search(r"\d+(?:[.,]\d+)?", words)
    named = next((_NUMBERS[w.text] for w in split(words) if w.text in _NUMBERS), 1)
    value = float(digits[0].replace(",", ".")) if digits else float(named)
    for measure, scale, unit in _UNITS:
        if re.search(rf"(?<![a-z])(?:{unit})(?![a-z])", words):
            return Amount(value * scale, measure)
    return Amount(value, None)


def _wish(
    toward: Toward, weight: float, pattern: str, *, compares: bool = False
) -> Wish:
    found = re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)
    return Wish(found, toward, weight, compares)


_WELL = r"(?:very\s+|really\s+|highly\s+|critically\s+|universally\s+)?"
_WISHES = (
    _wish("year", 1, "newer|more recent|more modern|later ones?", compares=True),
    _wish("year", -1, "older|earlier ones?|less recent|more classic", compares=True),
    _wish("price", -1, "cheaper|less expensive|more affordable", compares=True),
    _wish("price", 1, "pricier|more expensive|fancier", compares=True),
    _wish("length", -1, "shorter", compares=True),
    _wish("length", 1, "longer", compares=True),
    _wish("popularity", 1, "better known|more popular|more famous", compares=True),
    _wish("popularity", -1, "lesser[- ]known|less (?:known|popular|famous)"),
    _wish("rating", 1, "better rated|higher rated|better reviewed", compares=True),
    _wish("popularity", -1, "little[- ]known|obscure|hidden gems?|underrated|unknown"),
    _wish("popularity", -1, "overlooked|niche|under the radar|off the beaten track"),
    _wish(
        "rating",
        1,
        rf"{_WELL}(?:acclaimed|praised)|(?:highly|top|best|well|highest)[- ]rated"
        r"|well[- ]reviewed|award[- ]winning|(?:with )?(?:good|great) (?:ratings?|"
        r"reviews?)|(?:one of )?the (?:very )?best|best|masterpieces?|top",
    ),
    _wish(
        "popularity",
        1,
        r"(?:very |really |most )?(?:popular|famous)|well[- ]known|well[- ]loved"
        r"|blockbusters?|(?:big )?hits?|mainstream|trending|best[- ]?sell(?:ing|ers?)"
        r"|must[- ]sees?|everybody knows|everyone knows|crowd[- ]pleasers?",
    ),
    _wish("year", 1, r"(?:fairly |quite |very |brand )?new(?:est)?|latest|modern"),
    _wish("year", 1, r"(?:fairly |quite |very |most |more )?recent(?:ly made)?"),
    _wish("year", 1, "contemporary"),
    _wish("year", -1, r"(?:really |very )?old|classics?|vintage|old[- ]fashioned"),
    _wish("year", -1, "golden[- ]age|oldest|old[- ]school"),
    _wish("price", -1, "cheap(?:est)?|affordable|inexpensive|low[- ]cost|budget"),
    _wish("price", 1, "expensive|luxur(?:y|ious)|high[- ]end|premium|pricey"),
    _wish("length", -1, "short(?:est)?|quick"),
    _wish("length", 1, "long(?:est)?|epic"),
)
_FILLER = """
a an the some any one ones two few lot bit little kind sort of for with without to in on
at by from about as is are was were be been being am do does did have has had having i
me my we us our you your it its this that these those there here he she they them their
who whom whose which what when where how why will would could should can may might must
shall want wants wanted wanting wish need needs looking look for find found show shows
give gives get gets recommend recommendation recommendations suggest suggestion
suggestions please pls thanks thank hello hi hey something anything everything stuff
thing things someone watch watching see seeing read reading buy buying listen tonight
today now evening weekend tomorrow mood fancy feel feeling like love loved liked enjoy
enjoyed enjoying prefer preferably ideally maybe perhaps possibly just only really very
quite rather pretty so too also as well else more less much many most and or nor but not
no good nice great decent cool fine awesome amazing lovely interesting im id ive ill
lets let go going set up out then than again still yet all both each other another same
such own made make tell know think tired sick bored think thinking time if though
however well even ever never always already sometimes film films movie movies please
kinda sorta ok okay with want give help choose pick picks idea ideas option options list
top actually basically somehow somewhere rather gimme wanna gonna got dont doesnt
surprise story stories tale tales thx u ur r plz pls tonite recomend recommed wat
smth sth three four five six ten couple elements bits parts scenes lol hmm um ah oh
wow bye dear fan style
isnt cant wont couldnt shouldnt rating ratings rated star stars year years era decade
genre genres type price sure mind bit actual because
"""
_NO = r"""
\b(?:nothing|none|neither|no\s+more|no|not|without|never|except(?:\s+for)?|excluding|minus|nor
|other\s+than|anything\s+but|everything\s+but|all\s+but|apart\s+from|avoid(?:ing)?|skip
|(?:do|does|did|would|can|could|should|is|are|was|wo|ca)\s?n['o]?t(?:\s+(?:want|like|
need|care\s+for|have|show\s+me|give\s+me|stand|feel\s+like|be|include))?|dont(?:\s+
(?:want|like|give\s+me|show\s+me))?|hate[sd]?|dislike[sd]?|can(?:not|'?t)\s+stand|
(?:sick|tired|bored)\s+of|fed\s+up\s+with|instead\s+of|rather\s+than|leave\s+out|drop
|enough\s+of|free\s+of|spare\s+me|as\s+long\s+as\s+it(?:'s|\s+is)\s*n['o]?t)\b
|\bnon-|(?<!\w)-(?=[a-z])
"""
_NOT_NO = r"""
\b(?:not\s+(?:only|just|necessarily|sure|bad|really\s+sure)|no\s+(?:matter|idea|problem
|preference|worries|doubt)|nothing\s+but|why\s+not|(?:do|does)\s?n['o]?t\s+(?:mind|care|
matter|know)|dont\s+(?:mind|care|know)|(?:have\s?n['o]?t|never)\s+(?:seen|read|watched|
heard)|whether\s+or\s+not|or\s+not|can'?t\s+(?:decide|choose|wait|remember))\b
"""
_LIKE = r"""
\b(?:similar\s+to|(?:just\s+|much\s+|a\s+lot\s+|more\s+|something\s+|anything\s+|films?\s+|
movies?\s+|books?\s+|ones?\s+|nothing\s+|stuff\s+|things?\s+|be\s+|is\s+)like|like|
in\s+the\s+(?:style|spirit|vein|manner|tradition)\s+of|along\s+the\s+lines\s+of|
reminiscent\s+of|remind(?:s|ing)?\s+me\s+of|the\s+same\s+(?:\w+\s+)?as|akin\s+to|
comparable\s+to|fans?\s+of|(?:really\s+|just\s+)?(?:liked|loved|enjoyed|love|enjoy|
watched|saw|adored|finished)|as\s+good\s+as|close\s+to|resembl(?:es?|ing)|(?:à|a)\s+la|
such\s+as|reminded\s+me\s+of)
(?:\s+the\s+(?:film|movie|book|novel|series|game))?\b
"""
_WORDS = r"(?P<words>(?!(?:than|like|of|and|or|but)\b)[^\W\d_]+(?:-[^\W\d_]+)*"
_WORDS += r"(?:\s+(?!(?:and|or|but|with|than|please|from|in|for|by|so|though|films?"
_WORDS += r"|movies?|books?|ones?|things?|this|too|about|the|then|that|also|as"
_WORDS += r"|more|less|not|no)\b)[^\W\d_]+){0,1})"
_SOFTLY = r"(?:(?:an?\s+(?:little|bit|lot|touch)|much|slightly|somewhat|even)\s+)"
_TOO = (
    r"(?:(?:not|nothing|never|isn'?t|aren'?t|without\s+being|don'?t\s+be)\s+"
    r"(?:(?:that's|that\s+is|be|all)\s+)?(?:too|so|very|that|as|overly|"
    r"particularly|terribly|especially|quite)(?:\s+(?:much|many))?|"
    r"(?:without|not|no)\s+(?:too|so|that)\s+(?:much|many)|nothing\s+too)"
)
_DEGREES = (
    Degree(re.compile(rf"\b{_TOO}\s+(?:of\s+an?\s+)?{_WORDS}", re.IGNORECASE), -1.0),
    Degree(
        re.compile(
            rf"\b(?:{_SOFTLY})?(?:less|fewer|not\s+so)\s+(?:of\s+an?\s+)?{_WORDS}",
            re.IGNORECASE,
        ),
        -1.0,
    ),
    Degree(
        re.compile(rf"\b{_SOFTLY}more\s+(?:of\s+an?\s+)?{_WORDS}", re.IGNORECASE), 1.0
    ),
    Degree(re.compile(rf"\bmore\s+{_WORDS}", re.IGNORECASE), 1.0, plain=True),
    Degree(
        re.compile(
            rf"\b(?:{_SOFTLY})?(?P<words>(?!(?:prem|front|sold|cour|barr|carr|cash)ier)"
            r"[a-z]{3,}ier|darker|lighter|sadder|slower|faster|calmer|softer|quieter"
            r"|weirder|smarter|warmer|gentler|stranger|kinder|bigger|smaller|louder"
            r"|simpler|sweeter|tenser)\b",
            re.IGNORECASE,
        ),
        1.0,
    ),
)
_TURNS = frozenset(
    {"with", "from", "by", "about", "in", "for", "set", "starring", "preferably"}
    | {"instead", "made", "that", "which", "who", "where", "something", "anything"}
    | {"some", "give", "maybe", "ideally", "then", "more", "newer", "older", "rather"}
    | {"i"}
)
_WHAT = r"(?P<what>[^\W\d_]+(?:[\s-][^\W\d_]+)?)"


def _verbose(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.VERBOSE)


ENGLISH: Final = Grammar(
    language="en",
    bounds=BoundWords(
        years=_YEARS,
        read_year=read_year,
        not_years=re.compile(
            r"\b(?:set|takes?\s+place|taking\s+place|about\s+(?:life|the\s+war)|life)\s+"
            r"(?:back\s+)?(?:in|during)\s*$",
            re.IGNORECASE,
        ),
        amounts=_AMOUNTS,
        read_amount=read_amount,
        measures=(
            ("price", re.compile(r"\b(?:cheaper|pricier|expensive|cost|budget)", re.I)),
            ("length", re.compile(r"\b(?:shorter|longer)\b", re.IGNORECASE)),
        ),
    ),
    wishes=_WISHES,
    degrees=_DEGREES,
    no=_verbose(_NO),
    not_no=_verbose(_NOT_NO),
    like=_verbose(_LIKE),
    like_after=re.compile(
        r"\s*-?(?:like|ish|esque|style|styled|type|fans?)\b", re.IGNORECASE
    ),
    ends=frozenset(
        ["but", "though", "however", "yet", "although", "just", "only", "please"]
    ),
    turns=_TURNS,
    joins=(frozenset(["or", "nor"]), frozenset(["and"])),
    breaks=re.compile(r"[.;:!?()\n]|\s-\s|—"),
    lists=re.compile(","),
    filler=frozenset(stem(word) for word in _FILLER.split()),
    asks=re.compile(
        r"\b(?:can you|could you|would you|i(?:'m| am)? (?:looking|searching) for|"
        r"in the mood for|i feel like|feel like|i(?:'d| would) (?:like|love)|"
        r"(?:to|for) (?:watch|read|buy|see)(?: (?:tonight|today|with|on))?|"
        r"(?:this|next) (?:weekend|evening|week)|on a (?:friday|saturday|sunday) night|"
        r"(?:a )?(?:friday|saturday|sunday) night|date night|movie night)\b",
        re.IGNORECASE,
    ),
    only=re.compile(r"\b(?:only|just|exclusively|strictly|nothing\s+but)\b", re.I),
    instead=re.compile(r"\binstead\b(?!\s+of)", re.IGNORECASE),
    restart=re.compile(
        r"\b(?:start\s+(?:over|again|anew)|new\s+search|reset|from\s+scratch|forget\s+"
        r"(?:all|everything)(?:\s+(?:that|of\s+that|before))?|something\s+"
        r"(?:completely|totally|entirely)\s+different)\b",
        re.IGNORECASE,
    ),
    also=re.compile(
        r"^\s*(?:and|or|also|plus)\b|\b(?:also|as\s+well|too)\s*[.!]?$", re.I
    ),
    drops=(
        re.compile(
            r"\b(?:forget|drop|ignore|never\s+mind|nevermind|remove|lift|any|whatever|"
            r"whichever|no\s+matter|without\s+regard\s+to|regardless\s+of)\s+"
            r"(?:about\s+)?(?:the\s+|that\s+|which\s+|what\s+|my\s+)?"
            rf"{_WHAT}(?:\s+(?:limit|filter|thing|constraint|restriction|bit|part))?",
            re.IGNORECASE,
        ),
        re.compile(
            rf"\b(?:the\s+)?{_WHAT}\s+(?:does\s?n['o]?t|doesnt|does\s+not|is\s?n['o]?t|"
            r"is\s+not)\s+(?:matter|important|that\s+important|relevant)",
            re.IGNORECASE,
        ),
        re.compile(
            r"\b(?:do\s?n['o]?t|dont|do\s+not)\s+(?:mind|care)\s+(?:about\s+)?(?:the\s+|"
            rf"which\s+|what\s+)?{_WHAT}",
            re.IGNORECASE,
        ),
    ),
)
