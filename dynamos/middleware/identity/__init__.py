"""Who is who: the marketplace's authority, bearer tokens of users, and the grants that the orchestrator signs."""
