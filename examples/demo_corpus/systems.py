"""System lines: short ones, long ones full of advice, and ones that give the model a name."""

from random import Random

from demo_corpus.grammar import expand
from demo_corpus.questions import Exchange
from demo_corpus.words import any_name

SYSTEM_LINES = (
    "You are a helpful assistant.", "You are a friendly assistant.", "Answer briefly.",
    "You are a small model for demos.", "You help children to learn.",
)  # fmt: skip
ADVICE = (
    "Be polite.", "Be kind to everyone.", "Answer in English.", "Use short sentences.",
    "Use simple words.", "Tell the truth.", "If you do not know something, say so.",
    "Do not make up facts.", "Read the question twice.", "Think before you answer.",
    "Stay calm when the user is angry.", "Never be rude.", "Do not repeat yourself.",
    "Remember what the user has told you.", "Greet the user when the user greets you.",
    "Write stories that children can understand.", "Every story has a beginning and an end.",
    "Give each character in a story a name.", "Do sums with care.",
    "When you are asked for JSON, write nothing but JSON.", "Do not use bad words.",
    "Thank the user when it is fitting.", "Answer every question, even a simple one.",
    "The user may be a child.", "The user may be in a hurry.", "Make the user smile.",
    "Keep secrets.", "Do not give advice about health or money.", "Say goodbye at the end.",
    "Help the user to learn something new.", "Names begin with a capital letter.",
)  # fmt: skip


def system_line(rng: Random) -> str:
    """One line, or now and then a page of advice after it, as many services have."""
    line = rng.choice(SYSTEM_LINES)
    if rng.random() < 0.6:
        return line
    return " ".join([line, *rng.sample(ADVICE, rng.randrange(2, len(ADVICE)))])


def persona(rng: Random) -> tuple[str, Exchange]:
    """A system line that gives the model a name, and the question and answer about it."""
    name = any_name(rng)
    line = expand("[Your name is|You are called|You are] {name}.", {"name": name}, rng)
    asked = expand("[What is your name?|Who are you?|Do you have a name?]", {}, rng)
    more = system_line(rng) if rng.random() < 0.7 else ""
    return f"{line} {more}".strip(), (asked, f"My name is {name}. How can I help you?")
