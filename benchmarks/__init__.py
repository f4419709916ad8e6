"""Speed, measured beside peers in the same run. `python -m benchmarks` lists what there is."""
