"""The words of the embedded catalogue: what items are about, and how they are dressed.

A clue hints at one theme and rarely names it. A dressing (title, maker, place, mood,
colour) says nothing about taste; it is what a frozen encoder mistakes for likeness.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Clues to one theme: what a film or a book tells, and what a product is."""

    name: str
    stories: tuple[str, ...]
    objects: tuple[str, ...]


def _theme(name: str, stories: str, objects: str) -> Theme:
    """A theme whose clues are separated by ``;``."""

    def clues(text: str) -> tuple[str, ...]:
        return tuple(" ".join(clue.split()) for clue in text.split(";"))

    return Theme(name=name, stories=clues(stories), objects=clues(objects))


THEMES: Final[tuple[Theme, ...]] = (
    _theme(
        "ocean exploration",
        """two men sealed in a steel sphere; the slow descent to the trench; a
        biologist who follows whales; the wreck nobody could reach; creatures that
        make their own light; a summer spent under forty fathoms; the woman who
        mapped the abyss; the last breath of a pearl diver; a kelp forest and its
        poachers; sunlight lost at two hundred metres; the submersible that
        stopped answering; octopuses and loneliness; salvage under a dead calm""",
        """a rubber mask and fins; a sonar for small boats; a wetsuit for cold water;
        a plush anglerfish; a pressure gauge; a jar of reef salt; a snorkel; a
        model bathyscaphe; a weight belt; a waterproof slate; a coral atlas; an
        oxygen tank""",
    ),
    _theme(
        "slow cooking",
        """a grandmother and her stockpot; a stew that takes three days; the cook who
        refuses to hurry; beans, bones and a low flame; a family that argues over
        the ragout; marrow and red wine on a Sunday; the braise that saved a
        restaurant; what simmers while the house sleeps; the onion soup of the
        night porters; an oven that never goes out; duck fat and forgiveness; a
        cassoulet worth a feud; grandfather's recipe for oxtail""",
        """an enamelled casserole; a clay pot with a lid; a long wooden spoon; a
        bouquet of dried herbs; a heavy iron pan; a meat thermometer; an apron
        with deep pockets; a ladle for broth; a spice mortar; a stoneware crock; a
        jar of bone stock; a roasting tin""",
    ),
    _theme(
        "night trains",
        """strangers who share a sleeping berth; the last carriage before the border;
        a conductor with a secret; a platform at three in the morning; the line
        that was never finished; tea from the attendant's samovar; a missed
        connection in the snow; eleven hours in compartment six; the guard who
        counted tickets twice; couchettes and cold coffee; steam over the viaduct;
        the sleeper to the capital; a suitcase left on the rack""",
        """an eye mask and earplugs; a signalman's lamp; a miniature locomotive; a
        timetable poster; a neck pillow; a folding luggage rack; a whistle of the
        railways; a dining car teaspoon set; a pocket map of branch lines; a
        porter's cap; a pair of berth slippers; a station clock""",
    ),
    _theme(
        "desert survival",
        """four days without water; a caravan that loses its well; the pilot who
        walked out of the dunes; salt, thirst and a stubborn camel; a mirage two
        brothers believe in; what the nomads know about shade; a broken axle far
        from any road; the sandstorm and the child; an oasis that moved; the
        legionnaire with cracked lips; tracks of a viper at dawn; the map drawn on
        a waterskin; heat, hyenas and one match""",
        """a goatskin canteen; a scarf against sand; a sun hat with a neck flap; a
        solar still; a fire steel; a pair of dust goggles; rehydration tablets; a
        cactus in a pot; a signal mirror; a light linen robe; a packet of dates; a
        snakebite kit""",
    ),
    _theme(
        "chess rivalry",
        """two masters and one adjourned game; a prodigy who cannot lose; the queen
        sacrificed on move nine; a bishop, a knight and an old grudge; the
        champion who vanished before the match; a draw offered too late;
        sixty-four squares and a marriage; the hustler of the park tables; a
        stalemate in the embassy; the blindfold simultaneous; checkmate by post;
        an opening named after an enemy; the grandmaster's second""",
        """a folding board of walnut; a tournament clock; weighted pawns and rooks; a
        book of endgames; a scorepad for openings; a magnetic travel set; a marble
        king; a print of the Sicilian defence; a felt-bottomed set; a notation
        pencil; an analysis computer; a gambit trainer""",
    ),
    _theme(
        "polar winter",
        """six months without a sunrise; dogs, sledges and frozen boots; a ship held
        fast by the pack; the radio operator at the southernmost hut; seal meat
        and scurvy; the captain who would not turn back; a meteorologist alone
        with the aurora; footprints on the ice shelf; the hut buried by a
        blizzard; an icebreaker's stowaway; penguins and depression; the
        expedition's last biscuit; wintering over with eleven men""",
        """a down parka; wool mittens on a cord; snow spectacles; a paraffin stove; a
        set of crampons; a thermal flask; a fur-lined hood; a tin of pemmican; a
        balaclava; a sledge harness; a pair of mukluks; a windproof tent""",
    ),
    _theme(
        "wild gardens",
        """an orchard left to itself; the widow who planted a meadow; a quarrel over
        a hedge; seeds carried home in a pocket; the head gardener's last spring;
        weeds that took over the rectory; a rose that had no name; worms, compost
        and patience; nettles around the summerhouse; an allotment and its tyrant;
        the botanist's glasshouse; bees in the ivy wall; a fig tree that split the
        terrace""",
        """a pair of secateurs; a copper watering can; a mix of cornflower seeds; a
        trug of willow; a kneeling pad; a cold frame; a hand trowel; a ball of
        green twine; a bag of bulbs; a bird bath of stone; a pruning saw; a bee
        hotel""",
    ),
    _theme(
        "mountaineering",
        """a rope cut at the north face; the guide who lost his brother; a bivouac
        above the clouds; the first winter ascent; a sherpa's daughter; the summit
        seen only once; thin air and a bad decision; a glacier that gives back its
        dead; frostbite at camp four; a chimney, a ledge and no way down; the
        alpine club's expulsion; a piton driven in 1931; avalanche weather""",
        """a locking carabiner; an ice axe; a dry-treated rope; a chalk bag; a
        two-man bivouac tent; a climbing helmet; an altimeter; a pair of stiff
        boots; a belay device; a headlamp; a harness; a set of wired nuts""",
    ),
    _theme(
        "jazz nights",
        """a trumpet player past midnight; the basement club that never closed; a
        saxophone in a pawnshop; the singer who skipped the chorus; a quartet that
        fell apart on tour; brushes on a snare drum; the pianist with two left
        hands; blue notes and unpaid rent; swing on the last ferry; the drummer's
        unpaid bar tab; a clarinet that survived the war; improvising over a dead
        friend's tune; horns at a funeral""",
        """a box of tenor reeds; a trumpet mute; a record of bebop standards; a
        double bass bow; a metronome; a turntable needle; a poster of a quintet; a
        fake book of tunes; a ride cymbal; a swing anthology; a smoky club candle;
        a harmonica""",
    ),
    _theme(
        "clockwork",
        """an apprentice to a watchmaker; the tower that struck thirteen; springs,
        cogs and a wager; the automaton that wrote letters; a pendulum in a silent
        house; the inventor of the escapement; an hour nobody could account for; a
        music box and its twin; the mechanic of the astronomical dial; a tiny
        wheel lost in the carpet; the repairer who stopped the hours; a mainspring
        wound too tight; figures that parade at noon""",
        """a wind-up tin bird; a mantel timepiece; a kit of brass gears; a jeweller's
        screwdriver; a pocket watch; a cuckoo on a spring; an hourglass; a cutaway
        of a chronometer; a metal robot with a key; a tourbillon poster; an oiler
        and tweezers; a carillon cylinder""",
    ),
    _theme(
        "spaceflight",
        """a crew of three and a faulty hatch; the woman who counted down; a letter
        from low orbit; the dog that never came home; dust on a red horizon; the
        engineer of the second stage; weightless for a year; a signal from beyond
        the heliopause; a botanist on the lunar base; re-entry with half a shield;
        the capsule in the cornfield; two cosmonauts and one parachute; the launch
        window closes""",
        """a freeze-dried ice cream; a star projector; a mission patch; a model
        rocket; a telescope for beginners; a moon globe; a meteorite in a box; a
        silver flight jacket; a nebula poster; a toy lander; a pen that writes
        upside down; a capsule building set""",
    ),
    _theme(
        "cold cases",
        """a file reopened after thirty years; the witness who changed her story; an
        inspector in retirement; fingerprints on the wrong glass; the missing
        girl's bicycle; a confession nobody asked for; the coroner's private
        notes; who locked the pantry door; the alibi that aged badly; a body in
        the drained reservoir; the sergeant's missing notebook; blood on a wedding
        glove; a tip from the prison library""",
        """a corkboard with red string; a magnifying glass; a box of nitrile gloves;
        a trench coat; a dossier game for two; a fingerprint powder kit; a
        numbered set of markers; a notebook for interviews; a jigsaw with a
        culprit; a lamp for interrogation; a case file binder; a lock-picking set""",
    ),
    _theme(
        "art forgery",
        """a Vermeer too good to be true; the restorer with a second studio; a
        signature in the wrong corner; the dealer who asked no questions; fresh
        paint on old canvas; a museum ashamed of its treasure; the man who aged
        paper with tea; two identical portraits; the expert bribed with a sketch;
        a lost Caravaggio in the laundry; craquelure by the oven; the auction that
        went too well; an heir and his fake Matisses""",
        """a set of ground pigments; a gilded frame; a bottle of varnish; an
        ultraviolet torch; a sable brush; a copy of a Dutch master; a tube of lead
        white; a linen canvas; a palette knife; a stretcher frame; a gold leaf
        booklet; an easel""",
    ),
    _theme(
        "lighthouse keeping",
        """a keeper and his logbook; the lamp that went dark in a gale; a rock, two
        men and no relief boat; a foghorn that woke the village; the daughter who
        rowed out to the wreck; spiral stairs and seabirds; a beam seen from
        nineteen miles; storms against the granite tower; the wick, the oil and
        the ghost ship; a cliff path in fog; the automation of the last beacon;
        three keepers and two chairs; a winter alone on the skerry""",
        """a Fresnel lens lamp; an oilskin coat; a barometer; a fog bell; a ship in a
        bottle; a striped doorstop tower; a storm lantern; a chart of shoals; a
        brass telescope; a sou'wester; a tide table; a buoy bell""",
    ),
    _theme(
        "medieval sieges",
        """a castle with one well; the mason who knew the weak wall; ladders, pitch
        and arrows; a boy in borrowed chain mail; the winter the drawbridge stayed
        up; a duke's ransom; the trebuchet named after a queen; tunnels under the
        keep; a moat full of mud; the crossbowman's vow; boiling oil at the
        postern; the herald between two camps; starving behind the battlements""",
        """a wooden catapult kit; a longbow; a knight's helm for children; a wax seal
        and signet; a banner with a lion; a pewter goblet; a shield for the wall;
        a puzzle of a fortress; a tabard; a mace of foam; a halberd letter opener;
        a portcullis bookend""",
    ),
    _theme(
        "thinking machines",
        """a computer that asks for a name; the android next door; a programmer who
        cannot switch it off; circuits that dream; the translator made of wires;
        an algorithm on trial; the last question put to the mainframe; a robot
        raised as a son; the chatbot that fell silent; a factory with no workers;
        the child who debugged her father; a mind uploaded by accident; gears,
        code and conscience""",
        """a servo arm; a soldering set; a talking toy droid; a single-board
        computer; a logic puzzle cube; a line-following buggy; a book of neural
        networks; a mechanical keyboard; a sensor starter pack; a desk companion
        that blinks; a reel of jumper wire; a game of logic gates""",
    ),
    _theme(
        "horses",
        """a mare nobody could ride; the stable boy's inheritance; a derby lost by a
        nose; hooves on the frozen steppe; a foal born in a thunderstorm; the
        farrier and the countess; two sisters and a grey pony; wild herds behind
        the ridge; the jockey's last furlong; a gallop along the tideline; the
        knacker's cart; dressage at the fallen court; a stallion won at cards""",
        """a leather bridle; a pair of jodhpurs; a curry comb; a saddle blanket; a
        riding crop; a bag of oat treats; a lucky iron shoe; a rocking colt for
        the nursery; a hoof pick; a show jumping helmet; a bale net; a stirrup
        buckle belt""",
    ),
    _theme(
        "boxing",
        """a southpaw with a glass jaw; ten rounds in a smoky hall; the trainer who
        threw in the towel; a featherweight and her father; a fixed fight in the
        provinces; sweat, tape and a split lip; the comeback nobody wanted; the
        bell after the knockdown; a bantam champion in exile; shadow and sandbag
        in the cellar; the cutman's story; weighing in at dawn; a left hook
        remembered""",
        """a pair of hand wraps; a heavy punching bag; a skipping rope; a mouthguard;
        a satin robe; a speed ball; a round timer; a stool for the corner; a
        headguard; a medicine ball; lace-up ring shoes; a gum-shield case""",
    ),
    _theme(
        "haunted houses",
        """a stair that creaks at noon; the nursery kept locked; a governess and her
        pale pupils; whispers behind the wallpaper; the medium who heard too much;
        a cradle that rocks by itself; the guest who cast no shadow; a portrait
        with moving eyes; the séance in the orangery; cold spots along the
        corridor; a bride bricked into the chimney; the caretaker who never left;
        scratching above the ceiling""",
        """a spirit board; a black candle; a cobweb lace shawl; a cracked mirror; a
        skull paperweight; a recording of footsteps; a raven on a perch; a sheet
        with two holes; a creaky hinge sound box; a tarot deck; a glow-in-the-dark
        phantom; a planchette""",
    ),
    _theme(
        "codebreaking",
        """a hut full of mathematicians; the crossword that was a test; a message in
        four-letter groups; the linguist who read the rotor; a traitor in the
        signals room; numbers read over shortwave; the key that changed every
        midnight; a cipher hidden in a hymn; the bombe that would not stop; a
        spy's one-time pad; dots and dashes from a doomed ship; the girl who
        spotted the repeat; an uncrackable manuscript""",
        """a wheel for secret alphabets; a pad of cryptograms; invisible ink; a Morse
        key; a rotor machine in miniature; a book of hard puzzles; a shortwave
        receiver; a box with a letter lock; a decoder ring; a slide grille of
        brass; a book of ciphers; a stencil for hidden messages""",
    ),
    _theme(
        "birdwatching",
        """a year of counting warblers; the hide beside the estuary; a rare gull and
        a feud; the egg collector's remorse; a heron at the reservoir; listening
        for the nightjar; the migration over the strait; a falconer without a
        falcon; the twitcher's lie; swifts over the gasworks; an albatross ringed
        in 1956; a notebook of plumages; the marsh before first light""",
        """a pair of binoculars; a nesting box; a feeder for finches; a field guide
        to waders; a peanut holder; a tripod and scope; a recording of dawn songs;
        an owl pellet kit; a suet ball; a camouflage net; a decoy duck; a pocket
        list of species""",
    ),
    _theme(
        "tea",
        """a plantation above the mist; the ceremony of the cracked bowl; a smuggler
        of oolong; leaves, steam and silence; the taster who lost her palate; a
        kettle between two enemies; five o'clock in the colony; the first flush of
        spring; the auction of the Assam crop; a samovar in exile; steeping,
        pouring, waiting; the clipper that raced from Canton; a house where nobody
        drank coffee""",
        """a cast-iron kettle; a whisk for matcha; a caddy of Darjeeling; a strainer;
        a porcelain cup and saucer; a tin of smoky lapsang; a knitted cosy; a
        bamboo scoop; a glass infuser; a brick of pu-erh; a set of scone plates; a
        jar of jasmine pearls""",
    ),
    _theme(
        "cartography",
        """a surveyor beyond the last village; an island drawn by mistake; the
        theodolite in the jungle; the atlas a king burned; a coastline nobody
        agreed on; triangles across a continent; the engraver of imaginary rivers;
        a blank space in the north; a border drawn with a blunt pencil; the
        hydrographer's oath; longitudes and lies; pacing out the salt flats; the
        monk who mapped paradise""",
        """a scratch-off wall map; a globe on a stand; a compass in a case; a ruler
        for distances; a pair of dividers; a print of meridians; a folding plan of
        the old town; a box of pins for places; a drawing pen for contours; a star
        chart; a survey chain; an antique sheet of the Indies""",
    ),
    _theme(
        "weaving",
        """a loom carried over the pass; the dyer's blue hands; a carpet that took
        nine years; the mill girls on strike; a shawl with a mistake in it; wool,
        spindles and gossip; the last silk workshop; a tapestry that names the
        guilty; indigo under the fingernails; a pattern passed from aunt to niece;
        warp, weft and a broken engagement; the bobbin boy's revolt; threads from
        a saint's cloak""",
        """a table loom; a skein of merino; a drop spindle; a set of bobbins; a kit
        for natural dyes; a pair of carding combs; a basket of flax; a shuttle of
        pear wood; a heddle; a tartan throw; a spinning wheel; an embroidery hoop""",
    ),
)


