"""Deterministic training text for the demo model: stories, chats, sums and JSON records.

    words, facts -> templates and plots -> stories, questions, sums, records -> chats
                                                    |
                                          make_document(seed)

Everything is written for this project, and a seed names a document for ever: the documents of
one range of seeds are trained on, those of another are held out.
"""

from random import Random

from demo_corpus.chats import Message, make_chat, make_exercise
from demo_corpus.records import make_records
from demo_corpus.stories import make_story
from demo_corpus.sums import make_sums

Document = str | list[Message]


def make_short_exercise(seed: int) -> Document:
    """Makes a short chat that is practice in copying and counting."""
    return make_exercise(Random(f"exercise {seed}"))


def make_document(seed: int) -> Document:
    """Makes the document of a seed: a plain text, or a chat as a list of messages."""
    rng = Random(seed)
    kind = rng.random()
    if kind < 0.22:
        length = rng.choices(["short", "medium", "long"], [2, 5, 1])[0]
        return make_story(rng, length=length).text
    if kind < 0.36:
        return make_sums(rng)
    if kind < 0.43:
        return make_records(rng)
    return make_chat(rng)
