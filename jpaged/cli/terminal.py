"""A conversation at a terminal: lines in, answers out, commands that begin with a slash."""

import sys
from contextlib import closing, suppress

from jpaged.cli.client import ServerError
from jpaged.cli.conversation import SETTINGS, Conversation
from jpaged.errors import ConfigError
from jpaged.server import registry

PROMPT, MORE = ">>> ", "... "
QUOTES = '"""'
COMMANDS = ("/set", "/help", "/?")  # these say the help, /set where it lacks a value
HELP = f"""\
/set NAME VALUE   {", ".join(list(SETTINGS)[:7])},
                  {", ".join(list(SETTINGS)[7:])}
/clear            forget what was said
/bye              leave; so does Ctrl-D
Ctrl-C            stop an answer
{QUOTES}               begins and ends a message of several lines"""


def converse(talk: Conversation) -> int:
    """Until the user leaves.  Returns the exit code: 1 if the server was lost."""
    remember_lines()
    say("/help shows what else one may type.")
    while (line := read_message()) is not None:
        if line in ("/bye", "/exit", "/quit"):
            break
        if line.startswith("/"):
            command(talk, line)
        elif line and not answer(talk, line):
            return 1
    return 0


def answer(talk: Conversation, text: str) -> bool:
    """Writes it as it comes; Ctrl-C ends it.  False if there is no server any more."""
    was_chat = talk.is_chat
    try:
        with closing(talk.ask(text)) as pieces:
            for piece in pieces:
                if was_chat and not talk.is_chat:
                    say(f"({talk.model} has no chat template: it goes on with your text)")
                    was_chat = False
                write(piece)
    except KeyboardInterrupt:
        write(" …")
    except ServerError as error:
        write("\n")
        say(f"jpaged: {error}")
        return error.status != 0
    write("\n\n")
    return True


def command(talk: Conversation, line: str) -> None:
    name, _, rest = line.partition(" ")
    rest = rest.strip().removeprefix("parameter ")  # as Ollama has it
    if name == "/clear":
        talk.clear()
        say("(a new conversation)")
    elif name == "/set" and len(rest.split()) > 1:
        setting, value = rest.split(maxsplit=1)
        try:
            talk.set(setting, value.strip('"'))
        except ConfigError as error:
            say(str(error))
    else:
        if name not in COMMANDS:
            say(f"there is no command {name}")
        say(HELP)


def read_message() -> str | None:
    """None at the end of input.  Ctrl-C drops what was typed."""
    try:
        line = input(PROMPT).strip()
        if not line.startswith(QUOTES):
            return line
        lines = [line.removeprefix(QUOTES)]
        while not lines[-1].endswith(QUOTES):
            lines.append(input(MORE))
        return "\n".join(lines).removesuffix(QUOTES).strip()
    except KeyboardInterrupt:
        print()
        return ""
    except EOFError:
        print()
        return None


def remember_lines() -> None:
    """Arrow keys go through what was typed, also in conversations before."""
    with suppress(ImportError):  # a Python without it still chats
        import atexit
        import readline

        path = registry.folder().parent / "history"
        with suppress(OSError):
            readline.read_history_file(path)
        readline.set_history_length(1000)
        atexit.register(lambda: readline.write_history_file(path))


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def say(text: str) -> None:
    """To people, beside the answers."""
    print(text, file=sys.stderr, flush=True)
