"""Prompt text → attributes, and the planner: attributes → score."""
