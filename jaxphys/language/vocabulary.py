"""The words that the offline provider understands beside the names of materials and things.

General English, chosen before any list of test prompts was looked at. A word that is in none of these lists, nor in
assets/materials.csv and assets/things.csv, is reported as not understood.
"""

from __future__ import annotations

import tomllib
from importlib import resources

_TEXT = (resources.files("jaxphys.language") / "assets" / "vocabulary.toml").read_text(encoding="utf-8")
_LISTS: dict[str, str] = tomllib.loads(_TEXT)


def _set(name: str) -> frozenset[str]:
    return frozenset(_LISTS[name].split())


def _phrases(name: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(phrase.split()) for phrase in _LISTS[name].split(","))


def _inflected(stems: str) -> dict[str, str]:
    """Regular forms of verbs, form to stem."""
    forms = {}
    for stem in stems.split():
        base = stem[:-1] if stem.endswith("e") else stem
        short = len(stem) > 2 and stem[-1] not in "aeiouwxy" and stem[-2] in "aeiou" and stem[-3] not in "aeiou"
        double = [stem + stem[-1] + "ed", stem + stem[-1] + "ing"] if short else []
        y = [stem[:-1] + "ies", stem[:-1] + "ied"] if stem.endswith("y") else []
        for form in (stem, stem + "s", stem + "es", base + "ed", base + "ing", *double, *y):
            forms.setdefault(form, stem)
    return forms


# Where an adjective moves a value inside the range of its material: -1 is the low end, 0 the mean, 1 the high end.
STIFFNESS = {
    **dict.fromkeys("soft soften softened tender supple pliable bendy flexible loose".split(), -0.6),
    **dict.fromkeys("squishy squashy squidgy floppy limp mushy saggy flabby jiggly wobbly".split(), -0.8),
    **dict.fromkeys("weak delicate flimsy stretchy yielding cushiony spongelike".split(), -0.4),
    **dict.fromkeys("hard stiff stiffened hardened unyielding".split(), 0.6),
    **dict.fromkeys("rigid inflexible unbendable rock-hard rock-solid".split(), 0.8),
    **dict.fromkeys(
        "firm tough strong sturdy robust tight taut dense reinforced unbreakable indestructible".split(), 0.4
    ),
}
VISCOSITY = {
    **dict.fromkeys("thick viscous gloopy gluey stiff".split(), 0.6),
    **dict.fromkeys("sticky gooey syrupy tacky".split(), 0.4),
    **dict.fromkeys("thin runny dilute diluted".split(), -0.6),
    "watery": -0.8,
}
DENSITY = {
    **dict.fromkeys("heavy dense weighty compact solid".split(), 0.6),
    **dict.fromkeys("light lightweight airy porous featherlight".split(), -0.6),
    "hollow": -0.8,
}
# Warmth softens and thins what a kitchen can soften; cold does the reverse.
WARMTH = {**dict.fromkeys("hot warm heated warmed".split(), -0.5), **dict.fromkeys("cold chilled cool".split(), 0.5)}
STRONGER = {
    **dict.fromkeys("very really pretty highly".split(), 1.5),
    **dict.fromkeys("extremely super incredibly ultra exceptionally insanely".split(), 2.0),
    **dict.fromkeys("slightly somewhat little bit fairly mildly moderately".split(), 0.5),
    **dict.fromkeys("quite rather so too".split(), 1.0),
}
SOFT = frozenset(w for w, s in STIFFNESS.items() if s < 0)
HARD = frozenset(w for w, s in STIFFNESS.items() if s > 0.5)

