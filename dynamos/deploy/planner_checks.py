"""Checks of the planner that a profile's settings name, and of its options."""

from __future__ import annotations

from dynamos.adaptation.planners import registry
from dynamos.deploy.notes import Notes
from dynamos.model.profiles import Profile

_AT = ("settings", "planner")


def check_planner(profile: Profile, notes: Notes) -> None:
    """Note every mistake in the planner's name and options. What is no name at all was noted before."""
    settings = profile.settings
    if settings.planner == "weights" and notes.said(_AT) and not notes.says(_AT, settings.planner):
        return
    for path, message, hint in registry.check(settings.planner, settings.planner_options):
        notes.wrong(("settings", *path), message, hint)
