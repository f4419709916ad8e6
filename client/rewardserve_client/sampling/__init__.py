"""Rejection sampling over a reward cluster: draw responses, score them, keep the good ones."""

from rewardserve_client.sampling.curve import best_of_n_curve, expected_best
from rewardserve_client.sampling.generate import Generate, OpenAIGenerator, transformers_generator
from rewardserve_client.sampling.keep import Keep, above, best, tempered, top_fraction
from rewardserve_client.sampling.sampler import RejectionSampler, SamplingReport
from rewardserve_client.sampling.samples import Sample, SamplesConflict, read_samples

__all__ = [
    "Generate",
    "Keep",
    "OpenAIGenerator",
    "RejectionSampler",
    "Sample",
    "SamplesConflict",
    "SamplingReport",
    "above",
    "best",
    "best_of_n_curve",
    "expected_best",
    "read_samples",
    "tempered",
    "top_fraction",
    "transformers_generator",
]
