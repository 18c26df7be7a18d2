"""How good a policy is: metrics over finished episodes, baselines beside them, and the report."""
