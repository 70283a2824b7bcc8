"""Loads a server as its users would, and says how it bore it: `jpaged bench serve`.

    dataset ─► Call, Call, …  ─► sent when they are due ─► Answer, Answer, … ─► figures

Of any server that speaks OpenAI's completions; the simulator's workloads are datasets too.
"""
