"""The orchestrator: decides, plans, grants, and follows every job to its end."""