# What is assumed where no material and no thing is named: materials in the order of likelihood.
ADJECTIVE_DEFAULTS = {
    **dict.fromkeys(
        "bouncy elastic hyperelastic stretchy springy squeaky rebounding".split(), ("rubber", "silicone", "jelly")
    ),
    **dict.fromkeys("squishy squashy squidgy wobbly jiggly quivering".split(), ("jelly", "foam", "silicone")),
    **dict.fromkeys("soft floppy bendy flexible supple limp pliable".split(), ("silicone", "foam", "cloth")),
    **dict.fromkeys("hard rigid stiff inflexible".split(), ("plastic", "wood", "steel")),
    **dict.fromkeys("firm tough".split(), ("rubber", "plastic", "wood")),
    **dict.fromkeys("brittle fragile breakable transparent".split(), ("glass", "ceramic", "ice")),
    **dict.fromkeys("crispy crunchy crisp".split(), ("biscuit", "candy")),
    **dict.fromkeys("fluffy puffy fuzzy cuddly".split(), ("stuffing", "foam", "wool")),
    **dict.fromkeys("sticky gloopy gluey".split(), ("honey", "slime", "glue")),
    **dict.fromkeys("viscous syrupy".split(), ("honey", "syrup", "slime")),
    **dict.fromkeys("runny dripping".split(), ("water", "drink")),
    **dict.fromkeys("crumbly loose".split(), ("soil", "sand", "biscuit")),
    **dict.fromkeys("malleable kneadable pliant elastoplastic".split(), ("plasticine", "clay")),
    **dict.fromkeys("viscoelastic viscoplastic".split(), ("memory foam", "foam")),
    **dict.fromkeys("shiny rusty magnetic ductile".split(), ("steel", "aluminium")),
    **dict.fromkeys("heavy".split(), ("steel", "stone", "lead")),
    **dict.fromkeys("light lightweight porous".split(), ("styrofoam", "foam", "balsa")),
    **dict.fromkeys("mushy".split(), ("mashed potato", "pudding")),
    **dict.fromkeys("molten".split(), ("lava", "molten metal")),
    **dict.fromkeys("melted".split(), ("melted wax", "melted chocolate")),
    **dict.fromkeys("frozen".split(), ("ice",)),
    **dict.fromkeys("inflatable inflated".split(), ("latex", "rubber")),
    **dict.fromkeys("woven draped".split(), ("cloth",)),
    **dict.fromkeys("hollow".split(), ("plastic", "rubber")),
}
_VERB_DEFAULTS = {
    "bounce rebound": ("rubber", "silicone"),
    "wobble jiggle quiver": ("jelly", "pudding"),
    "pour flow spill trickle leak gush ripple splash slosh drip evaporate": ("water", "oil"),
    "ooze": ("slime", "honey"),
    "shatter crack": ("glass", "ceramic"),
    "dent clang clank rust weld forge": ("steel", "aluminium"),
    "crumble erode": ("soil", "biscuit", "sandstone"),
    "flutter drape flap wrinkle": ("cloth", "paper"),
    "melt thaw": ("ice", "wax"),
    "squash squish squeeze": ("foam", "jelly"),
    "stretch": ("rubber", "latex"),
    "knead mould mold sculpt": ("plasticine", "clay"),
    "burst pop inflate deflate": ("latex", "rubber"),
    "sift": ("flour", "sand"),
    "crumple": ("paper", "aluminium"),
    "smear": ("butter", "cream"),
    "stack": ("wood", "plastic"),
}
VERB_DEFAULTS = {form: rows for stems, rows in _VERB_DEFAULTS.items() for form, _ in _inflected(stems).items()}
OPPOSITES = {
    **dict.fromkeys("hard rigid stiff brittle firm".split(), ("rubber", "foam", "jelly")),
    **dict.fromkeys("soft squishy flexible stretchy elastic bouncy floppy".split(), ("plastic", "wood", "steel")),
    **dict.fromkeys("solid".split(), ("water", "honey")),
    **dict.fromkeys("liquid fluid runny wet".split(), ("plastic", "wood", "rubber")),
}
LAST_RESORT = ("rubber", "plastic", "wood")

# What a state makes of a material: by name of the row or of its category.
STATES = {
    "melted": {
        "chocolate": "melted chocolate",
        "butter": "melted wax",
        "lard": "melted wax",
        "wax": "melted wax",
        "cheese": "melted cheese",
        "soft cheese": "melted cheese",
        "ice cream": "yogurt",
        "ice": "water",
        "snow": "water",
        "glass": "molten glass",
        "metal": "molten metal",
        "stone": "lava",
        "plastic": "tar",
        "sugar": "molasses",
        "candy": "molasses",
        "honey": "honey",
    },
    "frozen": {"water": "ice", "drink": "ice", "milk": "ice", "cream": "ice cream", "yogurt": "ice cream"},
    "wet": {
        "sand": "wet sand",
        "soil": "mud",
        "fine powder": "mud",
        "concrete": "cement paste",
        "plaster": "cement paste",
        "flour": "dough",
        "terracotta": "clay",
    },
    "dry": {"wet sand": "sand", "clay": "terracotta", "mud": "soil", "cement paste": "concrete", "glue": "plastic"},
    "fired": {
        "clay": "terracotta",
        "cement paste": "concrete",
        "mud": "brick",
        "dough": "bread",
        "glue": "plastic",
        "plasticine": "ceramic",
    },
    "crushed": {"stone": "gravel", "ice": "snow", "glass": "sand", "candy": "sugar", "biscuit": "sugar"},
    "powdered": {
        "stone": "fine powder",
        "metal": "fine powder",
        "ceramic": "fine powder",
        "glass": "fine powder",
        "sugar": "flour",
        "food": "fine powder",
    },
    "boiled": {"shell": "boiled egg", "dry pasta": "noodle", "rice": "mashed potato"},
    "foamed": {"plastic": "foam", "rubber": "foam", "polystyrene": "styrofoam", "metal": "metal foam"},
    "whipped": {"butter": "cream", "milk": "cream"},
}
STATES["liquid"] = {k: STATES["melted"][k] for k in ("chocolate", "butter", "wax", "cheese", "glass", "metal", "honey")}
STATE_WORDS = {
    **dict.fromkeys("melted molten".split(), "melted"),
    **dict.fromkeys("liquid liquefied liquified fluid flowing".split(), "liquid"),
    **dict.fromkeys("frozen solid".split(), "frozen"),
    **dict.fromkeys("wet damp moist soaked soggy muddy wetted".split(), "wet"),
    **dict.fromkeys("dry dried".split(), "dry"),
    **dict.fromkeys("fired baked hardened cured".split(), "fired"),
    **dict.fromkeys("crushed crumbled shredded".split(), "crushed"),
    **dict.fromkeys("powdered pulverised pulverized powdery".split(), "powdered"),
    **dict.fromkeys("boiled cooked".split(), "boiled"),
    **dict.fromkeys("foamed expanded aerated".split(), "foamed"),
    **dict.fromkeys("whipped".split(), "whipped"),
}
FLOWING = _set("flowing")
BRITTLE = _set("brittle")
STRETCHY = _set("stretchy")

