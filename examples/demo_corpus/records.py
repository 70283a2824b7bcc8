"""JSON records, alone and as the answer to a request."""

import json
from collections.abc import Callable
from random import Random

from demo_corpus.facts import ANIMALS, DAYS
from demo_corpus.grammar import listing, tidy
from demo_corpus.words import ANIMAL_HOMES, CITIES, COLOURS, FRUITS, THINGS, any_name

Record = dict[str, object]
SKIES = ("sunny", "cloudy", "rainy", "windy", "foggy", "clear")
HOBBIES = ("reading", "swimming", "painting", "music", "chess", "cooking", "running", "fishing")


def person(rng: Random) -> tuple[str, Record]:
    """A person in words, and the same person as a record."""
    name = any_name(rng)
    age, city = rng.randrange(5, 90), rng.choice(CITIES)
    record: Record = {"name": name, "age": age, "city": city}
    words = f"{name} is {age} years old and lives in {city}"
    if rng.random() < 0.4:
        hobbies = rng.sample(HOBBIES, rng.randrange(1, 4))
        record["likes"] = hobbies
        words += f" and likes {listing(hobbies)}"
    return words + ".", record


def pet(rng: Random) -> tuple[str, Record]:
    """An animal with a name, a colour and an age."""
    name = any_name(rng)
    kind, colour, age = rng.choice(list(ANIMAL_HOMES)), rng.choice(COLOURS), rng.randrange(1, 15)
    words = tidy(
        f"{name} is a {colour} {kind}. It is {age} years old.".replace(" 1 years", " 1 year")
    )
    return words, {"name": name, "kind": kind, "colour": colour, "age": age}


def order(rng: Random) -> tuple[str, Record]:
    """Something bought: item, colour, count and price."""
    item, count = rng.choice(THINGS + FRUITS), rng.randrange(2, 20)
    price = rng.randrange(1, 60)
    plural = item + ("es" if item[-1] in "hx" else "s") if item[-1] != "y" else item[:-1] + "ies"
    paid = rng.random() < 0.5
    words = (
        f"The order is for {count} {plural} at {price} euros and is {'' if paid else 'not '}paid."
    )
    return words, {"item": item, "count": count, "price": price, "paid": paid}


def weather(rng: Random) -> tuple[str, Record]:
    """The weather of one city on one day."""
    city, day, sky = rng.choice(CITIES), rng.choice(DAYS), rng.choice(SKIES)
    degrees = rng.randrange(-9, 36)
    words = f"On {day} it is {sky} in {city} with {degrees} degrees."
    return words, {"city": city, "day": day, "sky": sky, "degrees": degrees}


def animal_fact(rng: Random) -> tuple[str, Record]:
    """What the tables of facts say about an animal."""
    animal = rng.choice(list(ANIMALS))
    sound, legs, _, _, young, group = ANIMALS[animal]
    words = tidy(
        f"A {animal} is a {group} with {legs} legs and says {sound}. Its young is a {young}."
    )
    return words, {"animal": animal, "class": group, "legs": legs, "sound": sound, "young": young}


# People and pets are asked for twice as often as the others.
KINDS: tuple[tuple[str, Callable[[Random], tuple[str, Record]]], ...] = (
    ("person", person), ("person", person), ("pet", pet), ("pet", pet), ("order", order),
    ("weather report", weather), ("animal", animal_fact),
)  # fmt: skip


def make_records(rng: Random) -> str:
    """Some records of one kind, one a line, or one record spread over several lines."""
    _, kind = rng.choice(KINDS)
    if rng.random() < 0.3:
        return json.dumps(kind(rng)[1], indent=2)
    return "\n".join(json.dumps(kind(rng)[1]) for _ in range(rng.randrange(1, 6)))


def record_question(rng: Random) -> tuple[str, str]:
    """Asks for a record: from a sentence, or a made-up one."""
    name, kind = rng.choice(KINDS)
    words, record = kind(rng)
    answer = json.dumps(record)
    if rng.random() < 0.6:
        ask = rng.choice(
            ["Write this as JSON: ", "Turn this into JSON: ", "Give me JSON for this: "]
        )
        return ask + words, answer
    keys = listing(list(record))
    return rng.choice([
        (tidy(f"Give me a JSON record of a {name}."), answer),
        (tidy(f"Write a JSON object for a {name}."), answer),
        (tidy(f"Make up a {name} as JSON with {keys}."), answer),
        (f"Write a JSON object with {keys}.", answer),
    ])  # fmt: skip
