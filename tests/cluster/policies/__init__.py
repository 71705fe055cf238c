"""NetworkPolicy for the clusters of the tests: a part of the tests, which is never installed for users."""
