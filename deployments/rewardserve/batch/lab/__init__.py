"""Experiments on scored corpora: calibrations of models, and a comparison of routes.

Models are scored once, by the ordinary bulk job; what is learnt is computed from its output.
"""
