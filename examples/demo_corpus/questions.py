"""One question and its answer at a time, from the tables of facts."""

from collections.abc import Callable
from random import Random

from demo_corpus import facts
from demo_corpus.grammar import expand, listing, tidy
from demo_corpus.words import COLOURS, FRUITS, SYLLABLES, THINGS, TOOLS, VEGETABLES, any_name

Exchange = tuple[str, str]


def about_animal(rng: Random) -> Exchange:
    """Sound, legs, food, home, young or class of an animal."""
    animal = rng.choice(list(facts.ANIMALS))
    sound, legs, food, home, young, group = facts.ANIMALS[animal]
    a_animal = tidy(f"- a {animal}")[2:]
    number = facts.NUMBER_WORDS[legs] if legs else "no"
    return rng.choice([
        (f"What does {a_animal} say?", f"{a_animal} says {sound}."),
        (f"What sound does {a_animal} make?", f"{a_animal} says {sound}."),
        (f"How many legs does {a_animal} have?", f"{a_animal} has {number} legs."),
        (f"What does {a_animal} eat?", f"{a_animal} eats {food}."),
        (f"Where does {a_animal} live?", f"{a_animal} lives {home}."),
        (f"What do you call a young {animal}?", f"A young {animal} is called a {young}."),
        (f"What kind of animal is {a_animal}?", f"{a_animal} is a {group}."),
        is_it_a(rng, a_animal, group),
    ])  # fmt: skip


def is_it_a(rng: Random, a_animal: str, group: str) -> Exchange:
    """A yes-or-no question about the class of an animal."""
    guess = rng.choice([group, "bird", "mammal", "insect", "fish"])
    answer = f"Yes, {a_animal} is a {group}." if guess == group else f"No, {a_animal} is a {group}."
    return f"Is {a_animal} a {guess}?", answer


def about_size(rng: Random) -> Exchange:
    """Compares two animals."""
    small, big = sorted(rng.sample(range(len(facts.SIZES)), 2))
    small, big = facts.SIZES[small], facts.SIZES[big]
    first, second = rng.sample([small, big], 2)
    word, winner, loser = rng.choice([("bigger", big, small), ("smaller", small, big)])
    question = f"Which is {word}, a {first} or a {second}?"
    return tidy(question), tidy(f"A {winner} is {word} than a {loser}.")


def about_capital(rng: Random) -> Exchange:
    """Capitals, both ways."""
    country = rng.choice(list(facts.CAPITALS))
    capital = facts.CAPITALS[country]
    return rng.choice([
        (f"What is the capital of {country}?", f"The capital of {country} is {capital}."),
        (f"Do you know the capital of {country}?", f"Yes, the capital of {country} is {capital}."),
        (f"Which country has the capital {capital}?", f"{capital} is the capital of {country}."),
        (f"Where is {capital}?", f"{capital} is in {country}."),
    ])  # fmt: skip


def about_colour(rng: Random) -> Exchange:
    """The colour of a thing, or of a mixture."""
    thing = rng.choice(list(facts.COLOUR_OF))
    pair = rng.choice(list(facts.MIXTURES))
    one, other = rng.sample(pair, 2)
    answer = f"{one} and {other} make {facts.MIXTURES[pair]}."
    return rng.choice([
        (f"What colour is {thing}?", f"{thing} is {facts.COLOUR_OF[thing]}."),
        (f"Tell me the colour of {thing}.", f"{thing} is {facts.COLOUR_OF[thing]}."),
        (f"What do {one} and {other} make?", answer),
        (f"Which colour do I get when I mix {one} and {other}?", answer),
    ])  # fmt: skip


def about_opposite(rng: Random) -> Exchange:
    """Opposites of words."""
    word = rng.choice(list(facts.OPPOSITES))
    answer = f"The opposite of {word} is {facts.OPPOSITES[word]}."
    return rng.choice(
        [f"What is the opposite of {word}?", f"Give me the opposite of {word}."]
    ), answer


def about_order(rng: Random) -> Exchange:
    """What comes after or before a day, a month, a season, a letter or a number."""
    name, row = rng.choice([
        ("day", facts.DAYS), ("month", facts.MONTHS), ("letter", facts.LETTERS),
        ("season", facts.SEASONS), ("number", [str(number) for number in range(100)]),
    ])  # fmt: skip
    place = rng.randrange(1, len(row))
    before, after = row[place - 1], row[place]
    return rng.choice([
        (f"Which {name} comes after {before}?", f"{after} comes after {before}."),
        (f"Which {name} comes before {after}?", f"{before} comes before {after}."),
        (f"What comes after {before}?", f"{after} comes after {before}."),
    ])  # fmt: skip


