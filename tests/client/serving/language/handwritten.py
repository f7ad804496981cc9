"""Sixty requests written by hand, and what each one cannot do without.

They are for films that have genres and a decade. Each says which genres are wanted (any
of them), which are not, and the first and last year; what else it says may order the
list, and is not judged.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    text: str
    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None


REQUESTS = (
    # Two or three constraints, with a refusal.
    Asked(
        "a highly rated science-fiction film from the nineties, nothing with horror",
        ("Sci-Fi",),
        ("Horror",),
        1990,
        1999,
    ),
    Asked(
        "something funny from the 80s but please no romance",
        ("Comedy",),
        ("Romance",),
        1980,
        1989,
    ),
    Asked(
        "I want a thriller without any action or violence, made before 1970",
        ("Thriller",),
        ("Action",),
        None,
        1969,
    ),
    Asked("animated movies for my daughter, no musicals", ("Animation",), ("Musical",)),
    Asked(
        "war films that aren't dramas, older than 1980",
        ("War",),
        ("Drama",),
        None,
        1979,
    ),
    Asked(
        "crime but not film noir and not from the forties",
        ("Crime",),
        ("Film-Noir",),
    ),
    Asked("Give me a western, I hate comedies", ("Western",), ("Comedy",)),
    Asked(
        "adventure between 1950 and 1969, nothing for children",
        ("Adventure",),
        ("Children's",),
        1950,
        1969,
    ),
    Asked(
        "no horror, no thrillers, just a nice romantic comedy from 1995",
        ("Romance", "Comedy"),
        ("Horror", "Thriller"),
        1995,
        1995,
    ),
    Asked(
        "a scary movie that is not sci-fi, seventies if possible",
        ("Horror",),
        ("Sci-Fi",),
        1970,
        1979,
    ),
    Asked(
        "mystery please, anything except crime stories, from the 1940s or 1950s",
        ("Mystery",),
        ("Crime",),
        1940,
        1959,
    ),
    Asked(
        "old musicals, but nothing animated, up to 1960",
        ("Musical",),
        ("Animation",),
        None,
        1960,
    ),
    Asked(
        "dramas since 1990 without war, crime or horror",
        ("Drama",),
        ("War", "Crime", "Horror"),
        1990,
        None,
    ),
    # One or two, plainly.
    Asked("comedies from the eighties", ("Comedy",), (), 1980, 1989),
    Asked("horror", ("Horror",)),
    Asked("film noir", ("Film-Noir",)),
    Asked("documentaries", ("Documentary",)),
    Asked("a good old western", ("Western",)),
    Asked("sci fi from the fifties", ("Sci-Fi",), (), 1950, 1959),
    Asked("Fantasy movies", ("Fantasy",)),
    Asked("90s action", ("Action",), (), 1990, 1999),
    Asked("musicals from before 1950", ("Musical",), (), None, 1949),
    Asked("thrillers from the 1970s", ("Thriller",), (), 1970, 1979),
    Asked("romance or drama from the thirties", ("Romance", "Drama"), (), 1930, 1939),
    Asked("some crime film from the early nineties", ("Crime",), (), 1990, 1993),
    Asked("anything from the twenties", (), (), 1920, 1929),
    Asked("films of the 1960s", (), (), 1960, 1969),
    Asked("what did people watch in the 1930's?", (), (), 1930, 1939),
    Asked("war movies made after 1985", ("War",), (), 1986, None),
    Asked("mysteries from 1940 to 1949", ("Mystery",), (), 1940, 1949),
    # Only a refusal.
    Asked("anything but horror", (), ("Horror",)),
    Asked("no dramas please", (), ("Drama",)),
    Asked("I'm sick of action and comedy, surprise me", (), ("Action", "Comedy")),
    Asked("nothing from the nineties", (), (), None, 1989),
    Asked(
        "everything except documentaries and westerns", (), ("Documentary", "Western")
    ),
    Asked("don't show me anything romantic", (), ("Romance",)),
    # With a subject, a mood or a title beside.
    Asked("a cartoon about a lion", ("Animation",)),
    Asked("space battles, science fiction, well known", ("Sci-Fi",)),
    Asked("something like Star Wars but not a war film", (), ("War",)),
    Asked("a detective story set in Los Angeles", ("Mystery",)),
    Asked("submarine thrillers without romance", ("Thriller",), ("Romance",)),
    Asked("a popular comedy about a wedding from the 90s", ("Comedy",), (), 1990, 1999),
    Asked("gangster films, not too violent", ("Crime",)),
    Asked("kids movies with animals, no cartoons", ("Children's",), ("Animation",)),
    Asked(
        "something suspenseful in the spirit of Hitchcock, fifties",
        ("Thriller",),
        (),
        1950,
        1959,
    ),
    Asked("a film like Casablanca from the 40s", (), (), 1940, 1949),
    Asked("a sad love story", ("Romance",)),
    Asked("an epic about war and friendship", ("War",)),
    Asked("dark fantasy, nothing for kids", ("Fantasy",), ("Children's",)),
    Asked(
        "I loved Alien, give me more sci-fi horror from the eighties",
        ("Sci-Fi", "Horror"),
        (),
        1980,
        1989,
    ),
    # Clumsy, misspelt, chatty.
    Asked("scifi no horor", ("Sci-Fi",), ("Horror",)),
    Asked("comedys from 80s pls", ("Comedy",), (), 1980, 1989),
    Asked(
        "hey can u recomend a thriler for tonite, not horror thx",
        ("Thriller",),
        ("Horror",),
    ),
    Asked("movie. western. 60s.", ("Western",), (), 1960, 1969),
    Asked(
        "want watch animation no musical 1990s",
        ("Animation",),
        ("Musical",),
        1990,
        1999,
    ),
    Asked(
        "My wife likes romantic films and I can't stand war movies, what could we see?",
        ("Romance",),
        ("War",),
    ),
    Asked(
        "it's raining and I feel like a whodunit from the golden age, 1930s or 1940s",
        ("Mystery",),
        (),
        1930,
        1949,
    ),
    Asked("ADVENTURE MOVIES PRE-1960!!!", ("Adventure",), (), None, 1959),
    Asked(
        "Could you find me a film that is neither a drama nor a comedy, seventies?",
        (),
        ("Drama", "Comedy"),
        1970,
        1979,
    ),
    Asked(
        "hmm, maybe a documentary about music? not too long, nineties",
        ("Documentary",),
        (),
        1990,
        1999,
    ),
)
