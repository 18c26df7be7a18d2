"""StePPO on verl (docs/verl.md). verl imports `agent_loop` through the entry-point group `verl.plugins`."""