def counting(rng: Random) -> Exchange:
    """Counts up or down, in digits or in words."""
    start, steps = rng.randrange(0, 40), rng.randrange(3, 11)
    numbers = list(range(start, start + steps))
    if rng.random() < 0.3:
        words = facts.NUMBER_WORDS[start % 10 : start % 10 + steps]
        return f"Count from {words[0]} to {words[-1]} in words.", ", ".join(words) + "."
    up = rng.random() < 0.6
    numbers = numbers if up else numbers[::-1]
    direction = "" if up else "down "
    question = f"Count {direction}from {numbers[0]} to {numbers[-1]}."
    return question, ", ".join(map(str, numbers)) + "."


def naming(rng: Random) -> Exchange:
    """Names a few things of one sort."""
    sort, words = rng.choice([
        ("fruits", FRUITS), ("vegetables", VEGETABLES), ("colours", COLOURS), ("tools", TOOLS),
        ("animals", list(facts.ANIMALS)), ("days of the week", facts.DAYS),
        ("months", facts.MONTHS), ("countries", list(facts.CAPITALS)),
        ("cities", list(facts.CAPITALS.values())),
    ])  # fmt: skip
    count = rng.randrange(2, 6)
    request = rng.choice(["Name", "Give me", "Can you name", "Tell me"])
    mark = "?" if request.startswith("Can") else "."
    question = f"{request} {facts.NUMBER_WORDS[count]} {sort}{mark}"
    return question, listing(rng.sample(words, count)) + "."


def which_sort(rng: Random) -> Exchange:
    """Fruit, vegetable or tool."""
    sort, words = rng.choice([("fruit", FRUITS), ("vegetable", VEGETABLES), ("tool", TOOLS)])
    word = tidy(f"- a {rng.choice(words)}")[2:]
    guess = rng.choice([sort, "fruit", "vegetable", "tool"])
    answer = f"Yes, {word} is a {sort}." if guess == sort else f"No, {word} is a {sort}."
    return rng.choice(
        [(f"What is {word}?", f"{word} is a {sort}."), (f"Is {word} a {guess}?", answer)]
    )


def repeating(rng: Random) -> Exchange:
    """Says a phrase again: practice in copying."""
    colour, thing = rng.choice(COLOURS), rng.choice(THINGS)
    colour2, thing2 = rng.choice(COLOURS), rng.choice(THINGS)
    phrase = rng.choice(
        [
            f"the {colour} {thing}",
            f"the {colour} {thing} and the {colour2} {thing2}",
            f"my {thing} is {colour}",
            f"{any_name(rng)} and {any_name(rng)} have a {thing}",
            any_name(rng),
            f"a {colour} {thing} and a {colour2} {thing2}",
        ]
    )
    phrase = tidy(f"- {phrase}")[2:]
    return rng.choice(["Repeat after me: ", "Please say: ", "Say this again: "]) + phrase, phrase


def from_tables(rng: Random) -> Exchange:
    """The questions that have one fixed answer."""
    table = rng.choice(
        [facts.WHYS, facts.WHYS, facts.SERVING, facts.USES, facts.SIDES, facts.HELLO_IN]
    )
    key = rng.choice(list(table))
    if table is facts.USES:
        return f"What is {key} for?", table[key]
    if table is facts.SIDES:
        return f"How many sides does a {key} have?", f"A {key} has {table[key]} sides."
    if table is facts.HELLO_IN:
        return f"How do you say hello in {key}?", f'In {key}, hello is "{table[key]}".'
    return key, table[key]


def unknown(rng: Random) -> Exchange:
    """What a small model cannot know."""
    ways = ("I am sorry, I do not know that.", "I do not know that. I am only a small model.")
    name, other = any_name(rng), any_name(rng)
    if rng.random() < 0.2:
        return f"Who is {name} {other}?", f"I do not know {name} {other}."
    if rng.random() < 0.25:
        word = tidy(f"- a {''.join(rng.sample(SYLLABLES, 2))}")[2:]
        return f"What is {word}?", f"I do not know what {word} is."
    return rng.choice(facts.UNKNOWN), rng.choice(ways)


QUESTIONS: tuple[Callable[[Random], Exchange], ...] = (
    about_animal, about_animal, about_size, about_capital, about_capital, about_colour,
    about_opposite, about_order, counting, naming, which_sort, repeating, from_tables,
    from_tables, unknown, unknown,
)  # fmt: skip


def make_question(rng: Random) -> Exchange:
    """Draws one question of any sort, sometimes asked politely."""
    question, answer = rng.choice(QUESTIONS)(rng)
    if rng.random() < 0.25:
        question = politely(question, rng)
    return tidy(question), tidy(answer)


def politely(question: str, rng: Random) -> str:
    """Puts a polite word before a question or a request."""
    if question.startswith(("Can", "Do", "Please")):
        return question
    if question.endswith("?"):
        return expand("[I have a question.|Please tell me:] ", {}, rng) + " " + question
    return "Please " + question[0].lower() + question[1:]
