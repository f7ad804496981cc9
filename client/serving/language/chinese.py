"""How Chinese speaks of bounds, wishes, refusals, likeness and earlier requests."""

import re
from typing import Final

from client.serving.language.bounds import Amount, BoundWords, How
from client.serving.language.grammar import Degree, Grammar, Toward, Wish
from client.serving.language.names import Measure

_DIGITS: Final = {sign: at for at, sign in enumerate("零一二三四五六七八九")}
_DIGITS["两"] = 2
_HAN_NUMBER = "[零一二两三四五六七八九十百千]"
_UNITS: Final[tuple[tuple[Measure, float, str], ...]] = (
    ("price", 1.0, "元|块钱|块|人民币|美元|欧元"),
    ("length", 60.0, "个?小时"),
    ("length", 1.0, "分钟|页"),
    ("rating", 1.0, "颗?星|分(?!钟)"),
)
_CENTURY = "(?:上个?世纪|二十世纪|20世纪|本世纪|二十一世纪|21世纪)"
_POINT = (
    rf"(?:{_CENTURY}?(?:(?:1[89]|20)?\d0|[一二三四五六七八九]十)年代(?:初|末|中期|后期)?"
    rf"|(?:1[89]|20)\d\d(?:年|(?=[-到至以之]))"
    rf"|{_CENTURY})"
)
_AMOUNT = (
    rf"(?:[$¥€]\s?)?(?:\d+(?:\.\d+)?|{_HAN_NUMBER}+)"
    rf"\s?(?:{'|'.join(unit for *_, unit in _UNITS)})"
)
_P, _Q = rf"(?P<p>{_POINT})", rf"(?P<q>{_POINT})"
_A, _B = rf"(?P<p>{_AMOUNT})", rf"(?P<q>{_AMOUNT})"
_BARE = r"(?P<p>\d+(?:\.\d+)?)"
_TO = r"\s*(?:到|至|和|-|~)\s*"
_THEN = "(?:的|拍的|出的|上映的|出版的)?"


def _forms(*forms: tuple[How, str]) -> tuple[tuple[How, re.Pattern[str]], ...]:
    return tuple((how, re.compile(form)) for how, form in forms)


_YEARS = _forms(
    ("between", rf"(?:从|在)?{_P}{_TO}{_Q}(?:之间|期间)?{_THEN}"),
    ("before", rf"(?:早于|在)?{_P}(?:以前|之前|前){_THEN}"),
    ("after", rf"(?:在)?{_P}(?:以后|之后|后){_THEN}"),
    ("after", rf"(?:晚于|新于|比){_P}(?:更?新|更?晚)?{_THEN}"),
    ("since", rf"(?:从|自)?{_P}(?:以来|开始|起){_THEN}"),
    ("about", rf"(?:大约|大概)?{_P}(?:左右|前后){_THEN}"),
    ("at", rf"(?:在|是)?{_P}{_THEN}"),
)
_AMOUNTS = _forms(
    ("between", rf"{_BARE}{_TO}(?P<q>{_AMOUNT})(?:之间)?的?"),
    ("between", rf"{_A}{_TO}{_B}(?:之间)?的?"),
    ("most", rf"{_A}(?:以下|以内|之内|内)的?"),
    ("most", rf"(?:不超过|不高于|最多|顶多|不多于|预算)(?:是)?{_A}的?"),
    ("least", rf"{_A}(?:以上|起)的?"),
    ("least", rf"(?:不低于|不少于|至少|起码){_A}的?"),
    ("below", rf"(?:低于|少于|不到|小于|便宜于|短于){_A}的?"),
    ("above", rf"(?:高于|超过|多于|大于|长于){_A}的?"),
    ("about", rf"(?:大约|大概|差不多)?{_A}(?:左右)?的?"),
    ("most", rf"(?:不超过|不高于|最多|低于){_BARE}"),
    ("least", rf"(?:不低于|不少于|至少|高于|超过){_BARE}"),
)


def read_number(signs: str) -> float:
    """Return the number that digits or Chinese numerals stand for.

    >>> read_number("二十五"), read_number("19.9"), read_number("一百二十")
    (25.0, 19.9, 120.0)
    """
    if digits := re.search(r"\d+(?:\.\d+)?", signs):
        return float(digits[0])
    total, digit = 0, 0
    for sign in signs:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif sign in "十百千":
            total += (digit or 1) * 10 ** ("十百千".index(sign) + 1)
            digit = 0
    return float(total + digit)


def read_year(words: str) -> tuple[int, int]:
    """Return the first and last year of a time.

    >>> read_year("90年代"), read_year("上世纪八十年代末"), read_year("1995年")
    ((1990, 1999), (1986, 1989), (1995, 1995))
    """
    last_one = re.search("上个?世纪|二十世纪|20世纪", words)
    base = 1900 if last_one else 2000
    decade = re.search(r"(\d+|[一二三四五六七八九]十)年代", words)
    if decade is None:
        year = re.search(r"(\d{4})", words)
        return (int(year[1]),) * 2 if year else (base, base + 99)
    number = int(read_number(decade[1]))
    if number < 100:
        number += 1900 if last_one or number >= 20 else base
    if words.endswith("初"):
        return number, number + 3
    if words.endswith(("末", "后期")):
        return number + 6, number + 9
    return (number + 3, number + 6) if words.endswith("中期") else (number, number + 9)


def read_amount(words: str) -> Amount:
    """Return the number in words, in the unit that catalogues use.

    >>> read_amount("两小时"), read_amount("50元").measure
    (Amount(value=120.0, measure='length'), 'price')
    """
    for measure, scale, unit in _UNITS:
        if re.search(unit, words):
            return Amount(read_number(words) * scale, measure)
    return Amount(read_number(words), "price" if re.match("[$¥€]", words) else None)


