"""Pulumi: components of testbeds, and what is behind them. The only part of the package that knows Pulumi."""
