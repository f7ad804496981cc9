"""English frames of requests, and what fills them beside the catalogue's own names.

A slot in braces is filled from the public catalogue (``trait``, ``maker``, ``kind``,
``title``, ``range``) or from the lists here. A slot that begins with ``no_`` is refused
by the frame's own words.
"""

from typing import Final

from client.serving.language.bounds import How
from client.serving.language.names import Measure

FRAMES: Final = tuple(
    frame.strip()
    for frame in """
{trait} {nouns}
a {trait} {noun}
some {trait} {nouns} please
{kind}s
a {kind}
{trait} {kind}s
a {trait} {kind} by {maker}
a {wish} {trait} {kind} {range}, nothing with {no_trait}
a {wish} {trait} {noun} {range}, nothing with {no_trait}
a {wish} {trait} {noun} {range}
{wish} {trait} {nouns} {range}
{wish} {nouns} {range} about {about}
{trait} or {trait} {nouns}
{trait} and {trait} {range}
{trait}, {trait}, not {no_trait}
{trait}, {range}
{trait} {range}
{range} {trait} {nouns}
{trait} but not {no_trait}
{trait} {nouns} without {no_trait}
{nouns} {range} but no {no_trait}
no {no_trait}, no {no_trait}
nothing with {no_trait} or {no_trait} please
anything except {no_trait}
anything but {no_trait}, {range}
please, not another {no_trait} {noun}
i hate {no_trait} and {no_trait}
i don't want {no_trait} {nouns}, give me {trait}
i am tired of {no_trait}, show me a {wish} {noun}
{trait} {nouns} by {maker}
{nouns} by {maker}
{nouns} with {maker}
{nouns} from {maker} {range}
something by {maker}, {trait} if possible
something from {maker} but nothing {no_trait}
{maker} {nouns}
anything made by {maker} or {maker}
not by {no_maker}
{trait} {nouns}, but nothing from {no_maker}
something {trait} and {wish}
something {wish} about {about}
something {wish}
something {trait}
something {trait} about {about}
a {noun} about {about}
{nouns} about {about}
{nouns} about {about} {range}
{about}
{about} {nouns}
i would like a {noun} about {about}
i'd like to see {about}
show me {about}
looking for {about}, {trait}
a {trait} {noun} about {about}, no {no_trait}
a story of {about} and {about}
{nouns} where {about} matters
{nouns} set in {about}
a {wish} {noun} with {about} in it
{about} {trait}
{about} {trait} {nouns} without {no_trait}
a {noun} about {trait}
{nouns} about {trait} and {about}
{wish} {about} {trait} {range}
i want {about}, not {no_trait}
{nouns} like {title}
something like {title}
similar to {title}
like {title} but {wish}
like {title}, but not {unlike}
{trait} {nouns} like {title} {range}
i loved {title}, what next?
i really enjoyed {title} and {title}
in the style of {title}, {range}
if you liked {title} then what, without {no_trait}
{nouns} like {title} but less {less}
{wish} {nouns} like {title}, no {no_trait}
less {less}
more {less}
less {less}, and {wish}
more {less} and less {less}
not too {less}
nothing too {less}
a {noun} that is not too {less} {range}
{trait} {nouns} that are less {less}
{wish}
{wish} please
{wish} ones
{range} only
only {range}
only {trait}
only {maker}
just {trait} {nouns}
not {no_trait}
no {no_trait}
no {nouns} {range}
make it {wish}
what is a {wish} {trait} {noun} for tonight?
can you recommend a {trait} {noun} {range}?
could you find me {nouns} {range}, {trait} preferably
i'm looking for {wish} {nouns}, maybe {trait}
i feel like watching {trait} tonight, about {about}
my kids want {trait}, and {wish}
give me {trait} {nouns} {range} and nothing {no_trait}
hi, do you have any {trait} {nouns} by {maker}?
what do you have by {maker}?
which {trait} {nouns} {range} are {wish}?
{trait} {trait} {nouns} {range} without any {no_trait}
we are in the mood for {trait}, no {no_trait} though
the {wish} {trait} {nouns} {range}
the {wish} {noun} {range}
thanks, now {trait}
ok what about {about}
the whole evening with {about}
for a rainy day: {trait}, {wish}, {about}
we watched {title} yesterday and loved it, any other {trait} {nouns}?
my sister adores {trait}, could you pick something {wish} for her?
somebody told me about a {noun} with {about}, what was it?
let us try {trait} for once, {range} of course
how about {trait} {range}, or {trait}?
all the {trait} {nouns} you have, sorted, but without {no_trait}
whatever you choose, it must be {trait} and it cannot be {no_trait}
my grandfather only watches {trait} {nouns} that came out {range}
ideally {trait}, certainly not {no_trait}, and {wish} if there is one
we are having guests on friday, so something {wish} and {trait}
after a long day i need {trait}
this time {trait}, last time it was {no_trait} and that was enough without {no_trait}
the sort of {noun} that critics love: {wish}, {trait}
is anything {wish} left {range}?
do not bother me with {no_trait} again
i would rather not see {no_trait}, {range} is fine
a double bill of {trait} and {trait}, {range}
in the tradition of {title}
along the same lines as {title}, {range}
close to {title} in spirit, {wish} though
what would somebody who liked {title} enjoy next?
reminds me of {title}, more of that please
people say {title} is great, what is similar to {title}?
a {noun} {range} that everybody talked about
{trait} {nouns} for a party, nothing {no_trait}
for the plane: {trait}
could be {trait}, could be {trait}, must be {range}
{about}, {about} and {about}
the one with {about}
it takes place in {about}, i believe
a tale of {about} told {range}
there was a {noun} where {about} happened, {range}
as far as i am concerned {trait} is best
sort of {trait}, sort of {wish}
perhaps {maker}, perhaps {maker}
more by {maker}, please
whatever {maker} did {range}
{maker} or somebody like that, {trait}
{kind}s for children about {about}
a {wish} {kind}, {trait}, by {maker}
{kind} {trait} {range}
any {kind} that {maker} made, not {no_trait}
""".strip().splitlines()
)
NOUNS: Final = (
    ("film", "films"),
    ("movie", "movies"),
    ("one", "ones"),
    ("thing", "things"),
    ("title", "titles"),
    ("flick", "flicks"),
)
WISHES: Final[dict[Measure | str, tuple[str, ...]]] = {
    "popularity": (
        *("popular", "famous", "well-known", "well known", "little-known", "obscure"),
        *("mainstream", "very popular", "underrated", "less popular"),
    ),
    "rating": (
        *("highly rated", "top-rated", "acclaimed", "critically acclaimed"),
        *("award-winning", "well reviewed", "best rated", "best", "best", "top"),
    ),
    "year": ("new", "newer", "recent", "modern", "old", "older", "classic", "vintage"),
    "price": ("cheap", "cheaper", "affordable", "inexpensive", "expensive", "budget"),
    "length": ("short", "shorter", "long", "longer"),
}
RANGES: Final[dict[Measure, tuple[tuple[How, str], ...]]] = {
    "year": (
        *(("at", "from {p}"), ("at", "from {p}"), ("at", "made in {p}"), ("at", "{p}")),
        *(("at", "of {p}"), ("at", "released in {p}")),
        *(("before", "before {p}"), ("before", "from before {p}")),
        *(("before", "older than {p}"), ("until", "up to {p}"), ("until", "until {p}")),
        *(("after", "after {p}"), ("after", "newer than {p}"), ("since", "since {p}")),
        *(("since", "from {p} on"), ("since", "{p} or later")),
        *(("between", "between {p} and {q}"), ("between", "from {p} to {q}")),
        *(("between", "{p}-{q}"), ("about", "around {p}")),
    ),
    "price": (
        *(("below", "under {p}"), ("below", "below {p}"), ("below", "less than {p}")),
        *(
            ("below", "cheaper than {p}"),
            ("most", "up to {p}"),
            ("most", "at most {p}"),
        ),
        *(("above", "over {p}"), ("above", "more than {p}"), ("least", "at least {p}")),
        *(("between", "between {p} and {q}"), ("about", "around {p}")),
        *(("most", "no more than {p}"), ("most", "{p} or less")),
    ),
    "length": (
        *(("below", "under {p}"), ("below", "shorter than {p}")),
        *(("most", "up to {p}"), ("above", "over {p}"), ("above", "longer than {p}")),
        *(("between", "between {p} and {q}"), ("about", "around {p}")),
    ),
    "rating": (
        *(("least", "at least {p}"), ("above", "over {p}"), ("above", "more than {p}")),
    ),
}
UNITS: Final[dict[Measure, tuple[str, ...]]] = {
    "price": ("{} dollars", "${}", "{} euros", "{} bucks", "€{}"),
    "length": ("{} minutes", "{} min"),
    "rating": ("{} stars",),
}
DECADES: Final = {
    1920: "twenties",
    1930: "thirties",
    1940: "forties",
    1950: "fifties",
    1960: "sixties",
    1970: "seventies",
    1980: "eighties",
    1990: "nineties",
}
LESS: Final = (
    *("violent", "scary", "sentimental", "sad", "serious", "silly", "bloody", "loud"),
    *("slow", "dark", "romantic", "complicated", "predictable", "funny", "weird"),
    *("childish", "political", "sweet", "heavy", "technical", "long-winded", "talky"),
    *("gore", "blood", "kissing", "singing", "shouting", "action", "talking", "magic"),
)
ABOUT: Final = tuple(
    phrase.strip()
    for phrase in """
talking animals; two brothers who rob a bank; life on a submarine; a haunted house;
growing up in a small town; chess; time travel; a lonely lighthouse keeper; dinosaurs;
friendship between a boy and his dog; robots that dream; a long journey by train;
the sea; learning to cook; a court case; climbing mountains; a heist gone wrong;
space exploration; dancing; a teacher who changes lives; revenge; an old violin;
artificial intelligence; baseball; boxing; vampires; a wedding; journalists; prison;
pirates and treasure; gardening in winter; a missing child; hackers; a road trip;
camping equipment; something warm for cold nights; a gift for my father; music;
first love; spies; a bad marriage; magic tricks; the end of the world; football;
doctors in a hospital; small talk at breakfast; ghosts; submarines and deep water;
racing cars; a talking pig; immigrants in new york; high school; ancient rome; aliens;
a serial killer; a king and his fool; painting; bees and honey; strong women; lawyers
""".replace("\n", " ").split(";")
)
