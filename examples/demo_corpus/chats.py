"""Chats of one turn and of many: greetings, questions, stories, and memory of earlier turns."""

from random import Random

from demo_corpus.grammar import expand
from demo_corpus.memories import memories
from demo_corpus.questions import Exchange, about_size, counting, make_question, repeating
from demo_corpus.records import record_question
from demo_corpus.stories import Story, make_story
from demo_corpus.sums import sum_question
from demo_corpus.systems import persona, system_line

Message = dict[str, str]

WHO_I_AM = "I am a small model that was trained for jpaged."
SMALL_TALK = {
    "[Hello|Hi|Hey|Good morning|Hello there][!|.]": (
        "Hello! How can I help you?", "Hi! What can I do for you?",
    ),
    "[How are you?|How are you today?|Are you well?]": (
        "I am fine, thank you. How can I help you?", "I am well, thank you!",
    ),
    "[Who are you?|What are you?|Tell me about yourself.|Are you a human?]": (
        WHO_I_AM + " I can tell small stories, answer simple questions, do sums and write JSON.",
        WHO_I_AM,
    ),
    "[What is your name?|Do you have a name?]": ("I have no name. " + WHO_I_AM,),
    "[What can you do?|How can you help me?]": (
        "I can tell small stories, answer simple questions, do sums and write JSON.",
    ),
    "[Who made you?|Who trained you?]": ("I was trained for jpaged, as a demo.",),
    "[Thank you!|Thanks!|Thank you very much.]": ("You are welcome!", "You are welcome. Bye!"),
    "[Goodbye!|Bye!|See you!|Good night!]": ("Goodbye! It was nice to talk to you.",),
}  # fmt: skip


def small_talk(rng: Random) -> Exchange:
    """Greetings, thanks, and who the model is."""
    question = rng.choice(list(SMALL_TALK) if rng.random() < 0.6 else list(SMALL_TALK)[2:5])
    return expand(question, {}, rng), rng.choice(SMALL_TALK[question])


def story_request(rng: Random) -> list[Exchange]:
    """A story about what was asked for, and sometimes a question about it."""
    story = make_story(rng, length=rng.choice(["short", "short", "medium"]))
    hero, friend = story.hero, story.friend
    ask = rng.choice([
        "[Tell me|Write|Please tell me|Can you tell me] a [story|short story|little story]",
        "I would like to hear a story",
    ])  # fmt: skip
    subject = rng.choice([
        "", f" about a {hero.kind}", f" about a {hero.kind}",
        f" about a {hero.kind} named {hero.name}",
        f" about a {hero.trait} {hero.kind}", f" about a {hero.kind} and a {friend.kind}",
        f" about a {hero.kind} {story.about}",
    ])  # fmt: skip
    request = expand(ask + subject, {}, rng)
    request += "?" if request.startswith("Can") else "."
    exchanges = [(request, story.text)]
    if rng.random() < 0.5:
        exchanges += rng.sample(story_questions(story), rng.randrange(1, 3))
    return exchanges


def story_questions(story: Story) -> list[Exchange]:
    """What one can ask about the people of a story just told."""
    hero, friend = story.hero, story.friend
    ask = f"What was the name of the {hero.kind}?", f"The name of the {hero.kind} was {hero.name}."
    friend_ask = (
        f"Who was the friend of {hero.name}?",
        expand(f"The friend of {hero.name} was {friend.name}, a {friend.kind}.", {}, Random(0)),
    )
    kind_ask = f"What was {hero.name}?", expand(f"{hero.name} was a {hero.kind}.", {}, Random(0))
    return [ask, friend_ask, kind_ask, ("Thank you for the story!", "You are welcome!")]


def one_turn(rng: Random) -> list[Exchange]:
    """One exchange of any sort (a story may bring a question with it)."""
    kinds = ["question"] * 8 + ["talk"] * 3 + ["sum"] * 5 + ["record"] * 4 + ["story"] * 4
    kind = rng.choice(kinds)
    if kind == "story":
        return story_request(rng)
    makers = {
        "question": make_question,
        "talk": small_talk,
        "sum": sum_question,
        "record": record_question,
    }
    return [makers[kind](rng)]


def several_turns(rng: Random, low: int, high: int) -> list[Exchange]:
    """From `low` to `high` turns that have nothing to do with each other."""
    return [turn for _ in range(rng.randint(low, high)) for turn in one_turn(rng)]


def make_chat(rng: Random) -> list[Message]:
    """A whole chat as messages, in the form that chat templates take."""
    style = rng.random()
    system = system_line(rng) if rng.random() < 0.3 else ""
    if style < 0.42:
        exchanges = one_turn(rng)
    elif style < 0.66:
        exchanges = several_turns(rng, 2, 6)
    elif style < 0.96:
        told, recalled = memories(rng)
        exchanges = told + several_turns(rng, 0, 4) + recalled
    else:
        system, who = persona(rng)
        exchanges = several_turns(rng, 0, 1) + [who] + several_turns(rng, 0, 1)
    return as_messages(system, [(casually(ask, rng), answer) for ask, answer in exchanges])


def make_exercise(rng: Random) -> list[Message]:
    """A short chat whose answer repeats what was said: practice in looking things up."""
    kind = rng.random()
    if kind < 0.3:
        told, recalled = memories(rng)
        return as_messages("", told + recalled)
    makers = [repeating, record_question, record_question, about_size, counting, make_question,
              sum_question, sum_question]  # fmt: skip
    return as_messages("", [rng.choice(makers)(rng)])


def casually(question: str, rng: Random) -> str:
    """Now and then drops the capital letter and the last stop, as people do who are in a hurry."""
    if rng.random() < 0.85 or question.startswith("I "):
        return question
    return (question[0].lower() + question[1:]).rstrip(".?!")


def as_messages(system: str, exchanges: list[Exchange]) -> list[Message]:
    """Puts exchanges into the form of chat messages, after a system line if there is one."""
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in exchanges:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return messages
