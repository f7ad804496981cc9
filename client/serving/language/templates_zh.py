"""Chinese frames of requests, and what fills them beside the catalogue's own names.

The slots are those of ``templates_en.py``.
"""

from typing import Final

from client.serving.language.bounds import How
from client.serving.language.names import Measure

FRAMES: Final = tuple(
    frame.strip()
    for frame in """
{trait}
{trait}{noun}
一部{trait}{noun}
{kind}
一个{trait}的{kind}
{trait}的{kind}
{maker}的{kind}
想看{trait}{noun}
我想看一部{trait}{noun}
{range}的{trait}{noun}
{range}{trait}{noun}
一部{range}的{wish}{trait}{noun},不要{no_trait}
{wish}的{trait}{noun},{range}
{wish}的{noun}
{wish}{noun}
{range}的{noun}
{trait}或{trait}{noun}
{trait},但不要{no_trait}
{trait}{noun},没有{no_trait}的
不要{no_trait}
不要{no_trait}和{no_trait}
不想看{no_trait},来点{trait}
除了{no_trait}都可以
别给我{no_trait}
{maker}的{noun}
{maker}的{trait}{noun}
有没有{maker}的{noun}?
不要{no_maker}的
关于{about}的{noun}
关于{about}的{trait}{noun}
讲{about}的{noun},{range}
{range}关于{about}的{noun},不要{no_trait}
我想看{about}
有关{about}的,{wish}
像《{title}》的{noun}
类似《{title}》的{noun},{range}
和《{title}》差不多的
喜欢《{title}》,还有什么推荐?
像《{title}》,但不要{no_trait}
像《{title}》,但少一点{less}
不那么{less}
不要太{less}
少一点{less},{wish}
多一点{less}
更{less}一点
{wish}
{wish}的
只要{trait}
只看{range}的
给我推荐{wish}的{trait}{noun}
请推荐几部{range}的{trait}{noun}
有什么{wish}的{noun}适合今晚看?
今晚想看{trait}的,最好{wish}
孩子想看{trait},不要{no_trait}
找一部{about}的故事
适合周末的{trait}{noun},{wish}
""".strip().splitlines()
)
NOUNS: Final = (("电影", "电影"), ("片子", "片子"), ("影片", "影片"), ("", ""))
WISHES: Final[dict[Measure | str, tuple[str, ...]]] = {
    "popularity": ("热门", "知名", "有名", "受欢迎", "著名", "冷门", "小众"),
    "rating": ("高分", "评分高", "口碑好", "好评", "获奖"),
    "year": ("新", "最新", "更新", "新一点", "老", "经典", "老一点", "最近"),
    "price": ("便宜", "便宜一点", "实惠", "更便宜", "贵一点", "高档"),
    "length": ("短一点", "长一点", "短"),
}
RANGES: Final[dict[Measure, tuple[tuple[How, str], ...]]] = {
    "year": (
        *(("at", "{p}"), ("at", "{p}"), ("before", "{p}以前"), ("before", "{p}之前")),
        *(("after", "{p}以后"), ("after", "{p}之后"), ("between", "{p}到{q}")),
        *(("since", "{p}以来"), ("between", "{p}至{q}"), ("about", "{p}左右")),
    ),
    "price": (
        *(("below", "低于{p}"), ("below", "不到{p}"), ("most", "{p}以下")),
        *(("most", "{p}以内"), ("above", "高于{p}"), ("least", "{p}以上")),
        *(("between", "{p}到{q}"), ("about", "{p}左右"), ("most", "不超过{p}")),
    ),
    "length": (("most", "{p}以内"), ("least", "{p}以上"), ("most", "不超过{p}")),
    "rating": (("least", "{p}以上"),),
}
UNITS: Final[dict[Measure, tuple[str, ...]]] = {
    "price": ("{}元", "{}块", "{}块钱"),
    "length": ("{}分钟",),
    "rating": ("{}分", "{}星"),
}
DECADES: Final = {
    1950: "五十年代",
    1960: "六十年代",
    1970: "七十年代",
    1980: "八十年代",
    1990: "九十年代",
}
LESS: Final = (
    *("暴力", "吓人", "悲伤", "沉重", "严肃", "血腥", "浪漫", "复杂", "幼稚", "黑暗"),
    *("打斗", "说教", "煽情", "无聊", "吵闹"),
)
ABOUT: Final = tuple(
    phrase.strip()
    for phrase in """
会说话的动物;银行抢劫;潜水艇上的生活;闹鬼的房子;小镇上的成长;下棋;时间旅行;孤独的灯塔;恐龙;
男孩和狗的友谊;机器人;火车旅行;大海;学做饭;法庭;登山;太空探索;跳舞;老师和学生;复仇;小提琴;
人工智能;棒球;拳击;吸血鬼;婚礼;记者;监狱;海盗和宝藏;冬天的花园;失踪的孩子;黑客;公路;
露营装备;送给爸爸的礼物;音乐;初恋;间谍;魔术;世界末日;足球;医院里的医生;鬼;赛车;移民;高中;外星人
""".replace("\n", "").split(";")
)