# Groups of materials that one word stands for, so that "not metal" excludes all of them.
GROUPS = {
    **dict.fromkeys("metal metallic".split(), ("metal",)),
    **dict.fromkeys("plastic plastics polymer".split(), ("plastic",)),
    **dict.fromkeys("wood wooden timber".split(), ("wood",)),
    **dict.fromkeys("stone rock rocky stony".split(), ("stone",)),
    **dict.fromkeys("rubber rubbery elastomer".split(), ("rubber",)),
    **dict.fromkeys("glass glassy".split(), ("glass",)),
    **dict.fromkeys("fabric cloth textile".split(), ("fabric",)),
    **dict.fromkeys("foam foamy".split(), ("foam",)),
    **dict.fromkeys("liquid fluid".split(), ("liquid", "paste")),
    **dict.fromkeys("granular powder powdery grains".split(), ("granular",)),
    **dict.fromkeys("paper".split(), ("paper",)),
    **dict.fromkeys("ceramic".split(), ("ceramic",)),
    **dict.fromkeys("food".split(), ("food", "dough", "gel")),
}
# Weaker than a proper name: "liquid chocolate" is chocolate.
VAGUE = _set("vague")
INHERENT = _set("inherent")

FLAVOURS = frozenset(
    "chocolate cheese butter cream honey milk sugar molasses syrup candy nut oil ketchup rice"
    " flour yogurt mayonnaise marzipan".split()
) | {
    "soft fruit",
    "ice cream",
    "peanut butter",
    "maple syrup",
    "soft cheese",
    "melted chocolate",
    "dough",
    "mustard or jam",
    "hard fruit or root",
    "drink",
}
# Names of materials that are also names of objects: "a rubber brick" is rubber.
OBJECT_WORDS = _set("object_words")
OBJECT_CATEGORIES = ("food", "tissue", "plant")
SHAPED = ("metal", "stone", "wood", "glass", "ceramic", "plastic")  # categories of what is cut and cast
HITS = _set("hits")
LIKE_TOYS = _set("like_toys")

NEGATIONS = _set("negations")
NEGATION_PHRASES = _phrases("negation_phrases")
AFFIRMATIONS = _phrases("affirmations")
SCOPE_ENDS = _set("scope_ends")
DETERMINERS = _set("determiners")
MODALS = _set("modals")
PLACES = _set("places")
MADE_OF = _phrases("made_of")
COATINGS = _phrases("coatings")
LOOKS = _phrases("looks")
BEHAVES = _phrases("behaves")
MEASURES = _set("measures")
IMAGES = _set("images")
LOOK_SUFFIXES = _set("look_suffixes")
COAT_SUFFIXES = _set("coat_suffixes")
SIMILE_ADJECTIVES = _set("simile_adjectives")
DOUBT_WORDS = _set("doubt_words")
# Nouns only after a determiner or the like; else the verb or the modal.
VERB_OR_NOUN = _set("verb_or_noun")
PLAIN_NOUNS = _set("plain_nouns")
COLOURS = _set("colours")
NEUTRAL = COLOURS | _set("neutral") | _set("irregular") | frozenset(_inflected(_LISTS["verbs"]))
ADJECTIVES = frozenset().union(STIFFNESS, VISCOSITY, DENSITY, WARMTH, ADJECTIVE_DEFAULTS)
UNDERSTOOD = NEUTRAL.union(
    ADJECTIVES,
    STRONGER,
    VERB_DEFAULTS,
    STATE_WORDS,
    FLOWING,
    BRITTLE,
    STRETCHY,
    NEGATIONS,
    DETERMINERS,
    MODALS,
    PLACES,
    VERB_OR_NOUN,
    DOUBT_WORDS,
    MEASURES,
    SCOPE_ENDS,
    *MADE_OF,
    *COATINGS,
    *LOOKS,
    *BEHAVES,
)
