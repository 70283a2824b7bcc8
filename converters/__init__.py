"""Checkpoints of other projects, read into our parameters.  Never imports jpaged.

rules.py       how a name there becomes a name here
checkpoint.py  streams the tensors of a folder
convert.py     the two together, with one report of everything that does not fit
families/      a table of rules for each family of models
"""

from converters.checkpoint import Checkpoint, CheckpointMismatch
from converters.convert import convert
from converters.rules import Rule, Table

__all__ = ["Checkpoint", "CheckpointMismatch", "Rule", "Table", "convert"]
