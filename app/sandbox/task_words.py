"""The vocabulary of the task templates: names, places, things and words, and nothing computed."""

NAMES = (
    "Amara", "Bruno", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hana",
    "Ivo", "Jonas", "Keiko", "Leila", "Mateo", "Nadia", "Oskar", "Priya",
)  # fmt: skip
CITIES = (
    "Porto", "Lyon", "Turin", "Ghent", "Aarhus", "Graz", "Bergen", "Malaga",
    "Gdansk", "Tampere", "Basel", "Utrecht",
)  # fmt: skip
THINGS = (
    "pencils", "candles", "notebooks", "tiles", "lemons", "postcards",
    "marbles", "seedlings", "badges", "buttons", "stickers", "mugs",
)  # fmt: skip
WORDS = (
    "lantern", "harbour", "meadow", "copper", "window", "thunder", "basket", "pepper",
    "glacier", "saddle", "orchard", "velvet", "compass", "feather", "kettle", "mountain",
    "ribbon", "timber", "violin", "walnut", "engine", "island", "jacket", "quarry",
    "rocket", "summer", "tunnel", "umbrella", "village", "whistle", "yellow", "zipper",
    "anchor", "blanket", "cottage", "dolphin", "elephant", "falcon", "garden", "hammer",
)  # fmt: skip
MEETINGS = ("budget", "design", "safety", "hiring", "release", "supplier", "training", "roadmap")
PROPS = ("projector", "contract", "samples", "floor plan", "microphone", "visitor list")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# (small unit, large unit, how many small ones make a large one)
UNITS = (
    ("metres", "kilometres", 1000),
    ("grams", "kilograms", 1000),
    ("minutes", "hours", 60),
    ("centimetres", "metres", 100),
    ("millilitres", "litres", 1000),
    ("inches", "feet", 12),
    ("days", "weeks", 7),
    ("seconds", "minutes", 60),
    ("ounces", "pounds", 16),
    ("hours", "days", 24),
)

CAPITALS = (
    ("Norway", "Oslo"), ("Portugal", "Lisbon"), ("Kenya", "Nairobi"), ("Peru", "Lima"),
    ("Japan", "Tokyo"), ("Canada", "Ottawa"), ("Egypt", "Cairo"), ("Poland", "Warsaw"),
    ("Cuba", "Havana"), ("Austria", "Vienna"), ("Greece", "Athens"), ("Thailand", "Bangkok"),
    ("Hungary", "Budapest"), ("Uruguay", "Montevideo"), ("Finland", "Helsinki"),
    ("Iceland", "Reykjavik"),
)  # fmt: skip
