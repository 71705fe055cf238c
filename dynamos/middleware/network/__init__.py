"""The networks of jobs: the helper of each site that makes them, and what orchestrator and agents say to it."""