def _wish(
    toward: Toward, weight: float, pattern: str, *, compares: bool = False
) -> Wish:
    return Wish(re.compile(pattern), toward, weight, compares)


_BIT = "(?:一点儿?|些|一些|点儿?)"
_WISHES = (
    _wish("year", 1, f"更?新{_BIT}|更新的?|更近期|更现代", compares=True),
    _wish("year", -1, f"更?[老旧早]{_BIT}|更[老旧早]|更经典", compares=True),
    _wish("price", -1, f"更?便宜{_BIT}|更便宜|更实惠|更低价", compares=True),
    _wish("price", 1, f"更?贵{_BIT}|更贵|更高档", compares=True),
    _wish("length", -1, f"更?短{_BIT}|更短", compares=True),
    _wish("length", 1, f"更?长{_BIT}|更长", compares=True),
    _wish("popularity", 1, "更(?:热门|知名|有名|受欢迎)", compares=True),
    _wish("popularity", -1, "(?:更|不太|不那么)?(?:冷门|小众)"),
    _wish("popularity", -1, "不太?(?:热门|知名|有名)"),
    _wish(
        "rating", 1, "(?:评分|口碑|评价)(?:很|比较|最)?[高好]|高(?:评分|分)|好评|获奖"
    ),
    _wish("popularity", 1, "(?:很|最|比较)?(?:热门|知名|有名|著名|受欢迎|流行|火)"),
    _wish("popularity", 1, "大家都(?:看|知道)|畅销|卖座"),
    _wish("year", 1, "最新|最近|近期|新出|现代|新(?=的|片|书|电影)"),
    _wish("year", -1, "经典|老(?=的|片|电影|书)|怀旧|古老"),
    _wish("price", -1, "便宜|实惠|低价|平价|性价比高"),
    _wish("price", 1, "高档|奢侈|高端|昂贵"),
    _wish("length", -1, "短(?=的|片)"),
    _wish("length", 1, "长(?=的|片)"),
)
_HAN = "[\u4e00-\u9fff]"
_SAID = rf"(?P<words>(?:(?![,。的了吧吗呢和或但])(?!一点|一些){_HAN}){{1,6}})"
_DEGREES = tuple(
    Degree(re.compile(pattern), weight)
    for weight, pattern in (
        (-1.0, rf"(?:不要|别|不想看|不)(?:那么|这么|太|过于)(?:多)?{_SAID}(?:的|了)?"),
        (-1.0, rf"少(?:一点|一些|点|些)(?:的)?{_SAID}"),
        (-1.0, rf"没(?:有)?(?:那么|这么|太)(?:多)?{_SAID}"),
        (1.0, rf"多(?:一点|一些|点|些)(?:的)?{_SAID}"),
        (1.0, rf"更(?:加)?{_SAID}(?:一点|一些|些|点)?(?:的)?"),
    )
)
_IDLE = (
    "我你想要看买听找有没吗呢吧啊的了是一些点请给都也还就能很更最来和或与及但而且这那部本个几讲用在里"
    "中只不"
)

CHINESE: Final = Grammar(
    language="zh",
    bounds=BoundWords(
        years=_YEARS,
        read_year=read_year,
        not_years=re.compile(r"(?:发生在|设定在|背景是|背景在|讲述|关于)\s*$"),
        amounts=_AMOUNTS,
        read_amount=read_amount,
        measures=(),
    ),
    wishes=_WISHES,
    degrees=_DEGREES,
    no=re.compile(
        "不要(?:有|看)?|不想(?:看|要|买)?|不看|不喜欢|讨厌|没有|不含|不带|别(?:给我|推荐|是)?"
        "|除了|排除|拒绝|非(?!常)|不是|受够了|避免|去掉|无(?!论)"
    ),
    not_no=re.compile(
        "不仅|不只|不管|无论|没关系|不限|不知道|有没有|是不是|要不要|没看过"
    ),
    like=re.compile("像|好像|类似(?:于)?|如同|仿照|喜欢(?:看)?(?:过)?|看过|和|跟|与"),
    like_after=re.compile("》?\\s*(?:那样|这样|之类|一样|式|类型|风格|差不多)"),
    ends=frozenset("但而只来给想"),
    turns=frozenset("的了都也还最更"),
    joins=(frozenset("或"), frozenset("和与及")),
    breaks=re.compile(r"[。!?;,.\n]"),
    lists=re.compile("、"),
    filler=frozenset(_IDLE),
    asks=re.compile(
        "有没有|我想看|想看|想要|推荐|请|适合|今晚|周末|孩子|给我|找一?[部本个]?|有什么|最好"
        "|一部|一个|一本|几部|来[点部个]|差不多|这样|那样|之类|的故事|都可以|也可以|如果|可以|"
        "只要|只看|还有|喜欢|看看|一些|一点|关于|有关|讲的?"
    ),
    only=re.compile("只要|只看|仅"),
    instead=re.compile("换成|改成|换一?[个部]|而是"),
    restart=re.compile("重新开始|重来|从头|忘掉(?:一切|之前|前面)|清空"),
    also=re.compile("^(?:还要|也要|再加|或者|还有|加上)|也(?:可以|行|要)"),
    drops=(
        re.compile(
            f"(?:不限|忘掉|忘了|取消|去掉|忽略|别管|不管|不考虑|无所谓)(?P<what>{_HAN}{{2,4}})"
            "(?:限制|条件)?"
        ),
        re.compile(f"(?P<what>{_HAN}{{2}})(?:不限|无所谓|不重要|都可以|随便)"),
    ),
)
