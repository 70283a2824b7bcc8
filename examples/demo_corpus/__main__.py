"""Prints documents to read: `python -m demo_corpus 20` (run in `examples/`)."""

import sys

from demo_corpus import make_document

if __name__ == "__main__":
    for seed in range(int(sys.argv[1])):
        document = make_document(seed)
        if isinstance(document, list):
            document = "\n".join(f"{turn['role']}: {turn['content']}" for turn in document)
        print(document, "\n-----")