def _words(text: str) -> tuple[str, ...]:
    """The comma-separated words of ``text``."""
    return tuple(word.strip() for word in text.split(","))


TITLE_FIRST: Final = _words(
    """Quiet, Copper, Second, Borrowed, Crooked, Gentle, Distant, Paper, Velvet, Honest,
    Scarlet, Broken, Patient, Hollow, Golden, Tender, Idle, Curious, Narrow, Silver,
    Secret, Humble, Faded, Perfect, Restless, Simple, Bitter, Painted, Sudden, Ordinary,
    Lucky, Amber, Foreign, Modest, Grand, Careless, Bright, Lonely, Double, Final"""
)
TITLE_LAST: Final = _words(
    """Promise, Answer, Letter, Sunday, Mirror, Parade, Season, Habit, Chorus, Witness,
    Harvest, Bargain, Shadow, Corner, Window, Festival, Whisper, Ribbon, Daughter,
    Fortune, Holiday, Language, Stranger, Thursday, Machine, Bridge, Question, Garden,
    Empire, Memory, Silence, Weather, Passage, Mercy, Colony, Feather, Anthem, Village,
    Circle, Portrait"""
)
CREATORS: Final = _words(
    """Ingrid Solberg, Mateo Ruiz, Aiko Tanaka, Priya Nair, Louis Marchand,
    Olga Petrova, Kwame Mensah, Greta Lindholm, Tomas Novak, Leila Haddad, Sean Doyle,
    Chiara Conti, Emre Kaya, Hana Kim, Pedro Alves, Ruth Adler, Wei Zhang, Anna Kovacs,
    Jonas Weber, Nadia Benali, Eva Jansen, Diego Rojas, Clara Hughes, Ivan Horvat"""
)
PLACES: Final = _words(
    """Lisbon, Kyoto, Buenos Aires, Glasgow, Marrakesh, Vienna, Mumbai, Stockholm,
    Havana, Naples, Seoul, Prague, Accra, Montreal, Athens, Istanbul"""
)
MOODS: Final = _words(
    """melancholy, playful, bleak, tender, wry, lavish, restrained, feverish, dreamy,
    stark, warm, nervous"""
)
COLOURS: Final = _words(
    """moss green, cream, cobalt blue, rust red, charcoal, mustard yellow, lilac,
    silver, coral pink, walnut brown"""
)

DOMAINS: Final = ("film", "book", "product")
# Two clues each; whether both belong to one theme is not for the reader to see.
SENTENCES: Final = {
    "film": (
        "{title}, a {mood} film by {creator}: {clue}. Also, {other}.",
        "{title}, filmed in {place}: {clue}. Then, {other}.",
        "{title}, a film in {colour} light: {other}. Above all, {clue}.",
    ),
    "book": (
        "{title}, a {mood} novel by {creator} about {clue} and {other}.",
        "{title}, tales from {place}: {clue}, {other}.",
        "{title}: {other}, then {clue}. Bound in {colour}.",
    ),
    "product": (
        "{title}: {clue} in {colour}, by {creator}. Comes with {other}.",
        "{title}, made in {place}: {clue}, with {other}.",
        "{title}, for {mood} days: {clue} and {other} in a {colour} box.",
    ),
}
