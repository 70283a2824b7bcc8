"""What users say about themselves, and ask for again some turns later."""

from random import Random

from demo_corpus.grammar import expand
from demo_corpus.questions import Exchange
from demo_corpus.words import ANIMAL_HOMES, CITIES, COLOURS, FOODS, any_name

# What the user says, the reply, and the question and answer that come later.
MEMORIES = {
    "name": (
        "[Hello, my|Hi, my|My] name is {value}.",
        "[Hello|Nice to meet you], {value}! How can I help you?",
        "[What is my name?|Do you remember my name?|Who am I?]", "Your name is {value}.",
    ),
    "colour": (
        "My favourite colour is {value}.", "{Value} is a nice colour!",
        "What is my favourite colour?", "Your favourite colour is {value}.",
    ),
    "animal": (
        "My favourite animal is the {value}.", "The {value} is a fine animal!",
        "What is my favourite animal?", "Your favourite animal is the {value}.",
    ),
    "city": (
        "I live in {value}.", "{value} is a nice place to live!",
        "Where do I live?", "You live in {value}.",
    ),
    "food": (
        "I like {value} best.", "{Value}? That sounds very good!",
        "What do I like best?", "You like {value} best.",
    ),
    "pet": (
        "I have a pet named {value}.", "{value} is a nice name for a pet!",
        "What is my pet called?", "Your pet is called {value}.",
    ),
    "age": (
        "I am {value} years old.", "{value} is a fine age!",
        "How old am I?", "You are {value} years old.",
    ),
}  # fmt: skip


def memory_value(topic: str, rng: Random) -> str:
    """Draws what is to be remembered."""
    return rng.choice({
        "name": [any_name(rng)], "pet": [any_name(rng)], "colour": COLOURS,
        "animal": list(ANIMAL_HOMES), "city": CITIES, "food": FOODS,
        "age": [str(age) for age in range(4, 90)],
    }[topic])  # fmt: skip


def memories(rng: Random) -> tuple[list[Exchange], list[Exchange]]:
    """One to three things told, and the same things recalled, in another order."""
    told, recalled = [], []
    for topic in rng.sample(list(MEMORIES), rng.randrange(1, 4)):
        value = memory_value(topic, rng)
        slots = {"value": value, "Value": value[0].upper() + value[1:]}
        say, reply, ask, answer = (expand(text, slots, rng) for text in MEMORIES[topic])
        told.append((say, reply))
        recalled.append((ask, answer))
    rng.shuffle(recalled)
    return told, recalled
