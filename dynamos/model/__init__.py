"""What there is: parties, agreements, archetypes, services, requests, decisions, plans and jobs. Pure values."""
