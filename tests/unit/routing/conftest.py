"""Property tests draw the same examples every time, so that a red run can be run again."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, max_examples=60)
settings.load_profile("repeatable")
