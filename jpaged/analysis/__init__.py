"""Tables and figures from event logs.  Here pandas and matplotlib are allowed, and nowhere else."""
