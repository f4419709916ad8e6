"""Bulk tests' fakes travel to Ray's workers by value: the workers cannot import test modules."""

import bulk_fakes
from ray import cloudpickle

cloudpickle.register_pickle_by_value(bulk_fakes)
