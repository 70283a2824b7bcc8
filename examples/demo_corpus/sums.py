"""Additions and subtractions of numbers up to a hundred."""

from random import Random

from demo_corpus.words import BOY_NAMES, FRUITS, GIRL_NAMES

LARGEST = 100


def draw_sum(rng: Random) -> tuple[int, str, int, int]:
    """Draws `a + b` or `a - b` with operands and result from 0 to 100; small ones more often."""
    top = rng.choice([10, 20, 50, LARGEST, LARGEST, LARGEST])
    total = rng.randrange(0, top + 1)
    part = rng.randrange(0, total + 1)
    if rng.random() < 0.55:
        return part, "+", total - part, total
    return total, "-", part, total - part


def equation(rng: Random) -> str:
    """One line of arithmetic."""
    a, sign, b, result = draw_sum(rng)
    return f"{a} {sign} {b} = {result}"


def make_sums(rng: Random) -> str:
    """A page of sums, one a line."""
    return "\n".join(equation(rng) for _ in range(rng.randrange(4, 16)))


def sum_question(rng: Random) -> tuple[str, str]:
    """A sum asked in a chat, in signs, in words or as a little problem."""
    a, sign, b, result = draw_sum(rng)
    answer = f"{a} {sign} {b} = {result}"
    style = rng.random()
    if style < 0.6:
        ways = (
            "What is {}?",
            "{} = ?",
            "{} =",
            "Calculate {}.",
            "How much is {}?",
            "{}",
            "What is {}?",
        )
        space = "" if rng.random() < 0.25 else " "
        return rng.choice(ways).format(f"{a}{space}{sign}{space}{b}"), answer
    if style < 0.8:
        word = "plus" if sign == "+" else "minus"
        return f"What is {a} {word} {b}?", answer
    return word_problem(rng, a, sign, b, result)


def word_problem(rng: Random, a: int, sign: str, b: int, result: int) -> tuple[str, str]:
    """The same sum with apples."""
    is_girl = rng.random() < 0.5
    name, pronoun = (rng.choice(GIRL_NAMES), "she") if is_girl else (rng.choice(BOY_NAMES), "he")
    fruit = rng.choice(("apple", "pear", "plum", "orange", "nut", "egg", "book", "coin"))
    verb = (
        rng.choice(("gets", "finds", "buys"))
        if sign == "+"
        else rng.choice(("eats", "loses", "gives away"))
    )
    if fruit not in FRUITS and verb == "eats":
        verb = "sells"
    more = " more" if sign == "+" else ""
    question = (
        f"{name} has {amount(a, fruit)} and {verb} {b}{more}. "
        f"How many {fruit}s does {pronoun} have now?"
    )
    return question, f"{a} {sign} {b} = {result}, so {name} has {amount(result, fruit)} now."


def amount(number: int, noun: str) -> str:
    """Counts a noun: `1 apple`, `3 apples`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
