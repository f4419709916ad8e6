"""Reward functions in the form each trainer calls: TRL, verl, OpenRLHF and verifiers.

Each module needs its trainer only where the trainer's own objects are made; none is imported here.
"""
