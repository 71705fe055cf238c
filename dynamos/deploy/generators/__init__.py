"""Generators: programs that make the data of the marketplaces that come with DYNAMOS."""
