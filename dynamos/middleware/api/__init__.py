"""The HTTP API: takes requests from people, takes results from parties, and hands them over."""
