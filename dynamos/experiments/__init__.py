"""Scripted experiments: factors, trials, records, statistics, report. What a script needs is here."""

from dynamos.experiments.factors import Factor, doubling
from dynamos.experiments.measures import Measure
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.scripts import Experiment

__all__ = ["Experiment", "Factor", "Measure", "Outcomes", "doubling"]
