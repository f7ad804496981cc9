"""Frames of requests that no head is trained on."""

FRAMES = tuple(
    frame.strip()
    for frame in """
which {trait} {nouns} came out {range}?
tonight it has to be {trait}, whatever it is, but no {no_trait}
my friend raves about {trait} and {trait}; what would be {wish}?
got any {wish} {trait} stuff {range}?
{trait} would be perfect, especially about {about}
i'm after a {wish} {noun} that deals with {about}
we adored {title}, so another {noun} of that sort, {range}
no more {no_trait}, we had enough; rather {trait}
the kind of {trait} {noun} my grandmother saw {range}
do you know a {trait} {noun} without {no_trait} or {no_trait}?
{range}, {wish}, {trait}: what is there?
in the vein of {title} but {trait}
keep it {trait} and leave out {no_trait}
there must be some {wish} {nouns} on {about}
{nouns} for a long flight, {trait}, not {no_trait}, {range}
list every {trait} {noun} {range}
surprise us with {trait}, though never {no_trait}
is there a {noun} along the lines of {title}?
a {noun} in which {about} plays a part, preferably {trait}
a bit less {less}, a bit more {less}
a {trait} one, {wish} if you can
{trait} again, but {range} this time
{nouns} {maker} was involved in, {trait} ones
has {maker} done anything {trait}?
a {kind} for people who are fond of {about}
{kind}s by {maker}, {wish}
""".strip().splitlines()
)
