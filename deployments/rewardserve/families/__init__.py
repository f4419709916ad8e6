"""What a reward model is: backbone, head and text policy, for each published family."""
